"""Of the tasks whose process has died during their call, a process runs one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    executor_register,
    get_registry,
)
from apflow.core.concurrency.fair_semaphore import isolation_semaphore
from apflow.core.engine.recovery import recover
from apflow.core.model.status import TERMINAL
from apflow.core.settings import overridden_defaults
from apflow.core.store.base import Change, Move, TaskQuery

IDS = ["a", "b", "c"]


class Long(BaseTask):
    """Runs until it is let go; fails its first attempts where its inputs say so."""

    id = "test_long"
    running: set[str] = set()
    started: list[str] = []
    most = 0
    go_on: asyncio.Event

    async def execute(self, inputs: dict[str, Any]) -> None:
        assert self.task_id is not None
        Long.started.append(self.task_id)
        if self.attempts <= inputs.get("fails", 0):
            raise ValueError("as asked")
        Long.running.add(self.task_id)
        Long.most = max(Long.most, len(Long.running))
        try:
            await Long.go_on.wait()
        finally:
            Long.running.discard(self.task_id)
        await asyncio.sleep(0.001)


class Single(Long):
    id = "test_single"
    max_concurrency = 1


@pytest.fixture(autouse=True)
async def executors() -> AsyncIterator[None]:
    Long.running, Long.started, Long.most, Long.go_on = set(), [], 0, asyncio.Event()
    executor_register(Long, override=True)
    executor_register(Single, override=True)
    yield
    for each in (Long, Single):
        get_registry().unregister(each.id)
    lane = isolation_semaphore()
    assert lane.take(1, lambda: None) == 1, "a task that has ended keeps the place"
    lane.give_back()


@pytest.fixture
def db() -> MemoryStore:
    return MemoryStore()


async def leave_behind(db: MemoryStore, *root_ids: str, executor: str = "test_long", **more: Any) -> None:
    """Store trees of one task that a dead process has started a minute ago."""
    for root_id in root_ids:
        task = {"id": root_id, "name": executor, **more}
        await TaskCreator(db).create_task_tree_from_array([task])
        began = datetime.now(UTC) - timedelta(minutes=1)
        sets = {
            "status": "in_progress", "owner": "dead", "attempts": 1, "started_at": began,
            "executor": executor, "run_requested_at": began, "run_owner": "dead",
        }  # fmt: skip
        await db.write(Change(moves=[Move(root_id, root_id, {"status": "pending"}, sets)], is_strict=True))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def statuses(db: MemoryStore) -> set[str]:
    return {str(task.status) for task in await db.find(TaskQuery())}


@pytest.mark.parametrize("executor", ["test_long", "test_single"])
async def test_interrupted_tasks_run_one_at_a_time(db: MemoryStore, executor: str):
    await leave_behind(db, *IDS, executor=executor)
    with overridden_defaults(isolation_seconds=600):
        recovering = asyncio.create_task(recover(db))
        await until(lambda: Long.running)
        await asyncio.sleep(0.05)
        assert len(Long.started) == 1
        waiting = [task for task in await db.find(TaskQuery()) if str(task.status) == "pending"]
        assert len(waiting) == 2  # not started: a crash does not interrupt them
        Long.go_on.set()
        async with asyncio.timeout(30):
            assert sorted(await recovering) == IDS
    assert (Long.most, sorted(Long.started)) == (1, IDS)
    assert await statuses(db) == {"completed"}


async def test_interrupted_tasks_of_one_tree_run_one_at_a_time(db: MemoryStore):
    tasks = [{"id": "r", "name": "group"}, *({"id": n, "name": "test_long", "parent_id": "r"} for n in IDS)]
    await TaskCreator(db).create_task_tree_from_array(tasks)
    sets = {"status": "in_progress", "owner": "dead", "executor": "test_long"}
    moves = [Move(each, "r", {"status": "pending"}, sets) for each in IDS]
    request = {"status": "in_progress", "run_requested_at": datetime.now(UTC), "run_owner": "dead"}
    moves.append(Move("r", "r", {"status": "pending"}, {**request, "executor": ":group"}))
    await db.write(Change(moves=moves, is_strict=True))
    with overridden_defaults(isolation_seconds=600):
        recovering = asyncio.create_task(recover(db))
        await until(lambda: Long.running)
        Long.go_on.set()
        async with asyncio.timeout(30):
            await recovering
    assert (Long.most, sorted(Long.started)) == (1, IDS)
    assert await statuses(db) == {"completed"}


@pytest.mark.parametrize("executor", ["test_long", "test_single"])
async def test_other_tasks_run_beside_an_interrupted_one(db: MemoryStore, executor: str):
    await leave_behind(db, "a", "b")
    await TaskCreator(db).create_task_tree_from_array([{"id": "fresh", "name": executor}])
    with overridden_defaults(isolation_seconds=600):
        recovering = asyncio.create_task(recover(db))
        await until(lambda: Long.running)
        fresh = asyncio.create_task(TaskExecutor().execute_task_by_id("fresh", db_session=db))
        await until(lambda: "fresh" in Long.running)
        assert len(Long.running) == 2
        Long.go_on.set()
        async with asyncio.timeout(30):
            await asyncio.gather(recovering, fresh)
    assert await statuses(db) == {"completed"}


async def test_the_next_one_starts_after_the_isolation_has_ended(db: MemoryStore):
    await leave_behind(db, *IDS)
    with overridden_defaults(isolation_seconds=0):
        recovering = asyncio.create_task(recover(db))
        await until(lambda: len(Long.running) == 3)
        Long.go_on.set()
        async with asyncio.timeout(30):
            await recovering


async def test_an_interrupted_task_that_waits_for_its_retry_lets_the_next_one_start(db: MemoryStore):
    retry = {"retry": {"max_attempts": 3, "delay": 0.2, "jitter": False}}
    await leave_behind(db, *IDS, policy=retry, inputs={"fails": 1})
    Long.go_on.set()
    with overridden_defaults(isolation_seconds=600):
        async with asyncio.timeout(30):
            await recover(db)
    assert sorted(Long.started[:3]) == IDS
    assert await statuses(db) == {"completed"}


async def test_an_interrupted_task_that_waits_for_its_turn_can_be_cancelled(db: MemoryStore):
    await leave_behind(db, *IDS)
    with overridden_defaults(isolation_seconds=600):
        recovering = asyncio.create_task(recover(db))
        await until(lambda: Long.running)
        (first,) = Long.started
        others = [each for each in IDS if each != first]
        answer = await TaskManager(db).cancel_task(others[0])
        assert answer["status"] == "cancelled"
        Long.go_on.set()
        async with asyncio.timeout(30):
            await recovering
    ended = {task.id: str(task.status) for task in await db.find(TaskQuery())}
    assert ended == {first: "completed", others[0]: "cancelled", others[1]: "completed"}
    assert all(task.status in TERMINAL for task in await db.find(TaskQuery()))
