"""Submitted trees: requested durably, run by a worker, released by one that is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskCreator, Worker, executor_register, get_registry, submit
from apflow.core.engine.active_runs import all_running, owner_id
from apflow.core.errors import AlreadyRunningError, KeyUsedError, LimitExceededError, OwnerLostError
from apflow.core.manager import TaskManager
from apflow.core.model.task import GROUP, Task
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings, reset_settings
from apflow.core.store.base import Capabilities, Change, TaskQuery, Transition, TransitionResult


class Work(BaseTask):
    """Ends at once, or when it is let go, or when it is ended."""

    id = "test_work"
    calls: list[str] = []
    ended: list[str] = []
    go_on: asyncio.Event
    worker: Worker

    async def execute(self, inputs: dict[str, Any]) -> Any:
        assert self.task_id is not None
        Work.calls.append(self.task_id)
        try:
            if inputs.get("do") == "wait":
                await Work.go_on.wait()
            elif inputs.get("do") in ("hang", "drain"):
                if inputs["do"] == "drain":
                    Work.worker.drain()
                await asyncio.Event().wait()
        finally:
            Work.ended.append(self.task_id)
        return {"key": self.idempotency_key, "attempts": self.attempts}


@pytest.fixture(autouse=True)
async def executors() -> AsyncIterator[None]:
    Work.calls.clear()
    Work.ended.clear()
    Work.go_on = asyncio.Event()
    executor_register(Work, override=True)
    yield
    get_registry().unregister(Work.id)


@pytest.fixture
def db() -> MemoryStore:
    return MemoryStore()


def array(root_id: str, *children: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    root = {"id": root_id, "name": "root", "schemas": {"method": Work.id}, **more}
    return [
        root,
        *({"name": "c", "parent_id": root_id, "schemas": {"method": Work.id}, **each} for each in children),
    ]


@asynccontextmanager
async def working(db: MemoryStore, **settings: Any) -> AsyncIterator[Worker]:
    worker = Worker(db, Settings(**{"shutdown_timeout": 0.0, "cancel_grace": 1.0, **settings}))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        yield worker
        worker.drain()


async def task(db: MemoryStore, task_id: str) -> Task:
    return (await db.get([task_id]))[task_id]


async def until(db: MemoryStore, task_id: str, status: str) -> Task:
    async with asyncio.timeout(30):
        while (found := await task(db, task_id)).status != status:
            await asyncio.sleep(0.001)
    return found


async def until_called(count: int) -> None:
    async with asyncio.timeout(30):
        while len(Work.calls) < count:
            await asyncio.sleep(0.001)


async def test_a_submitted_tree_is_requested_and_not_run_until_a_worker_takes_it(db: MemoryStore):
    created = await TaskService(db).submit(array("r", {"id": "c"}))
    stored = await task(db, created["id"])
    assert stored.run_requested_at is not None and stored.run_owner is None
    assert Work.calls == []
    async with working(db):
        ended = await until(db, "r", "completed")
    assert sorted(Work.calls) == ["c", "r"]
    assert ended.result == {"key": "r:0", "attempts": 1}


async def test_urgent_trees_are_taken_first(db: MemoryStore):
    for at, priority in enumerate([3, 1, 2, 0]):
        await TaskService(db).submit(array(f"r{at}", priority=priority, inputs={"do": "wait"}))
    async with working(db, max_concurrency=2) as worker:
        await until_called(2)
        Work.go_on.set()
        await until(db, "r0", "completed")
    assert set(Work.calls[:2]) == {"r1", "r3"}
    assert worker.running == 0


UNKNOWN = {
    "a misspelt id": {"name": "s", "schemas": {"method": "test_unknown"}},
    "a misspelt parameter": {"name": "s", "params": {"executor_id": "test_unknown"}},
    "a name that nothing runs": {"name": "test_unknown"},
}


@pytest.mark.parametrize("task", UNKNOWN.values(), ids=list(UNKNOWN))
async def test_a_fresh_tree_whose_executor_no_process_can_have_fails(db: MemoryStore, task: dict[str, Any]):
    await TaskService(db).submit([{"id": "strange", **task}])
    async with working(db):
        ended = await until(db, "strange", "failed")
    assert ended.result["error_type"] == "ExecutorNotFound"
    assert ended.run_requested_at is None


@pytest.mark.parametrize("task", UNKNOWN.values(), ids=list(UNKNOWN))
async def test_a_child_without_an_executor_holds_up_nothing_else(db: MemoryStore, task: dict[str, Any]):
    child = {"id": "strange", "parent_id": "r", **task}
    await TaskService(db).submit([*array("r", {"id": "c"}), child])
    async with working(db):
        await until(db, "strange", "failed")
        await until(db, "c", "completed")
        await until(db, "r", "completed")


class SharedMemoryStore(MemoryStore):
    """Says of itself that other processes may use it."""

    capabilities = Capabilities(is_shared=True)


async def test_where_other_processes_may_have_the_executor_a_fresh_tree_waits_for_them():
    db = SharedMemoryStore()
    await TaskService(db).submit([{"id": "strange", "name": "s", "schemas": {"method": "test_unknown"}}])
    await TaskService(db).submit(array("r"))
    async with working(db, executor_wait=1000):
        await until(db, "r", "completed")
        strange = await task(db, "strange")
    assert (strange.status, strange.run_owner) == ("pending", None)
    async with working(db, executor_wait=0.01):
        ended = await until(db, "strange", "failed")
    assert ended.result["error_type"] == "ExecutorNotFound"


async def test_a_tree_that_another_process_had_begun_is_left_where_an_executor_is_missing(db: MemoryStore):
    await TaskService(db).submit(array("r", {"id": "c", "inputs": {"do": "hang"}}, dependencies=["c"]))
    async with working(db):
        await until_called(1)
    get_registry().unregister(Work.id)
    await TaskService(db).submit([{"id": "strange", "name": "s"}])
    async with working(db):
        await until(db, "strange", "failed")
    assert (await task(db, "r")).status == "pending"
    executor_register(Work, override=True)
    Work.go_on.set()


async def test_who_takes_a_tree_decides_its_executors(db: MemoryStore):
    get_registry().unregister(Work.id)
    await TaskService(db).submit(
        [{"id": "r", "name": Work.id}, {"id": "c", "name": Work.id, "parent_id": "r"}]
    )
    assert (await task(db, "r")).executor == GROUP  # as far as who submits it knows
    executor_register(Work, override=True)
    async with working(db):
        ended = await until(db, "r", "completed")
    assert (ended.executor, sorted(Work.calls)) == (Work.id, ["c", "r"])


async def test_a_drain_ends_code_puts_it_back_and_gives_the_tree_up(db: MemoryStore):
    await TaskService(db).submit(array("r", {"id": "c", "inputs": {"do": "hang"}}, dependencies=["c"]))
    async with working(db):
        await until_called(1)
    given_up, stored = await task(db, "r"), await task(db, "c")
    assert Work.ended == ["c"]
    assert (stored.status, stored.owner, stored.attempts, stored.interruptions) == ("pending", None, 0, 0)
    assert given_up.run_requested_at is not None and given_up.run_owner is None
    assert not all_running(db)


async def test_a_drain_lets_code_end_that_ends_in_time(db: MemoryStore):
    await TaskService(db).submit(array("r", {"id": "c", "inputs": {"do": "wait"}}, dependencies=["c"]))
    async with working(db, shutdown_timeout=10.0) as worker:
        await until_called(1)
        worker.drain()
        await asyncio.sleep(0.2)
        Work.go_on.set()
    assert (await task(db, "c")).status == "completed"
    assert Work.calls == ["c"]  # what depends on it is not begun
    async with working(db):
        await until(db, "r", "completed")
    assert Work.calls == ["c", "r"]


async def test_a_drained_task_of_effect_once_has_failed(db: MemoryStore):
    child = {"id": "c", "inputs": {"do": "hang"}, "policy": {"effect": "once"}}
    await TaskService(db).submit(array("r", child))
    async with working(db):
        await until_called(2)
    failed = await task(db, "c")
    assert (failed.status, failed.result["error_type"]) == ("failed", "Interrupted")


@pytest.mark.parametrize("effect", ["pure", "once"])
async def test_a_drain_puts_tasks_back_whose_code_has_not_begun(db: MemoryStore, effect: str):
    """The executors of a large tree are called over many turns of the event loop."""
    children = [
        {"id": f"c{n}", "inputs": {"do": "drain" if n == 0 else "hang"}, "policy": {"effect": effect}}
        for n in range(200)
    ]
    await TaskService(db).submit(array("r", *children))
    async with working(db) as worker:
        Work.worker = worker
        await until_called(1)
    stored = [await task(db, f"c{n}") for n in range(200)]
    called = set(Work.calls)
    uncalled = [each for each in stored if each.id not in called]
    assert uncalled
    assert {(str(each.status), each.attempts, each.interruptions) for each in uncalled} == {("pending", 0, 0)}
    ended = {str(each.status) for each in stored if each.id in called}
    assert ended == ({"failed"} if effect == "once" else {"pending"})


async def test_what_waits_for_its_retry_when_drained_keeps_its_attempts(db: MemoryStore):
    policy = {"retry": {"max_attempts": 3, "delay": 60, "on": ["TimeoutError"]}, "timeout": 0.01}
    await TaskService(db).submit(array("r", inputs={"do": "hang"}, policy=policy))
    async with working(db):
        async with asyncio.timeout(30):
            while (await task(db, "r")).not_before is None:
                await asyncio.sleep(0.001)
    stored = await task(db, "r")
    assert (stored.attempts, stored.run_owner) == (1, None)


async def test_a_drain_of_a_worker_without_work_ends_it(db: MemoryStore):
    async with working(db) as worker:
        worker.drain()
    assert worker.running == 0


async def test_a_run_that_is_requested_already_is_refused(db: MemoryStore):
    await TaskService(db).submit(array("r"))
    with pytest.raises(AlreadyRunningError):
        await submit(db, "r")


async def test_a_tree_that_has_completed_is_requested_only_by_force(db: MemoryStore):
    node = await TaskCreator(db).create_task_tree_from_array(array("r"))
    await TaskManager(db).distribute_task_tree(node)
    assert not await submit(db, "r")
    assert await submit(db, "r", force=True)
    async with working(db):
        ended = await until(db, "r", "completed")
    assert (ended.generation, Work.calls) == (1, ["r", "r"])


async def test_too_many_requested_runs_are_refused_before_anything_is_written(
    db: MemoryStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_MAX_REQUESTED_PER_USER", "2")
    reset_settings()
    service = TaskService(db, "ann")
    await service.submit(array("a"))
    await service.submit(array("b"))
    with pytest.raises(LimitExceededError, match="'ann'"):
        await service.submit(array("c"))
    assert {each.id for each in await db.find(TaskQuery())} == {"a", "b"}
    await TaskService(db, "bob").submit(array("c"))  # the limit of one is not another's
    monkeypatch.undo()
    reset_settings()


async def test_the_same_key_returns_the_first_tree(db: MemoryStore):
    service = TaskService(db)
    first = await service.submit(array("r", {"id": "c"}), idempotency_key="k")
    async with working(db):
        await until(db, first["id"], "completed")
    again = await service.submit(array("r", {"id": "c"}), idempotency_key="k")
    assert (again["id"], again["ids"], again["status"]) == (first["id"], first["ids"], "completed")
    assert (await task(db, first["id"])).run_requested_at is None
    assert len(await db.find(TaskQuery())) == 2


async def test_of_two_at_once_with_one_key_one_creates(db: MemoryStore):
    service = TaskService(db)
    trees = await asyncio.gather(*(service.submit(array("r"), idempotency_key="k") for _ in range(10)))
    assert len({each["id"] for each in trees}) == 1
    assert len(await db.find(TaskQuery())) == 1


async def test_a_key_belongs_to_one_user_and_to_one_array(db: MemoryStore):
    ann = await TaskService(db, "ann").submit(array("r"), idempotency_key="k")
    bob = await TaskService(db, "bob").submit(array("r"), idempotency_key="k")
    assert ann["id"] != bob["id"]
    with pytest.raises(KeyUsedError, match="'k'"):
        await TaskService(db, "ann").submit([{"name": "another"}], idempotency_key="k")


async def test_a_run_whose_tree_was_taken_over_ends_its_code_and_writes_nothing(db: MemoryStore):
    node = await TaskCreator(db).create_task_tree_from_array(
        array("r", {"id": "c", "inputs": {"do": "wait"}})
    )
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    await until_called(2)
    await until(db, "r", "completed")
    taken = Transition("r", "r", {"run_owner": owner_id()}, {"run_owner": "another"})
    await db.write(Change(moves=[taken], is_strict=True))
    Work.go_on.set()
    with pytest.raises(OwnerLostError):
        await running
    assert (await task(db, "c")).status == "in_progress"  # its end came too late


async def test_a_run_that_may_have_lost_its_tree_ends_its_code(db: MemoryStore):
    node = await TaskCreator(db).create_task_tree_from_array(array("r", inputs={"do": "hang"}))
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    await until_called(1)
    [run] = all_running(db)
    run.lose()
    with pytest.raises(OwnerLostError):
        await running
    assert Work.ended == ["r"]
    assert (await task(db, "r")).status == "in_progress"


class Silent(MemoryStore):
    """Stops responding on request."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()

    async def write(self, change: Change) -> TransitionResult:
        await self.answers.wait()
        return await super().write(change)


async def test_code_of_a_tree_that_may_be_lost_ends_though_the_store_does_not_answer():
    db = Silent()
    tasks = array("r", {"id": "a", "inputs": {"do": "wait"}}, {"id": "b", "inputs": {"do": "hang"}})
    node = await TaskCreator(db).create_task_tree_from_array(tasks)
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    await until_called(3)
    db.answers.clear()
    Work.go_on.set()  # its end must be written now
    [run] = all_running(db)
    while "a" not in Work.ended:
        await asyncio.sleep(0.001)
    run.lose()
    async with asyncio.timeout(30):
        while "b" not in Work.ended:
            await asyncio.sleep(0.001)
    assert not running.done()
    db.answers.set()
    with pytest.raises(OwnerLostError):
        await running


async def test_a_cancellation_that_another_process_stored_reaches_the_code(db: MemoryStore):
    node = await TaskCreator(db).create_task_tree_from_array(
        array("r", {"id": "c", "inputs": {"do": "hang"}})
    )
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    await until_called(2)
    asked = Transition("c", "r", {"status": "in_progress"}, {"cancel_requested_at": datetime.now(UTC)})
    await db.write(Change(moves=[asked], is_strict=True))
    [run] = all_running(db)
    run.look()
    await running
    assert (await task(db, "c")).status == "cancelled"
    assert node["status"] == "cancelled"
