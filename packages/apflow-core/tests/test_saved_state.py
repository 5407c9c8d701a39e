"""What code saves is found by the attempt that continues its work, and by no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskService,
    executor_register,
    get_registry,
    get_task_context,
    task,
)
from apflow.core.engine.recovery import recover
from apflow.core.engine.worker import Worker
from apflow.core.errors import ConflictError, InvalidInputError
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import utc_now
from apflow.core.settings import reset_settings
from apflow.core.store.base import TaskQuery, TaskStore, Transition
from apflow.core.store.tree_records import KIND

Code = Callable[["Coded"], Awaitable[Any]]


class Coded(BaseTask):
    """Runs a function of the test."""

    id = "coded"
    code: Code

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return await Coded.code(self)


@pytest.fixture(autouse=True)
async def executor(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("APFLOW_CANCEL_GRACE", "0.2")
    monkeypatch.setenv("APFLOW_SHUTDOWN_TIMEOUT", "0.2")
    reset_settings()
    executor_register(Coded, override=True)
    yield
    get_registry().unregister(Coded.id)
    reset_settings()


def start(db: TaskStore, code: Code, **more: Any) -> asyncio.Task[Any]:
    Coded.code = code  # type: ignore[method-assign]
    array = [{"id": "t", "name": "coded", **more}]
    return asyncio.create_task(TaskExecutor().execute_tasks(array, db_session=db))


async def run(db: TaskStore, code: Code, **more: Any) -> dict[str, Any]:
    async with asyncio.timeout(30):
        return await start(db, code, **more)


async def test_an_attempt_after_a_crash_continues_from_what_was_saved_last():
    db, is_saved = MemoryStore(), asyncio.Event()

    async def dies(self: Coded) -> Any:
        for job in ("first", "second"):
            await self.save_state({"job": job})
        is_saved.set()
        await asyncio.Event().wait()

    running = start(db, dies)
    async with asyncio.timeout(30):
        await is_saved.wait()
    after = MemoryStore()  # what a new process finds
    await after.add(await db.find(TaskQuery()))
    for each in await db.records(KIND):
        await after.put_record(KIND, each.key, each.value)
    running.cancel()
    await asyncio.wait({running})
    await after.move([Transition("t", "t", {}, {"lease_until": None})])

    async def continues(self: Coded) -> Any:
        return [self.attempts, await self.saved_state()]

    Coded.code = continues  # type: ignore[method-assign]
    async with asyncio.timeout(30):
        await recover(after)
    assert (await after.get(["t"]))["t"].result == [1, {"job": "second"}]


@pytest.mark.parametrize("effect", ["idempotent", "once"])
async def test_code_that_a_shutdown_ends_knows_whether_it_is_continued(effect: str):
    db = MemoryStore()
    seen: list[Any] = []
    is_saved = asyncio.Event()

    async def code(self: Coded) -> Any:
        state = await self.saved_state()
        if state is not None:
            return state
        await self.save_state("job 1")
        is_saved.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(self.is_continued)

    Coded.code = code  # type: ignore[method-assign]
    array = [{"id": "t", "name": "coded", "policy": {"effect": effect}}]
    await TaskCreator(db).create_task_tree_from_array(array)
    await db.move([Transition("t", "t", {}, {"run_requested_at": utc_now()})])
    async with asyncio.timeout(30):
        worker = Worker(db)
        working = asyncio.create_task(worker.run())
        await is_saved.wait()
        worker.drain()
        await working
        worker = Worker(db)
        working = asyncio.create_task(worker.run())
        while (found := (await db.get(["t"]))["t"]).status not in TERMINAL:
            await asyncio.sleep(0.005)
        worker.drain()
        await working
    assert seen == [effect == "idempotent"]
    if effect == "idempotent":
        assert found.result == "job 1"
    else:
        assert found.result["error_type"] == "Interrupted"


async def test_a_retry_and_another_execution_begin_without_a_state(db: TaskStore):
    seen: list[Any] = []

    async def code(self: Coded) -> Any:
        seen.append(await self.saved_state())
        await self.save_state(f"of attempt {self.attempts}")
        assert await self.saved_state() == f"of attempt {self.attempts}"
        raise RuntimeError("It fails.")

    await run(db, code, policy={"retry": {"max_attempts": 2, "delay": 0.01}})
    await TaskExecutor().execute_task_by_id("t", db_session=db)
    assert seen == [None] * 4


async def test_none_removes_the_state_and_the_tree_takes_it_along(db: TaskStore):
    async def code(self: Coded) -> Any:
        await self.save_state(None)
        await self.save_state({"job": 1})
        await self.save_state(None)
        assert await db.records(KIND) == []
        assert await self.saved_state() is None
        await self.save_state({"job": 2})

    await run(db, code)
    assert [each.value["state"] for each in await db.records(KIND)] == [{"job": 2}]
    await TaskService(db).delete("t", force=True)
    assert await db.records(KIND) == []


async def test_secrets_are_masked_in_what_is_saved(db: TaskStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_KEY", "k3y-of-the-agent")

    async def code(self: Coded) -> Any:
        await self.save_state({"job": "a k3y-of-the-agent b"})

    await run(db, code, inputs={"key": {"$secret": "KEY"}})
    assert "k3y-of" not in str([each.value for each in await db.records(KIND)])


async def test_a_state_that_cannot_be_stored_is_refused_and_the_one_before_stays(db: TaskStore):
    async def code(self: Coded) -> Any:
        await self.save_state("kept")
        for state in ({"x": {1, 2}}, "x" * 2_000_000, object()):
            with pytest.raises(InvalidInputError):
                await self.save_state(state)
        return await self.saved_state()

    assert (await run(db, code))["result"] == "kept"


async def test_a_process_that_lost_the_task_cannot_replace_the_state(db: TaskStore):
    async def code(self: Coded) -> Any:
        await self.save_state("mine")
        [record] = await db.records(KIND)
        await db.put_record(KIND, record.key, {**record.value, "by": "another", "state": "theirs"})
        with pytest.raises(ConflictError, match="another process runs it"):
            await self.save_state("mine again")
        [record] = await db.records(KIND)
        return record.value["state"]

    assert (await run(db, code))["result"] == "theirs"


async def test_code_that_continues_after_its_task_saves_nothing(db: TaskStore):
    kept: list[Coded] = []

    async def code(self: Coded) -> Any:
        kept.append(self)

    await run(db, code)
    with pytest.raises(ConflictError, match="has ended"):
        await kept[0].save_state("late")
    assert await db.records(KIND) == []


async def test_functions_and_threads_save_as_well(db: TaskStore):
    @task(id="saves_in_thread")
    def in_thread() -> Any:
        context = get_task_context()
        context.save_state_sync({"rows": 7})
        return context.saved_state_sync()

    @task(id="saves_on_loop")
    async def on_loop() -> Any:
        context = get_task_context()
        await context.save_state({"rows": 8})
        with pytest.raises(InvalidInputError, match=r"await save_state\(\)"):
            context.save_state_sync({"rows": 9})
        return await context.saved_state()

    try:
        for name, rows in (("saves_in_thread", 7), ("saves_on_loop", 8)):
            outcome = await TaskExecutor().execute_tasks([{"name": name}], db_session=db)
            assert outcome["result"] == {"rows": rows}, outcome["error"]
    finally:
        for each in (in_thread, on_loop):
            get_registry().unregister(each.id)


async def test_outside_of_a_run_nothing_is_saved():
    executor = Coded()
    await executor.save_state({"job": 1})
    executor.save_state_sync({"job": 1})
    assert await executor.saved_state() is None
    assert get_task_context().saved_state_sync() is None
