"""The contract of a store: figures of tasks that have ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apflow.core.model.statistics import STATISTICS_FIELDS
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task
from apflow.core.model.usage import UsageEntry, UsageTotals
from apflow.core.store.base import TaskQuery, TaskStore
from apflow.testing.building import a_task
from apflow.testing.storebase import StoreMaker

START = datetime(2030, 1, 1, tzinfo=UTC)


def ended(task_id: str, seconds: float | None, *, at: float = 0.0, **more: Any) -> Task:
    """Return a task of tree r that ran so long, and ended `at` seconds after the first moment."""
    end = START + timedelta(seconds=at)
    given: dict[str, Any] = {"status": TaskStatus.COMPLETED, "attempts": 1, "executor": "x"}
    started = None if seconds is None else end - timedelta(seconds=seconds)
    return a_task(task_id, "r", completed_at=end, started_at=started, **(given | more))


async def hold_ended_tasks(store: TaskStore) -> None:
    """Give a store tasks that have ended in all ways, and some that have not."""
    await store.add(
        [
            a_task("r", executor=GROUP, status=TaskStatus.COMPLETED, started_at=START, completed_at=START),
            ended("a", 1.0, at=1, user_id="ann", tags=["x", "y z"], label="one"),
            ended("b", 2.0, at=2, user_id="ann", tags=["x"], attempts=3),
            ended("c", 3.0, at=3, status=TaskStatus.FAILED, earlier_attempts=2),
            ended("d", 4.0, at=4, executor="Y", status=TaskStatus.CANCELLED, name="dd"),
            ended("e", None, at=5, executor=None, status=TaskStatus.SKIPPED, attempts=0),
            ended("f", -7.0, at=6, executor="Y"),  # the clock was set back
            a_task("g", "r", executor="x", status=TaskStatus.IN_PROGRESS, started_at=START),
            a_task("h", "r"),
        ]
    )


class StoreStatisticsContract(StoreMaker):
    """Durations, failures, retries and usage, by group.

    The rules are in `TaskStore.statistics` and `slowest`.
    """

    async def test_figures_of_all_tasks_that_have_ended(self, store: TaskStore) -> None:
        await hold_ended_tasks(store)
        [found] = await store.statistics(TaskQuery())
        assert (found.tasks, found.retries, found.failure_rate) == (6, 4, 0.25)
        assert (found.completed, found.failed, found.cancelled, found.skipped) == (3, 1, 1, 1)
        durations = (found.seconds, found.p50_seconds, found.p95_seconds, found.max_seconds)
        assert durations == pytest.approx((10.0, 2.0, 3.8, 4.0))

    @pytest.mark.parametrize(
        ("field", "groups"),
        [
            ("executor", [("x", 3), ("Y", 2), (None, 1)]),
            ("user_id", [(None, 4), ("ann", 2)]),
            ("label", [(None, 5), ("one", 1)]),
            ("tag", [(None, 4), ("x", 2), ("y z", 1)]),
            ("name", [("a", 1), ("b", 1), ("c", 1), ("dd", 1), ("e", 1), ("f", 1)]),
        ],
    )
    async def test_groups_have_those_with_the_most_tasks_first(
        self, store: TaskStore, field: Any, groups: list[tuple[str | None, int]]
    ) -> None:
        await hold_ended_tasks(store)
        found = await store.statistics(TaskQuery(), field)
        assert [(each.group, each.tasks) for each in found] == groups
        some = await store.statistics(TaskQuery(), field, 1)
        assert [(each.group, each.tasks) for each in some] == groups[:1]

    async def test_groups_of_the_same_size_are_in_order_of_their_bytes(self, store: TaskStore) -> None:
        await store.add([a_task("r"), *(ended(each, 1.0, name=each) for each in ("b", "B", "a", "é"))])
        found = await store.statistics(TaskQuery(), "name")
        assert [each.group for each in found] == ["B", "a", "b", "é"]

    async def test_conditions_hold_for_each_task(self, store: TaskStore) -> None:
        await hold_ended_tasks(store)
        at = {number: START + timedelta(seconds=number) for number in range(8)}
        for query, tasks in (
            (TaskQuery(completed_after=at[2]), 4),
            (TaskQuery(completed_before=at[2]), 1),
            (TaskQuery(completed_after=at[1], completed_before=at[4]), 2),
            (TaskQuery(executor="Y"), 2),
            (TaskQuery(executor="y"), 0),
            (TaskQuery(executor="\0"), 0),
            (TaskQuery(user_id="ann", tags=["y z"]), 1),
            (TaskQuery(name="dd"), 1),
            (TaskQuery(status=TaskStatus.FAILED), 1),
            (TaskQuery(status=TaskStatus.PENDING), 0),
            (TaskQuery(limit=1, offset=3, order="name"), 6),  # pages and orders are ignored
        ):
            found = await store.statistics(query)
            assert sum(each.tasks for each in found) == tasks, query

    async def test_conditions_hold_for_each_of_the_slowest(self, store: TaskStore) -> None:
        await hold_ended_tasks(store)
        for query, ids in (
            (TaskQuery(), ["d", "c", "b", "a", "f"]),  # e never started
            (TaskQuery(user_id="ann"), ["b", "a"]),
            (TaskQuery(executor="x", completed_before=START + timedelta(seconds=3)), ["b", "a"]),
            (TaskQuery(limit=1, offset=3, order="name"), ["d", "c", "b", "a", "f"]),
            (TaskQuery(executor="none"), []),
        ):
            assert [each.id for each in await store.slowest(query, 10)] == ids, query

    async def test_what_never_started_has_no_duration(self, store: TaskStore) -> None:
        await store.add([a_task("r"), ended("e", None, status=TaskStatus.SKIPPED, attempts=0)])
        [found] = await store.statistics(TaskQuery())
        assert (found.seconds, found.p50_seconds, found.p95_seconds, found.max_seconds) == (
            0,
            None,
            None,
            None,
        )
        assert found.failure_rate is None
        assert await store.slowest(TaskQuery(), 5) == []

    async def test_without_tasks_there_are_no_figures(self, store: TaskStore) -> None:
        assert await store.statistics(TaskQuery()) == []
        for field in STATISTICS_FIELDS:
            assert await store.statistics(TaskQuery(), field) == []
        assert await store.slowest(TaskQuery(), 5) == []

    async def test_the_slowest_come_first_and_then_by_id(self, store: TaskStore) -> None:
        await hold_ended_tasks(store)
        await store.add([a_task("s"), replace(ended("z", 3.0, at=9), root_id="s")])
        found = await store.slowest(TaskQuery(), 4)
        assert [(each.id, each.seconds) for each in found] == [("d", 4.0), ("c", 3.0), ("z", 3.0), ("b", 2.0)]
        first = found[0]
        assert (first.root_id, first.name, first.executor, first.status) == ("r", "dd", "Y", "cancelled")
        assert first.started_at == START

    async def test_usage_of_models_is_summed_up_with_the_tasks(self, store: TaskStore) -> None:
        if not store.capabilities.has_usage:
            pytest.skip("the store does not keep usage")
        await hold_ended_tasks(store)
        totals = UsageTotals(calls=1, input_tokens=10, output_tokens=5, cost_usd=0.25)
        for task_id, model in (("a", "m"), ("a", "n"), ("d", "m"), ("gone", "m")):
            await store.add_usage(
                [
                    UsageEntry(
                        task_id=task_id, root_id="r", top_id="r", user_id=None, model=model, totals=totals
                    )
                ]
            )
        found = await store.statistics(TaskQuery(), "executor")
        assert [(each.group, each.tasks, each.calls) for each in found] == [
            ("x", 3, 2),
            ("Y", 2, 1),
            (None, 1, 0),
        ]
        [total] = await store.statistics(TaskQuery())
        assert (total.input_tokens, total.output_tokens, total.cost_usd) == (30, 15, 0.75)
