from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from apflow.core.engine import worker_report
from apflow.core.engine.worker import Worker
from apflow.core.errors import ForbiddenError
from apflow.core.model.task import utc_now
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import Capabilities, TaskStore
from apflow.core.store.memory import MemoryStore


class SharedStore(MemoryStore):
    """A store whose workers report to it, as those of several processes do."""

    capabilities = Capabilities(is_shared=True)


@asynccontextmanager
async def working(db: TaskStore) -> AsyncIterator[Worker]:
    worker = Worker(db)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        yield worker
        worker.drain()


async def reports(db: TaskStore, count: int) -> list[dict[str, Any]]:
    """Return the workers of a store once there are so many."""
    async with asyncio.timeout(30):
        while len(found := await TaskService(db).workers()) != count:
            await asyncio.sleep(0.01)
    return found


def silent_for(seconds: float, worker_id: str) -> dict[str, Any]:
    then = (utc_now() - timedelta(seconds=seconds)).isoformat()
    return {
        "id": worker_id,
        "host": "elsewhere",
        "pid": 7,
        "version": "0.1.0",
        "started_at": then,
        "seen_at": then,
        "status": "running",
        "trees": 1,
        "max_concurrency": 2,
    }


@pytest.mark.parametrize("make", [MemoryStore, SharedStore])
async def test_workers_are_listed_while_they_work(make: type[MemoryStore]):
    db = make()
    assert await TaskService(db).workers() == []
    async with working(db), working(db):
        first, second = await reports(db, 2)
        assert first["id"] != second["id"]
        assert (first["status"], first["trees"], first["max_concurrency"]) == ("running", 0, 256)
    assert await TaskService(db).workers() == []
    assert await db.records(worker_report.KIND) == []


async def test_a_worker_that_was_killed_is_lost_and_later_forgotten():
    db = SharedStore()
    await db.put_record(worker_report.KIND, "lost", silent_for(2 * worker_report.LOST_SECONDS, "lost"))
    await db.put_record(worker_report.KIND, "old", silent_for(2 * worker_report.FORGOTTEN_SECONDS, "old"))
    assert [each["status"] for each in await TaskService(db).workers()] == ["lost", "lost"]
    async with working(db), asyncio.timeout(30):
        while await db.records(worker_report.KIND, prefix="old"):
            await asyncio.sleep(0.01)
        found = {each["id"]: each["status"] for each in await reports(db, 2)}
    assert found.pop("lost") == "lost"
    assert list(found.values()) == ["running"]


async def test_a_worker_works_although_it_cannot_report(caplog: pytest.LogCaptureFixture):
    class Failing(SharedStore):
        async def put_record(self, *_: Any, **__: Any) -> Any:
            raise OSError("no room")

    db = Failing()
    async with working(db) as worker:
        while not worker.is_sweeping:
            await asyncio.sleep(0.01)
        assert await TaskService(db).workers() == []


async def test_only_an_admin_lists_workers():
    with pytest.raises(ForbiddenError):
        await TaskService(MemoryStore(), user_id="ann", is_admin=False).workers()
