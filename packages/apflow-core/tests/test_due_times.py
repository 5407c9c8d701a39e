from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.model.schedule import Schedule
from apflow.core.planning.due_times import (
    due_times,
    fault_of_cron,
    fault_of_zone,
    last_due,
    next_due,
    past_due_times,
    start_of,
)


def schedule(created: str = "2026-01-01T00:00:00+00:00", **fields: Any) -> Schedule:
    """Return a schedule with times in ISO 8601 format; `created` is also its cursor."""
    times = {
        name: datetime.fromisoformat(value).astimezone(UTC)
        for name, value in fields.items()
        if name in ("at", "start", "end")
    }
    moment = datetime.fromisoformat(created)
    return Schedule(id="s", name="s", user_id=None, created_at=moment, cursor=moment, **{**fields, **times})


def due(found: Schedule, count: int, after: str | None = None) -> list[str]:
    """Return the first due times, in UTC, without the year, the seconds and the zone."""
    begin = found.cursor if after is None else datetime.fromisoformat(after)
    return [f"{each:%m-%d %H:%M}" for each in islice(due_times(found, begin), count)]


# On each of these days clocks change. A fixed time that is skipped is due right after the gap; one that
# clocks show twice is due at the first of both.
CHANGES = {
    "berlin-forward": ("Europe/Berlin", "30 2 * * *", "03-28", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
    "berlin-back": ("Europe/Berlin", "30 2 * * *", "10-24", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
    "new-york-forward": (
        "America/New_York",
        "15 2 * * *",
        "03-07",
        ["03-07 07:15", "03-08 07:00", "03-09 06:15"],
    ),
    "new-york-back": (
        "America/New_York",
        "15 1 * * *",
        "10-31",
        ["10-31 05:15", "11-01 05:15", "11-02 06:15"],
    ),
    "lord-howe-forward": (
        "Australia/Lord_Howe",
        "15 2 * * *",
        "10-02",
        ["10-02 15:45", "10-03 15:30", "10-04 15:15"],
    ),
    "lord-howe-back": (
        "Australia/Lord_Howe",
        "45 1 * * *",
        "04-03",
        ["04-03 14:45", "04-04 14:45", "04-05 15:15"],
    ),
    "two-in-one-gap": (
        "Europe/Berlin",
        "0,30 2,3 * * *",
        "03-29",
        ["03-29 01:00", "03-29 01:30", "03-30 00:00"],
    ),
    "beside-the-gap": (
        "Europe/Berlin",
        "0 1,4 * * *",
        "03-29",
        ["03-29 02:00", "03-29 23:00", "03-30 02:00"],
    ),
    "midnight-that-is-skipped": (
        "Africa/Cairo",
        "0 0 * * *",
        "04-23",
        ["04-23 22:00", "04-24 21:00", "04-25 21:00"],
    ),
}


@pytest.mark.parametrize(("zone", "cron", "day", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_fixed_time_is_due_once_on_a_day_on_which_clocks_change(
    zone: str, cron: str, day: str, expected: list[str]
):
    assert due(schedule(cron=cron, timezone=zone), 3, f"2026-{day}T00:00:00+00:00") == expected


@pytest.mark.parametrize("cron", ["*/30 * * * *", "0,30 * * * *", "*/30 */1 * * *"])
@pytest.mark.parametrize(
    ("zone", "midnight"),
    [
        ("Europe/Berlin", "2026-03-29T00:00:00+00:00"),
        ("Europe/Berlin", "2026-10-25T00:00:00+00:00"),
        ("America/New_York", "2026-03-08T06:00:00+00:00"),
        ("America/New_York", "2026-11-01T05:00:00+00:00"),
        ("Australia/Lord_Howe", "2026-04-04T14:00:00+00:00"),
        ("Australia/Lord_Howe", "2026-10-03T14:30:00+00:00"),
    ],
)
def test_an_expression_with_a_star_goes_on_by_elapsed_time(cron: str, zone: str, midnight: str):
    begin = datetime.fromisoformat(midnight)
    found = list(islice(due_times(schedule(cron=cron, timezone=zone), begin), 8))
    assert found == [begin + timedelta(minutes=30 * at) for at in range(1, 9)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"every": "90m"}, ["01-01 01:30", "01-01 03:00", "01-01 04:30"]),
        (
            {"every": "1d", "start": "2026-03-28T02:30:00+01:00"},
            ["03-28 01:30", "03-29 01:30", "03-30 01:30"],
        ),
        (
            {"every": "1h", "start": "2025-12-31T23:20:00+00:00"},
            ["01-01 00:20", "01-01 01:20", "01-01 02:20"],
        ),
        ({"every": "1h", "end": "2026-01-01T02:00:00+00:00"}, ["01-01 01:00", "01-01 02:00"]),
        ({"at": "2026-02-03T04:05:00+00:00"}, ["02-03 04:05"]),
        ({"at": "2025-02-03T04:05:00+00:00"}, []),
        (
            {"cron": "@daily", "start": "2026-01-05T00:00:00+00:00"},
            ["01-05 00:00", "01-06 00:00", "01-07 00:00"],
        ),
        ({"cron": "@WEEKLY"}, ["01-04 00:00", "01-11 00:00", "01-18 00:00"]),
        ({"cron": "0 12 1 * *", "timezone": "Asia/Tokyo"}, ["01-01 03:00", "02-01 03:00", "03-01 03:00"]),
        ({"cron": "0 0 13 * FRI"}, ["01-02 00:00", "01-09 00:00", "01-13 00:00"]),
    ],
)
def test_due_times_follow_from_the_kind_of_schedule(fields: dict[str, str], expected: list[str]):
    assert due(schedule(**fields), 3) == expected


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago"]
)
CRONS = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "30 * * * *", "15 2 * * *", "0,45 0-3 * * *", "30 */2 * * *", "5 1 * * 0"]
)
# Around the days on which the clocks of one of the zones change.
DAYS = st.sampled_from(
    [
        "2026-03-08",
        "2026-03-29",
        "2026-04-04",
        "2026-04-24",
        "2026-09-06",
        "2026-10-03",
        "2026-10-25",
        "2026-11-01",
    ]
)
SECONDS = st.integers(-86_400, 86_400)


@given(CRONS, ZONES, DAYS, SECONDS, st.integers(0, 86_400))
def test_due_times_are_the_same_from_wherever_one_begins(
    cron: str, zone: str, day: str, offset: int, later: int
):
    found = schedule(cron=cron, timezone=zone)
    begin = datetime.fromisoformat(f"{day}T00:00:00+00:00") + timedelta(seconds=offset)
    middle = begin + timedelta(seconds=later)
    end = middle + timedelta(hours=8)

    def until(after: datetime) -> list[datetime]:
        times: list[datetime] = []
        for each in due_times(found, after):
            if each > end:
                return times
            times.append(each)
        return times

    all_times = until(begin)
    assert all_times == sorted(set(all_times))
    assert all(each > begin for each in all_times)
    assert until(middle) == [each for each in all_times if each > middle]


@given(
    st.sampled_from([{"cron": "* * * * *"}, {"cron": "15 2 * * *"}, {"cron": "0 0 29 2 *"}, {"every": "7m"}]),
    st.integers(1, 3 * 366),
    st.sampled_from([None, "10m", "12h"]),
)
def test_the_last_due_time_is_the_last_of_all_that_have_passed(
    fields: dict[str, str], hours: int, jitter: str | None
):
    found = schedule("2026-01-01T00:00:00+00:00", timezone="Europe/Berlin", jitter=jitter, **fields)
    now = found.created_at + timedelta(hours=hours if "* *" in str(fields) else hours * 24)
    now = min(now, found.created_at + timedelta(days=40 if "every" in fields else 1200))
    if fields.get("cron") == "* * * * *":
        now = min(now, found.created_at + timedelta(days=2))
    assert last_due(found, now) == ([*past_due_times(found, now)] or [None])[-1]


def test_the_last_due_time_after_years_is_found_at_once():
    found = schedule("1996-01-01T00:00:00+00:00", cron="* * * * *")
    assert last_due(found, datetime(2026, 5, 1, 0, 0, 30, tzinfo=UTC)) == datetime(2026, 5, 1, tzinfo=UTC)
    assert last_due(found, found.created_at) is None


@given(st.integers(0, 10_000))
def test_jitter_delays_a_start_always_by_the_same_time(minutes: int):
    found = schedule(every="1m", jitter="30s")
    moment = found.created_at + timedelta(minutes=minutes)
    assert moment <= start_of(found, moment) <= moment + timedelta(seconds=30)
    assert start_of(found, moment) == start_of(found, moment)
    assert start_of(schedule(every="1m"), moment) == moment


def test_jitter_spreads_starts():
    found = schedule(every="1m", jitter="30s")
    delays = [start_of(found, each) - each for each in islice(due_times(found, found.cursor), 200)]
    assert min(delays) < timedelta(seconds=3)
    assert max(delays) > timedelta(seconds=27)


@pytest.mark.parametrize(
    ("cron", "fault"),
    [
        ("0 0 * *", "4 fields"),
        ("0 0 0 * * *", "6 fields"),
        ("61 * * * *", "bad minute"),
        ("* 25 * * *", "bad hour"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("* * */20 * 1L", "no day matches"),
        ("@reboot", "@hourly"),
        ("", "0 fields"),
        ("0 " * 200, "characters"),
    ],
)
def test_a_cron_expression_that_is_not_valid_is_described(cron: str, fault: str):
    assert fault in (fault_of_cron(cron) or "")


@pytest.mark.parametrize("name", ["Europe/Berln", "", "../../etc/passwd", "/etc/localtime", "a\0b", "Europe"])
def test_a_time_zone_that_does_not_exist_is_described(name: str):
    assert "IANA" in (fault_of_zone(name) or "")


def test_valid_expressions_and_zones_have_no_fault():
    assert [fault_of_cron(each) for each in ("*/5 9-17 * * MON-FRI", " @daily ", "0 0 L * *")] == [None] * 3
    assert [fault_of_zone(each) for each in ("UTC", "Europe/Berlin")] == [None] * 2


def test_nothing_follows_the_end():
    found = schedule(cron="@daily", end="2026-01-03T12:00:00+00:00")
    assert next_due(found, datetime(2026, 1, 3, tzinfo=UTC)) is None
