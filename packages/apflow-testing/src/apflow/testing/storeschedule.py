"""The contract of a store: the due times of schedules, which several processes start once each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from apflow.core.engine.scheduler import Scheduler
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskQuery, TaskStore
from apflow.testing.storebase import StoreMaker

HOUR = timedelta(hours=1)
SCHEDULES, HOURS = 5, 3


class StoreScheduleContract(StoreMaker):
    """Schedules are records, and each decision replaces a record of the version that was read.

    The rules are in `TaskStore.put_record` (`version`) and `TaskStore.write` (`IdTakenError`).
    """

    async def test_each_due_time_is_started_once_by_several_schedulers(self, store: TaskStore) -> None:
        await _check_once(store, [store, store, store])

    async def test_each_due_time_is_started_once_by_schedulers_of_several_processes(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        await _check_once(two[0], [*two, *two])


async def _check_once(store: TaskStore, stores: Sequence[TaskStore]) -> None:
    tasks = [{"name": "tick", "inputs": {"at": {"$run": "scheduled_at"}}}]
    made = [
        await TaskService(store).create_schedule(
            tasks, every="1h", catch_up="all", overlap="allow", name=f"s{at}"
        )
        for at in range(SCHEDULES)
    ]
    begins = [datetime.fromisoformat(each["created_at"]) for each in made]
    now = max(begins)
    schedulers = [Scheduler(each, lambda: now, take_over_seconds=0) for each in stores]
    for _ in range(HOURS):
        now += HOUR
        await asyncio.gather(*(each.look() for each in schedulers))
    await asyncio.gather(*(each.look() for each in schedulers))  # what a lost race left over
    started = [root.inputs["at"] for root in await store.find(TaskQuery(root_only=True))]
    expected = [(begin + HOUR * (at + 1)).isoformat() for begin in begins for at in range(HOURS)]
    assert sorted(started) == sorted(expected)
