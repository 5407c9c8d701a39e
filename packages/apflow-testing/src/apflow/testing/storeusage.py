"""The contract of a store: what the calls of language models used."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from apflow.core.model.task import utc_now
from apflow.core.model.usage import UsageEntry, UsageQuery, UsageTotals
from apflow.core.store.base import TaskStore
from apflow.testing.storebase import StoreMaker


def entry(
    task_id: str, model: str = "m", root_id: str = "r", user_id: str | None = None, top_id: str = "t"
) -> UsageEntry:
    """Return the usage of one call."""
    totals = UsageTotals(
        calls=1, unpriced_calls=1, input_tokens=10, output_tokens=5, cost_usd=0.25, seconds=1.5
    )
    return UsageEntry(
        task_id=task_id, root_id=root_id, top_id=top_id, user_id=user_id, model=model, totals=totals
    )


class StoreUsageContract(StoreMaker):
    """Adding usage and summing it up.

    The rules are in `TaskStore.add_usage` and `usage`. A store that does not keep usage leaves
    `capabilities.has_usage` false.
    """

    @pytest.fixture(autouse=True)
    def requires_usage(self, store: TaskStore) -> None:
        if not store.capabilities.has_usage:
            pytest.skip("the store does not keep usage")

    async def test_usage_of_one_task_and_model_adds_up(self, store: TaskStore) -> None:
        for each in ("a", "a", "b"):
            await store.add_usage([entry(each)])
        found = await store.usage(UsageQuery(group_by=("task_id",)))
        assert [(each.task_id, each.totals.calls) for each in found] == [("a", 2), ("b", 1)]
        assert found[0].totals == UsageTotals(
            calls=2, unpriced_calls=2, input_tokens=20, output_tokens=10, cost_usd=0.5, seconds=3.0
        )

    async def test_the_usage_of_a_call_that_is_added_again_counts_once(self, store: TaskStore) -> None:
        first, second = (replace(entry("a"), call_id=call_id) for call_id in ("c1", "c2"))
        await store.add_usage([first])
        await store.add_usage([first, second])
        await store.add_usage([second, entry("a")])
        [found] = await store.usage(UsageQuery())
        assert found.totals.calls == 3

    async def test_usage_is_grouped_by_each_field_in_order(self, store: TaskStore) -> None:
        entries = [entry("a", "y", "r2", "u"), entry("b", "x", "r1", None), entry("a", "x", "r2", "u")]
        await store.add_usage(entries)
        [everything] = await store.usage(UsageQuery())
        assert everything.totals.calls == 3
        by_both = await store.usage(UsageQuery(group_by=("user_id", "model")))
        assert [(each.user_id, each.model) for each in by_both] == [(None, "x"), ("u", "x"), ("u", "y")]
        by_root = await store.usage(UsageQuery(group_by=("root_id",)))
        assert [(each.root_id, each.totals.calls) for each in by_root] == [("r1", 1), ("r2", 2)]

    async def test_conditions_of_a_query_all_hold(self, store: TaskStore) -> None:
        first = entry("a", root_id="r1", user_id="u", top_id="t1")
        await store.add_usage([first, entry("b", root_id="r2", user_id="v", top_id="t2")])
        queries = [
            UsageQuery(top_ids=["t1"]),
            UsageQuery(root_ids=["r1"]),
            UsageQuery(task_ids=["a", "zz", "\x00"]),
            UsageQuery(user_id="u"),
            UsageQuery(since=utc_now() - timedelta(hours=1), user_id="u"),
        ]
        for query in queries:
            [found] = await store.usage(query)
            assert found.totals.calls == 1, query
        for query in (
            UsageQuery(root_ids=[]),
            UsageQuery(root_ids=["r1"], user_id="v"),
            UsageQuery(since=utc_now() + timedelta(hours=1)),
        ):
            assert await store.usage(query) == [], query

    async def test_concurrent_additions_are_all_counted(self, store: TaskStore) -> None:
        await asyncio.gather(*(store.add_usage([entry(f"t{number % 3}")]) for number in range(30)))
        [found] = await store.usage(UsageQuery())
        assert found.totals.calls == 30

    async def test_a_store_without_usage_has_no_sums(self, store: TaskStore) -> None:
        assert await store.usage(UsageQuery()) == []
        assert await store.usage(UsageQuery(group_by=("model",))) == []
