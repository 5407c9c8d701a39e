"""Code that blocks the event loop: the log names it, its timeout ends it, and its lease is kept."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskManager,
    executor_register,
    get_registry,
)
from apflow.core.engine.loop_watch import LoopWatch, _watch
from apflow.core.engine.suspects import interpreter_holders
from apflow.core.engine.tree_run import TreeRun
from apflow.core.model.task import Task
from apflow.core.settings import overridden_defaults, reset_settings

PATIENCE = 20.0  # seconds that code of a test blocks, at most


def block(until: Callable[[], bool]) -> None:
    """Block the event loop until something has happened."""
    end = time.monotonic() + PATIENCE
    while not until() and time.monotonic() < end:
        time.sleep(0.01)


class Blocks(BaseTask):
    """Does what the test says."""

    id = "test_blocks"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return await code.do()


class Code:
    """What the executor does."""

    do: Callable[[], Awaitable[Any]]


code = Code()


@pytest.fixture(autouse=True)
def _executor() -> Iterator[None]:
    executor_register(Blocks, override=True)
    yield
    get_registry().unregister(Blocks.id)


@pytest.fixture(autouse=True)
def _reports_every_place() -> None:
    _watch._reported.clear()


async def run(db: MemoryStore | None = None, **policy: Any) -> Task:
    db = db or MemoryStore()
    task = {"id": "t", "name": "slow one", "schemas": {"method": Blocks.id}, "policy": policy}
    await TaskManager(db).distribute_task_tree(await TaskCreator(db).create_task_tree_from_array([task]))
    return (await db.get(["t"]))["t"]


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each for each in caplog.messages if "blocked for more than" in each]


async def test_the_log_names_the_task_that_blocks_and_shows_its_stack(caplog: pytest.LogCaptureFixture):
    async def do() -> None:
        block(lambda: bool(reports(caplog)))

    code.do = do
    with overridden_defaults(loop_block_seconds=0.2):
        assert (await run()).status == "completed"
    [report] = reports(caplog)
    assert report.startswith(
        "The event loop is blocked for more than 0.2 s by the code of task t ('slow one', test_blocks)"
    )
    assert "asyncio.to_thread" in report
    assert "block(lambda: bool(reports(caplog)))" in report
    assert "apflow/core/engine" not in report
    assert "asyncio/events.py" not in report


async def test_code_that_blocks_in_a_task_of_its_own_is_named(caplog: pytest.LogCaptureFixture):
    async def inner() -> None:
        await asyncio.sleep(0)
        block(lambda: bool(reports(caplog)))

    async def do() -> None:
        await asyncio.gather(inner(), asyncio.sleep(0))

    code.do = do
    with overridden_defaults(loop_block_seconds=0.2):
        await run()
    [report] = reports(caplog)
    assert "by the code of task t ('slow one', test_blocks)" in report
    assert "in inner" in report


async def test_a_program_that_blocks_the_loop_is_not_taken_for_a_task(caplog: pytest.LogCaptureFixture):
    go_on = asyncio.Event()
    code.do = go_on.wait
    with overridden_defaults(loop_block_seconds=0.2):
        running = asyncio.create_task(run())
        await asyncio.sleep(0.05)
        block(lambda: bool(reports(caplog)))
        go_on.set()
        await running
    [report] = reports(caplog)
    assert "by code of no task" in report
    assert "block(lambda: bool(reports(caplog)))" in report


async def test_the_same_place_is_not_reported_again_and_again(caplog: pytest.LogCaptureFixture):
    def sleep() -> None:
        time.sleep(0.6)

    async def do() -> None:
        for _ in range(3):
            sleep()
            await asyncio.sleep(0.05)

    code.do = do
    with overridden_defaults(loop_block_seconds=0.2):
        await run()
    assert len(reports(caplog)) <= 1


async def test_nothing_is_reported_where_the_setting_is_0(caplog: pytest.LogCaptureFixture):
    async def do() -> None:
        sleep_and_return()

    code.do = do
    with overridden_defaults(loop_block_seconds=0):
        await run()
    assert caplog.messages == []


async def test_the_log_names_the_task_that_held_the_interpreter(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    async def do() -> None:
        ctypes.PyDLL(None).usleep(500_000)  # unlike CDLL, PyDLL does not release the GIL

    def holders(runs: Iterable[TreeRun]) -> str:
        time.sleep(0.1)  # the task ends before it is looked for
        return interpreter_holders(runs)

    monkeypatch.setattr("apflow.core.engine.loop_watch.interpreter_holders", holders)
    code.do = do
    for _ in range(5):
        caplog.clear()
        with overridden_defaults(loop_block_seconds=0.3):
            await run()
        end = time.monotonic() + PATIENCE
        while not caplog.messages and time.monotonic() < end:  # the other thread may be the one that reports
            await asyncio.sleep(0.01)
        [report] = caplog.messages
        assert "the interpreter was held by task t ('slow one', test_blocks)" in report


def test_the_thread_ends_when_nothing_has_run_for_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("apflow.core.engine.loop_watch.IDLE_SECONDS", 0.1)
    watch = LoopWatch()
    watch._thread = thread = threading.Thread(target=watch._work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


HINT = "Make the function sync (`def`, not `async def`), so that it runs in a thread"


def sleep_and_return() -> str:
    time.sleep(0.4)
    return "done"


def sleep_and_raise() -> None:
    time.sleep(0.4)
    raise ValueError("too late")


@pytest.mark.parametrize("call", [sleep_and_return, sleep_and_raise])
async def test_code_that_blocks_past_its_timeout_ends_as_a_timeout_with_a_hint(call: Callable[[], Any]):
    async def do() -> Any:
        return call()

    code.do = do
    task = await run(timeout=0.05)
    assert task.error is not None
    assert task.status == "failed"
    assert task.result["error_type"] == "TimeoutError"
    assert task.error.startswith("The attempt took longer than 0.05 s (policy.timeout). Its code blocked")
    assert HINT in task.error


async def test_code_that_blocks_past_its_timeout_ends_where_it_waits_next():
    reached: list[str] = []

    async def do() -> None:
        sleep_and_return()
        reached.append("wait")
        await asyncio.sleep(PATIENCE)
        reached.append("end")

    code.do = do
    task = await run(timeout=0.05)
    assert task.error is not None
    assert (task.status, reached) == ("failed", ["wait"])
    assert HINT in task.error


async def test_code_that_waits_past_its_timeout_gets_no_hint():
    code.do = lambda: asyncio.sleep(PATIENCE)
    task = await run(timeout=0.05)
    assert task.error == "The attempt took longer than 0.05 s (policy.timeout)."


async def test_a_value_that_an_executor_yields_comes_back_through_its_timeout():
    async def do() -> list[Any]:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "result")
        failing = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(failing.set_exception, KeyError("k"))
        found = [await future]
        try:
            await failing
        except KeyError:
            found.append("raised")
        return found

    code.do = do
    assert (await run(timeout=PATIENCE)).result == ["result", "raised"]


class Shared(MemoryStore):
    """A store of several processes that counts how often leases are renewed."""

    capabilities = replace(MemoryStore.capabilities, is_shared=True)
    renewed = 0

    async def renew(self, owner: str, root_ids: Sequence[str]) -> dict[str, bool]:
        self.renewed += 1
        return dict.fromkeys(root_ids, False)


async def test_leases_are_renewed_while_code_blocks_the_loop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_LEASE_SECONDS", "1")
    reset_settings()
    db = Shared()

    async def do() -> int:
        before = db.renewed
        block(lambda: db.renewed >= before + 3)
        return db.renewed - before

    code.do = do
    try:
        task = await run(db)
    finally:
        reset_settings()
    assert (task.status, task.result) == ("completed", 3)
