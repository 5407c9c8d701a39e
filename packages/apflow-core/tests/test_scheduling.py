from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.model.schedule import CatchUp, Overlap, Schedule, ScheduledRun, read_schedule
from apflow.core.planning.scheduling import (
    GRACE,
    MAX_AT_ONCE,
    changed,
    decide,
    needs_look,
    paused,
    resumed,
    with_failure,
    with_next,
    with_run,
    with_started,
)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def minutes(count: float) -> datetime:
    return BEGIN + timedelta(minutes=count)


def schedule(every: str = "1h", catch_up: str = "latest", overlap: str = "allow", **fields: Any) -> Schedule:
    given = Schedule(
        id="s",
        name="s",
        user_id=None,
        created_at=BEGIN,
        cursor=BEGIN,
        every=every,
        catch_up=CatchUp(catch_up),
        overlap=Overlap(overlap),
        **fields,
    )
    return with_next(given)


def started(found: Schedule) -> list[float]:
    """Return the due times that must be started, in minutes."""
    return [(each - BEGIN) / timedelta(minutes=1) for each in found.starting]


def test_a_due_time_is_decided_once():
    first = decide(schedule(), minutes(60), ()).schedule
    assert started(first) == [60]
    assert (first.cursor, first.next_due) == (minutes(60), minutes(120))
    assert decide(first, minutes(61), ()).schedule == first


def test_nothing_is_due_before_its_time():
    found = schedule()
    assert not needs_look(found, minutes(59))
    assert needs_look(found, minutes(60))
    assert decide(found, minutes(59.9), ()).schedule == found


@pytest.mark.parametrize(
    ("catch_up", "now", "expected"),
    [
        ("all", 190, [60, 120, 180]),
        ("latest", 190, [180]),
        ("none", 190, []),
        # The last one is on time, those before it are not.
        ("all", 180.5, [60, 120, 180]),
        ("latest", 180.5, [180]),
        ("none", 180.5, [180]),
        # All of them are on time.
        ("latest", 60.5, [60]),
        ("none", 60.5, [60]),
        ("none", 61.5, []),
    ],
)
def test_what_was_missed_is_caught_up_as_the_policy_says(catch_up: str, now: float, expected: list[float]):
    found = decide(schedule(catch_up=catch_up), minutes(now), ()).schedule
    assert started(found) == expected
    assert found.next_due == minutes(240 if now > 240 else (int(now) // 60 + 1) * 60)


@pytest.mark.parametrize("catch_up", ["all", "latest", "none"])
def test_due_times_that_come_within_one_look_are_all_started(catch_up: str):
    found = decide(schedule("10s", catch_up), minutes(0.5), ()).schedule
    assert [each * 60 for each in started(found)] == [10, 20, 30]


@pytest.mark.parametrize("catch_up", ["all", "latest", "none"])
def test_a_clock_that_is_set_back_starts_nothing_twice(catch_up: str):
    first = decide(schedule(catch_up=catch_up), minutes(60), ()).schedule
    done = with_started(first, minutes(60), "t")
    assert done is not None
    for now in (0, 30, 60, 90):
        assert not needs_look(done, minutes(now))
        assert decide(done, minutes(now), ()).schedule.starting == ()
    assert started(decide(done, minutes(120), ()).schedule) == [120]


def test_a_clock_that_is_set_forward_is_a_time_without_workers():
    later = minutes(60 * 24 * 365)
    assert started(decide(schedule(catch_up="latest"), later, ()).schedule) == [60 * 24 * 365]
    assert len(decide(schedule(catch_up="all"), later, ()).schedule.starting) == MAX_AT_ONCE


def test_all_due_times_of_a_long_time_are_caught_up_in_parts():
    found, times = schedule(catch_up="all"), list[float]()
    for _ in range(5):
        found = decide(found, minutes(60 * 250), ()).schedule
        times += started(found)
        found = replace(found, starting=())
    assert times == [60 * at for at in range(1, 251)]


def test_a_due_time_while_a_tree_runs_is_skipped():
    busy = replace(schedule(overlap="skip"), open_trees=("t",))
    found = decide(busy, minutes(60), {"t"}).schedule
    assert (found.starting, found.queued, found.skipped_count) == ((), (), 1)
    assert started(decide(found, minutes(120), ()).schedule) == [120]


def test_of_several_due_times_one_is_started_where_trees_must_not_overlap():
    found = decide(schedule(overlap="skip", catch_up="all"), minutes(180), ()).schedule
    assert (started(found), found.skipped_count) == ([60], 2)


def test_a_due_time_while_a_tree_runs_waits_in_the_queue():
    found = decide(schedule(overlap="queue", catch_up="all"), minutes(180), ()).schedule
    order = list[float]()
    while found.starting or found.queued:
        assert len(found.starting) == 1
        order += started(found)
        done = with_started(found, found.starting[0], "t")
        assert done is not None
        assert decide(done, minutes(180), {"t"}).schedule == done
        found = decide(done, minutes(180), ()).schedule
    assert order == [60, 120, 180]
    assert found.skipped_count == 0


def test_a_full_queue_leaves_due_times_for_later():
    found = replace(schedule(overlap="queue", catch_up="all"), open_trees=("t",))
    for now in (60 * 150, 60 * 300):
        found = decide(found, minutes(now), {"t"}).schedule
    assert len(found.queued) == MAX_AT_ONCE
    assert found.cursor == found.queued[-1] == minutes(60 * MAX_AT_ONCE)


def test_a_due_time_cancels_the_running_tree_and_starts_when_that_has_ended():
    busy = replace(schedule(overlap="cancel", catch_up="all"), open_trees=("t",))
    decision = decide(busy, minutes(180), {"t"})
    assert decision.cancel == ("t",)
    assert (decision.schedule.queued, decision.schedule.skipped_count) == ((minutes(180),), 2)
    assert decide(decision.schedule, minutes(180), {"t"}) == decision
    assert started(decide(decision.schedule, minutes(181), ()).schedule) == [180]


def test_trees_of_a_schedule_that_allows_it_run_at_the_same_time():
    busy = replace(schedule(overlap="allow"), open_trees=("t",))
    assert started(decide(busy, minutes(60), {"t"}).schedule) == [60]


def test_a_paused_schedule_starts_nothing_and_what_came_meanwhile_is_left_out():
    found = paused(
        replace(schedule(overlap="queue", catch_up="all"), queued=(minutes(60),), cursor=minutes(60))
    )
    assert (found.queued, found.skipped_count, found.status) == ((), 1, "paused")
    assert not needs_look(found, minutes(180))
    assert decide(found, minutes(180), ()).schedule == found
    back = resumed(found, minutes(190))
    assert (back.next_due, back.status) == (minutes(240), "active")
    assert resumed(back, minutes(300)) == back


def test_a_schedule_that_is_resumed_after_the_clock_was_set_back_starts_nothing_twice():
    done = decide(schedule(), minutes(60), ()).schedule
    assert resumed(paused(done), minutes(30)).next_due == minutes(120)


def test_a_start_is_recorded_once():
    found = decide(schedule(), minutes(60), ()).schedule
    done = with_started(found, minutes(60), "t")
    assert done is not None
    assert (done.starting, done.open_trees, done.started_count) == ((), ("t",), 1)
    assert done.runs == (ScheduledRun(minutes(60), "t"),)
    assert with_started(done, minutes(60), "t") is None


def test_a_failed_start_is_repeated_unless_it_is_final():
    found = decide(schedule(), minutes(60), ()).schedule
    failed = with_failure(found, minutes(60), "no room", is_final=False)
    assert failed is not None
    assert (failed.starting, failed.error) == ((minutes(60),), "no room")
    assert with_failure(failed, minutes(60), "no room", is_final=False) is None
    final = with_failure(failed, minutes(60), "no room", is_final=True)
    assert final is not None
    assert (final.starting, final.error) == ((), "no room")
    done = with_started(failed, minutes(60), "t")
    assert done is not None
    assert done.error is None


def test_a_schedule_has_ended_when_nothing_is_due_and_nothing_waits():
    once = with_next(replace(schedule(), every=None, at=minutes(60)))
    assert once.status == "active"
    found = decide(once, minutes(60), ()).schedule
    assert (found.status, found.next_due) == ("active", None)
    done = with_started(found, minutes(60), "t")
    assert done is not None
    assert done.status == "ended"


def test_a_schedule_is_the_same_after_it_was_stored():
    found = replace(
        with_run(decide(schedule(overlap="queue", jitter="5s"), minutes(61), ()).schedule, minutes(3), "t"),
        end=minutes(1e6),
        written_by=[{"user": "ann", "roles": []}],
        error="no room",
    )
    assert read_schedule(found.to_json()) == found
    assert read_schedule({**found.to_json(), "colour": "red"}) == found


# What may happen between two looks: time passes, the clock is set back or forward, trees end.
STEPS = st.lists(
    st.tuples(st.one_of(st.integers(1, 90), st.integers(-300, 2000)), st.booleans()), min_size=1, max_size=40
)


@given(STEPS, st.sampled_from(list(CatchUp)), st.sampled_from(list(Overlap)))
def test_each_due_time_is_started_at_most_once_and_in_order(
    steps: list[tuple[int, bool]], catch_up: CatchUp, overlap: Overlap
):
    found, now = schedule("5m", catch_up, overlap), BEGIN
    latest, times, running = BEGIN, list[datetime](), set[str]()
    for elapsed, ends in steps:
        now += timedelta(minutes=elapsed)
        latest = max(latest, now)
        if ends:
            running.clear()
        found = decide(found, now, running).schedule
        for due in found.starting:
            assert due <= latest
            assert overlap is Overlap.ALLOW or not running
            times.append(due)
            running.add(str(due))
            found = with_started(found, due, str(due)) or found
    assert times == sorted(set(times))
    if catch_up is CatchUp.ALL and overlap is Overlap.ALLOW:
        for _ in range(100):
            found = decide(found, latest, ()).schedule
            times += found.starting
            found = replace(found, starting=())
        whole = int((latest - BEGIN) / timedelta(minutes=5))
        assert times == [minutes(5 * at) for at in range(1, whole + 1)]


def test_a_minute_late_is_on_time():
    found = schedule(catch_up="none")
    assert decide(found, minutes(60) + GRACE, ()).schedule.starting
    assert not decide(found, minutes(60) + GRACE + timedelta(seconds=1), ()).schedule.starting


def test_new_due_times_count_from_the_change():
    missed = schedule(catch_up="all")
    found = changed(missed, replace(missed, every="2h"), minutes(190))
    assert (found.cursor, found.next_due) == (minutes(190), minutes(240))
    assert decide(found, minutes(239), ()).schedule == found


def test_due_times_that_stay_are_decided_with_the_new_settings():
    missed = schedule(catch_up="none")
    found = changed(missed, replace(missed, catch_up=CatchUp.ALL, overlap=Overlap.ALLOW), minutes(190))
    assert (found.cursor, found.next_due) == (missed.cursor, missed.next_due)
    assert started(decide(found, minutes(190), ()).schedule) == [60, 120, 180]


def test_due_times_that_wait_stay_when_others_change():
    busy = replace(
        schedule(overlap="queue"), queued=(minutes(60),), starting=(minutes(0),), cursor=minutes(60)
    )
    found = changed(busy, replace(busy, every="3h"), minutes(70))
    assert (found.queued, found.starting, found.next_due) == ((minutes(60),), (minutes(0),), minutes(180))


def test_a_clock_that_is_set_back_before_a_change_repeats_no_due_time():
    done = decide(schedule(), minutes(60), ()).schedule
    assert changed(done, replace(done, every="30m"), minutes(10)).next_due == minutes(90)
