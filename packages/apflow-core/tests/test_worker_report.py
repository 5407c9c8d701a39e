from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from apflow.core.engine import worker as worker_module
from apflow.core.engine import worker_report
from apflow.core.engine.worker import Worker
from apflow.core.engine.worker_report import WorkerReport
from apflow.core.errors import ForbiddenError
from apflow.core.events.bus import bus_of
from apflow.core.model.task import Task, utc_now
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import Capabilities, Notice, NoticeKind, TaskStore
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


async def test_each_tree_has_few_workers_that_come_first_and_all_have_some():
    db = SharedStore()
    await db.put_record(worker_report.KIND, "lost", silent_for(2 * worker_report.LOST_SECONDS, "lost"))
    await db.put_record(worker_report.KIND, "leaves", silent_for(0, "leaves") | {"status": "draining"})
    reports = [WorkerReport(db, lambda: {"status": "running"}) for _ in range(20)]
    for _ in range(2):  # at first, those that report later are not known
        for each in reports:
            await each.report()
    chosen = [[each for each in reports if each.is_among_first(f"root {n}", 3)] for n in range(500)]
    assert {len(each) for each in chosen} == {3}
    times = Counter(id(report) for each in chosen for report in each)
    assert len(times) == 20
    assert max(times.values()) < 2 * 3 * 500 / 20


class Counted(SharedStore):
    """Counts the sweeps of workers."""

    sweeps = 0

    async def reserve(self, *arguments: Any, **more: Any) -> list[Task]:
        self.sweeps += 1
        return await super().reserve(*arguments, **more)


async def test_a_submission_elsewhere_wakes_few_of_many_workers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_module, "POLL_INTERVAL_SECONDS", 600.0)
    db = Counted()
    for n in range(50):
        await db.put_record(worker_report.KIND, f"w{n}", silent_for(0, f"w{n}"))
    async with working(db) as worker:
        await reports(db, 51)
        roots = [f"root {n}" for n in range(500)]  # so that the worker comes first for some
        while db.sweeps == 0 or all(worker.report.is_among_first(each, 3) for each in roots):
            await asyncio.sleep(0.01)
        others = [each for each in roots if not worker.report.is_among_first(each, worker_module.WOKEN)]
        before = db.sweeps
        for each in others[:50]:
            bus_of(db).receive(Notice(NoticeKind.REQUESTED, each))
            await asyncio.sleep(0.01)
        assert (db.sweeps, len(others) > 400) == (before, True)
        bus_of(db).receive(Notice(NoticeKind.REQUESTED, next(each for each in roots if each not in others)))
        while db.sweeps == before:
            await asyncio.sleep(0.01)
        before = db.sweeps
        bus_of(db).receive(Notice(NoticeKind.SUBMITTED, others[0]))  # by this process
        while db.sweeps == before:
            await asyncio.sleep(0.01)


async def test_only_an_admin_lists_workers():
    with pytest.raises(ForbiddenError):
        await TaskService(MemoryStore(), user_id="ann", is_admin=False).workers()
