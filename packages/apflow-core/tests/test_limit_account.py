"""The account of a limit: places, the sliding window, the line, several rules, clocks."""

from __future__ import annotations

import random
from typing import Any

import pytest

from apflow.core.model.limit import (
    EXTRA_SECONDS,
    PLACE_SECONDS,
    SLICES,
    Claim,
    LimitAccount,
    Rule,
    account_key,
    arrival_seconds,
    read_rate,
)

NOW = 1_800_000_000.0


def claims(*names: str, rule: Rule) -> list[Claim]:
    return [Claim(name, "root", rule) for name in names]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("50/s", (50, 1.0)),
        ("60/min", (60, 60.0)),
        ("1000/h", (1000, 3600.0)),
        ("5/day", (5, 86400.0)),
        ("100/10s", (100, 10.0)),
        ("1/2minute", (1, 120.0)),
        ("1/month", None),
        ("0/s", None),
        ("5/0s", None),
        ("5/32d", None),
        ("1.5/s", None),
        ("٣/s", None),
        ("9999999/s", None),
        (60, None),
        (None, None),
    ],
)
def test_a_rate_is_a_number_of_starts_in_a_period(text: Any, read: Any):
    assert read_rate(text) == read


def test_no_more_tasks_hold_a_place_than_may_run_at_once():
    account, rule = LimitAccount(), Rule(concurrency=2)
    assert account.grant("p", "o", claims("a", "b", "c", rule=rule), NOW) == ["a", "b"]
    assert account.grant("p", "o", claims("c", rule=rule), NOW) == []
    account.release("a", "o", NOW)
    assert account.grant("p", "o", claims("c", rule=rule), NOW) == ["c"]


def test_a_place_is_freed_by_the_owner_to_whom_it_was_granted():
    account, rule = LimitAccount(), Rule(concurrency=1)
    account.grant("p", "late", claims("a", rule=rule), NOW)
    account.release("a", "other", NOW)
    account.give_back("a", "other")
    account.settle("a", "other", NOW)
    assert account.held["a"].is_open
    account.give_back("a", "late")
    assert not account.held


def test_starts_count_for_a_period_after_their_calls_have_arrived():
    account, rule = LimitAccount(), Rule(2, 10.0)
    assert account.grant("p", "o", claims("a", "b", "c", rule=rule), NOW) == ["a", "b"]
    account.settle("a", "o", NOW + 1)
    account.release("b", "o", NOW + 3)
    assert account.grant("p", "o", claims("c", "d", rule=rule), NOW + 10.9) == []
    room = account.room([rule], NOW + 10.9)
    assert room.free == 0
    assert room.seconds == pytest.approx(0.1, abs=10.0 / SLICES)
    assert account.grant("p", "o", claims("c", "d", rule=rule), NOW + 11 + 10 / SLICES) == ["c"]
    assert account.grant("p", "o", claims("d", rule=rule), NOW + 13 + 10 / SLICES) == ["d"]


def test_a_task_without_a_concurrency_holds_no_place_after_its_call_has_arrived():
    account = LimitAccount()
    account.grant("p", "o", claims("a", rule=Rule(1, 10.0)), NOW)
    account.settle("a", "o", NOW)
    assert not account.held
    account.grant("p", "o", claims("b", rule=Rule(2, 10.0, 1)), NOW)
    account.settle("b", "o", NOW)
    assert not account.held["b"].is_open


def test_a_place_that_was_not_used_does_not_count():
    account, rule = LimitAccount(), Rule(1, 10.0)
    account.grant("p", "o", claims("a", rule=rule), NOW)
    account.give_back("a", "o")
    assert account.grant("p", "o", claims("b", rule=rule), NOW) == ["b"]


def test_the_starts_of_a_dead_process_count():
    account, rule = LimitAccount(), Rule(1, 10.0)
    account.grant("p", "o", claims("a", rule=rule), NOW)
    account.drop(["a"], NOW + 5)
    assert not account.held
    assert account.grant("p", "o", claims("b", rule=rule), NOW + 14) == []


@pytest.mark.parametrize("seed", range(20))
def test_no_window_has_more_starts_than_the_rate(seed: int):
    """Calls arrive between their begin and their end; grants come whenever there is room."""
    draw = random.Random(seed)
    account, rule, now = LimitAccount(), Rule(draw.randint(1, 8), draw.choice([1.0, 7.0])), NOW
    assert rule.seconds is not None and rule.starts is not None
    arrivals: list[float] = []
    running: list[tuple[float, str]] = []
    for number in range(400):
        now += draw.random() * rule.seconds / rule.starts / 2
        for end, name in [each for each in running if each[0] <= now]:
            running.remove((end, name))
            draw.choice([account.settle, account.release])(name, "o", max(end, now))
            account = LimitAccount.from_json(account.to_json())
        for name in account.grant("p", "o", claims(str(number), rule=rule), now):
            arrives = now + draw.random() * arrival_seconds(rule)
            arrivals.append(arrives)
            running.append((arrives, name))
    arrivals.sort()
    assert len(arrivals) > 3 * rule.starts
    for first, last in zip(arrivals, arrivals[rule.starts :], strict=False):
        assert last - first >= rule.seconds


def test_the_size_of_an_account_does_not_depend_on_the_rate():
    account, rule = LimitAccount(), Rule(100_000, 1.0)
    for number in range(2000):
        name = str(number)
        account.grant("p", "o", claims(name, rule=rule), NOW + number / 1000)
        account.release(name, "o", NOW + number / 1000)
    assert len(account.starts) <= SLICES + 2


def test_a_place_is_left_for_each_process_that_waits_longer():
    account, rule = LimitAccount(), Rule(concurrency=1)
    account.grant("first", "1", claims("a", rule=rule), NOW)
    assert account.grant("second", "2", claims("b", rule=rule), NOW) == []
    assert account.grant("third", "3", claims("c", rule=rule), NOW) == []
    account.release("a", "1", NOW)
    assert account.grant("third", "3", claims("c", rule=rule), NOW) == []
    assert account.grant("second", "2", claims("b", "d", rule=rule), NOW) == ["b"]
    account.release("b", "2", NOW)
    assert account.grant("second", "2", claims("d", rule=rule), NOW) == []  # it is behind the third now
    assert account.grant("third", "3", claims("c", rule=rule), NOW) == ["c"]


def test_a_process_that_waits_no_more_leaves_the_line():
    account, rule = LimitAccount(), Rule(concurrency=1)
    account.grant("first", "1", claims("a", rule=rule), NOW)
    account.grant("gone", "2", claims("b", rule=rule), NOW)
    account.grant("left", "3", claims("c", rule=rule), NOW)
    account.grant("none", "4", claims("e", rule=rule), NOW)
    account.leave("left")
    account.grant("none", "4", [], NOW)
    account.release("a", "1", NOW)
    assert account.grant("last", "5", claims("d", rule=rule), NOW + PLACE_SECONDS - 1) == []
    assert account.grant("last", "5", claims("d", rule=rule), NOW + PLACE_SECONDS) == ["d"]


def test_a_waiting_process_keeps_its_place_as_long_as_it_looks_again():
    account, rule = LimitAccount(), Rule(concurrency=1)
    account.grant("first", "1", claims("a", rule=rule), NOW)
    for second in range(3 * int(PLACE_SECONDS)):
        account.grant("second", "2", claims("b", rule=rule), NOW + second)
    account.release("a", "1", NOW)
    assert account.grant("third", "3", claims("c", rule=rule), NOW + 3 * PLACE_SECONDS) == []


def test_looking_again_changes_nothing_that_must_be_written():
    account, rule = LimitAccount(), Rule(concurrency=1)
    account.grant("first", "1", claims("a", rule=rule), NOW)
    account.grant("second", "2", claims("b", rule=rule), NOW)
    before = account.to_json()
    account.grant("second", "2", claims("b", rule=rule), NOW + 1)
    assert account.to_json() == before


def test_each_start_obeys_the_rules_of_all_tasks_that_hold_or_want_a_place():
    account = LimitAccount()
    assert account.grant("p", "o", claims("a", rule=Rule(concurrency=3)), NOW) == ["a"]
    assert account.grant("q", "o", claims("b", rule=Rule(concurrency=1)), NOW) == []
    assert account.grant("p", "o", claims("c", rule=Rule(concurrency=3)), NOW) == []
    account.leave("q")
    account.leave("p")
    assert account.grant("p", "o", claims("c", rule=Rule(concurrency=3)), NOW) == ["c"]


def test_a_clock_that_is_set_back_delays_starts_by_no_more_than_a_period():
    account, rule = LimitAccount(), Rule(1, 10.0)
    account.grant("p", "o", claims("a", rule=rule), NOW + 3600)
    account.release("a", "o", NOW + 3600)
    account.grant("gone", "o", claims("b", rule=rule), NOW + 3600)
    assert account.grant("p", "o", claims("c", rule=rule), NOW) == []
    later = NOW + 10 + PLACE_SECONDS + EXTRA_SECONDS
    assert account.grant("p", "o", claims("c", rule=rule), later + 1) == ["c"]


def test_an_attempt_takes_over_the_place_of_an_earlier_one():
    account, rule = LimitAccount(), Rule(concurrency=1)
    account.grant("p", "dead", claims("a", rule=rule), NOW)
    assert account.grant("q", "o", claims("a", rule=rule), NOW) == ["a"]
    assert account.held["a"].owner == "o"


def test_an_account_is_read_as_it_was_written():
    account, rule = LimitAccount(), Rule(3, 1.0, 2)
    account.grant("p", None, claims("a", "b", "c", rule=rule), NOW)
    account.release("a", None, NOW)
    account.settle("b", None, NOW)
    assert LimitAccount.from_json(account.to_json()) == account


def test_each_user_has_an_account():
    keys = {account_key(user, "openai") for user in (None, "-", "a", "b" * 255)}
    assert len(keys) == 4
    assert all(len(key) < 1000 for key in keys)
