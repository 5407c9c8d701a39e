"""The account of a budget: what is reserved, settled, written off and shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.model.budget import BudgetAccount, Need, OpenCall, Verdict, VerdictKind, amounts_used
from apflow.core.model.task import Task

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
GRANTED, BUSY, EXCEEDED = VerdictKind.GRANTED, VerdictKind.BUSY, VerdictKind.EXCEEDED


def account_of(**budget: Any) -> BudgetAccount:
    return BudgetAccount.of_task(a_task(budget))


def a_task(budget: dict[str, Any], created_at: datetime = NOON) -> Task:
    return Task(id="t", name="t", root_id="r", policy={"budget": budget}, created_at=created_at)


def reserve(
    account: BudgetAccount, call_id: str, need: Need, *, task: str = "a", attempt: int = 1, after: float = 0
) -> Verdict:
    call = OpenCall(task, attempt, NOON + timedelta(seconds=after), {})
    return account.reserve(call_id, call, need)


def tokens(output: int, *, may_shrink: bool = False) -> Need:
    return Need(10, output, None, None, may_shrink)


def test_a_call_reserves_at_most_what_is_left_and_is_charged_what_it_used():
    account = account_of(tokens=100)
    assert reserve(account, "1", tokens(40)) == Verdict(GRANTED, 40)
    assert account.reserved() == {"tokens": 50, "calls": 1}
    account.settle("1", amounts_used(12, None, 0.5))
    assert account.charged() == {"tokens": 12, "calls": 1, "seconds": 0.5}
    assert not account.open


def test_a_call_that_is_reserved_again_is_reserved_once():
    account = account_of(tokens=100)
    for _ in range(2):
        assert reserve(account, "1", tokens(80)) == Verdict(GRANTED, 80)
    assert account.reserved() == {"tokens": 90, "calls": 1}


def test_a_call_waits_for_those_whose_reservations_take_the_rest():
    account = account_of(tokens=100)
    reserve(account, "1", tokens(50))
    assert reserve(account, "2", tokens(50)).kind is BUSY
    account.settle("1", amounts_used(20, None, 0))
    assert reserve(account, "2", tokens(50)).kind is GRANTED


def test_a_call_that_no_settlement_makes_room_for_exceeds_the_budget():
    account = account_of(tokens=100)
    reserve(account, "1", tokens(10))
    assert reserve(account, "2", tokens(91)) == Verdict(EXCEEDED, amount="tokens")
    assert set(account.open) == {"1"}


def test_a_call_without_a_limit_for_its_answer_gets_what_is_left():
    account = account_of(tokens=100)
    assert reserve(account, "1", tokens(4096, may_shrink=True)) == Verdict(GRANTED, 90)
    assert reserve(account, "2", tokens(4096, may_shrink=True)).kind is BUSY
    account.settle("1", amounts_used(85, None, 0))
    assert (
        reserve(account, "2", tokens(4096, may_shrink=True)).kind is EXCEEDED
    )  # fewer than 16 would be left


def test_money_bounds_the_answer_by_its_price():
    account = account_of(usd=1)
    need = Need(100, 4096, 0.5, 0.01, may_shrink=True)
    assert reserve(account, "1", need) == Verdict(GRANTED, 50)
    assert account.reserved() == {"usd": 1.0, "tokens": 150, "calls": 1}


def test_calls_are_limited_by_number_those_in_the_air_included():
    account = account_of(calls=2)
    assert [reserve(account, str(each), Need()).kind for each in range(3)] == [GRANTED, GRANTED, BUSY]
    account.settle("0", amounts_used(0, None, 0))
    account.settle("1", amounts_used(0, None, 0))
    assert reserve(account, "3", Need()) == Verdict(EXCEEDED, amount="calls")


def test_a_call_that_is_not_made_is_not_charged():
    account = account_of(calls=1)
    reserve(account, "1", Need())
    account.release("1")
    assert reserve(account, "2", Need()).kind is GRANTED


def test_seconds_of_calls_that_have_begun_count_as_they_pass():
    account = account_of(seconds=10)
    reserve(account, "1", Need())
    assert reserve(account, "2", Need(), after=9).kind is GRANTED
    assert reserve(account, "3", Need(), after=10).kind is BUSY
    account.settle("1", amounts_used(0, None, 10))
    assert reserve(account, "4", Need(), after=10) == Verdict(EXCEEDED, amount="seconds")


def test_calls_of_an_earlier_attempt_are_charged_with_what_was_reserved_for_them():
    account = account_of(tokens=100)
    reserve(account, "1", tokens(50))
    assert reserve(account, "2", tokens(20), task="b").kind is GRANTED
    assert reserve(account, "3", tokens(10), attempt=2).kind is BUSY
    assert account.lost == {"tokens": 60, "calls": 1}
    assert set(account.open) == {"2"}
    account.settle("1", amounts_used(5, None, 0))  # too late: it is charged already
    assert account.spent == {}


def test_a_warning_is_given_once_for_each_amount_and_again_after_a_raise():
    account = account_of(tokens=100, calls=10)
    reserve(account, "1", tokens(70))
    account.settle("1", amounts_used(79, None, 0))
    assert account.warn(0.8) == []
    reserve(account, "2", tokens(5))
    account.settle("2", amounts_used(1, None, 0))
    assert account.warn(0.8) == ["tokens"]
    assert account.warn(0.8) == []
    account.set_limits({"tokens": 1000}, None, 0.8)
    assert account.warn(0.8) == []
    account.set_limits({"tokens": 90}, None, 0.8)
    assert account.warn(0.8) == ["tokens"]


def test_new_limits_and_what_to_do_without_room_replace_the_old_ones():
    account = account_of(tokens=10, on_exceed="wait")
    account.set_limits({"tokens": 100, "usd": 2}, "fail", 0.8)
    assert (account.limits, account.on_exceed) == ({"tokens": 100, "usd": 2}, "fail")
    account.follow(a_task({"tokens": 10, "on_exceed": "wait"}))  # known
    assert account.limits == {"tokens": 100, "usd": 2}
    account.follow(a_task({"calls": 1}))
    assert (account.limits, account.on_exceed) == ({"calls": 1}, "fail")


def test_a_task_that_has_the_id_of_a_deleted_one_begins_with_nothing_spent():
    account = account_of(calls=1)
    reserve(account, "1", Need())
    account.settle("1", amounts_used(5, 0.1, 1))
    account.follow(a_task({"calls": 1}, NOON + timedelta(days=1)))
    assert (account.charged(), account.limits) == ({}, {"calls": 1})


def test_an_account_comes_back_from_the_store_as_it_was():
    account = account_of(tokens=100, usd=0.5, on_exceed="wait")
    reserve(account, "1", Need(10, 20, 0.1, 0.001))
    reserve(account, "2", Need(1, 2, 0.0, 0.0), task="b")
    account.settle("2", amounts_used(3, 0.25, 1.5))
    account.warn(0.1)
    assert BudgetAccount.from_json(account.to_json()) == account


def test_what_is_shown_counts_calls_of_dead_processes_as_lost():
    account = account_of(tokens=100, on_exceed="wait")
    reserve(account, "1", tokens(20))
    reserve(account, "2", tokens(10))
    account.settle("2", amounts_used(15, None, 2))
    shown = account.to_dict(["1"])
    assert shown["lost"] == {"usd": 0, "tokens": 30, "calls": 1, "seconds": 0}
    assert shown["spent"] == {"usd": 0, "tokens": 15, "calls": 1, "seconds": 2}
    assert (shown["left"], shown["open_calls"]) == ({"tokens": 55}, 0)
    assert set(account.open) == {"1"}


calls = st.tuples(
    st.integers(0, 50), st.integers(1, 200), st.booleans(), st.floats(0, 1), st.sampled_from("abc")
)


@pytest.mark.parametrize("limit", [0, 100, 1000])
@given(steps=st.lists(calls, max_size=40))
def test_what_calls_use_never_exceeds_a_limit(limit: int, steps: list[tuple[int, int, bool, float, str]]):
    account = account_of(tokens=limit, usd=limit / 1000)
    used_tokens, used_usd = 0, 0.0
    open_calls: list[tuple[str, int]] = []
    for number, (prompt, most, may_shrink, share, task) in enumerate(steps):
        need = Need(prompt, most, prompt * 0.001, 0.001, may_shrink)
        verdict = reserve(account, str(number), need, task=task)
        if verdict.kind is GRANTED:
            assert verdict.output_tokens <= most
            open_calls.append((str(number), prompt + int(share * verdict.output_tokens)))
        if open_calls and (share < 0.5 or verdict.kind is BUSY):
            call_id, taken = open_calls.pop(0)
            account.settle(call_id, amounts_used(taken, taken * 0.001, 0))
            used_tokens, used_usd = used_tokens + taken, used_usd + taken * 0.001
        reserved = account.reserved().get("tokens", 0)
        assert used_tokens + reserved <= limit
        assert used_usd <= limit / 1000 * (1 + 1e-9)
        assert account.spent.get("tokens", 0) == used_tokens
