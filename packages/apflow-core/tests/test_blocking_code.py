"""Executors with a plain `def execute`: they run in threads, and can be cancelled and timed out."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskExecutor, TaskManager, get_registry
from apflow.core.concurrency.code_threads import CodeThreads, ThreadCall
from apflow.core.model.task import Task
from apflow.core.settings import reset_settings

PATIENCE = 30.0  # seconds that a test waits at most
Code = Callable[["Blocking", dict[str, Any]], Any]

code: Code = lambda _task, inputs: inputs  # noqa: E731 - what the executor under test does


class Blocking(BaseTask):
    id = "blocking"
    stopped: threading.Event

    def execute(self, inputs: dict[str, Any]) -> Any:
        return code(self, inputs)


class Polling(Blocking):
    id = "polling"
    cancelable = True


class Stoppable(Blocking):
    id = "stoppable"
    asked = threading.Event()
    in_thread: bool | None = None

    def cancel(self) -> dict[str, Any]:
        Stoppable.in_thread = threading.current_thread() is not threading.main_thread()
        Stoppable.asked.set()
        return {"partial_result": "half"}


def as_coroutine(function: Any) -> Any:
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


class Decorated(BaseTask):
    """Its `execute` is a plain function that returns a coroutine."""

    id = "decorated"

    @as_coroutine
    async def execute(self, inputs: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return {"loop": asyncio.get_running_loop() is loop_of_the_test}


loop_of_the_test: asyncio.AbstractEventLoop | None = None


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    kinds = (Blocking, Polling, Stoppable, Decorated)
    for kind in kinds:
        get_registry().register(kind)
    yield
    for kind in kinds:
        get_registry().unregister(kind.id)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_CANCEL_GRACE", "0.2")
    reset_settings()
    yield
    monkeypatch.undo()
    reset_settings()


def does(function: Code) -> None:
    global code
    code = function


async def run(executor: str = "blocking", **fields: Any) -> Task:
    """Run a tree of one task and return the task as it ended."""
    db = MemoryStore()
    answer = await TaskExecutor().execute_tasks(
        [{"name": "t", "schemas": {"method": executor}, **fields}], db_session=db
    )
    return (await db.get([answer["root_task_id"]]))[answer["root_task_id"]]


async def test_blocking_calls_run_at_the_same_time():
    meeting = threading.Barrier(3)

    def meet(task: Blocking, inputs: dict[str, Any]) -> Any:
        meeting.wait(PATIENCE)
        return {"is_main": threading.current_thread() is threading.main_thread(), **inputs}

    does(meet)
    tasks: list[dict[str, Any]] = [{"id": "root", "name": "root", "dependencies": ["1", "2", "3"]}]
    tasks[0]["schemas"] = {"method": "decorated"}
    tasks += [
        {
            "id": str(n),
            "name": "t",
            "parent_id": "root",
            "inputs": {"n": n},
            "schemas": {"method": "blocking"},
        }
        for n in (1, 2, 3)
    ]
    db = MemoryStore()
    answer = await TaskExecutor().execute_tasks(tasks, db_session=db)
    assert answer["status"] == "completed"
    assert {task.result["n"] for task in await db.tree("root") if task.id != "root"} == {1, 2, 3}
    assert not any(task.result["is_main"] for task in await db.tree("root") if task.id != "root")


async def test_a_plain_function_that_returns_a_coroutine_continues_on_the_event_loop():
    global loop_of_the_test
    loop_of_the_test = asyncio.get_running_loop()
    assert (await run("decorated")).result == {"loop": True}


async def test_the_context_of_the_run_is_that_of_the_thread():
    variable = ContextVar[str]("variable", default="unset")
    variable.set("set by the caller")
    does(lambda _task, _inputs: variable.get())
    assert (await run()).result == "set by the caller"


async def test_the_time_of_a_loop_in_python_ends():
    ended = threading.Event()

    def turn(_task: Blocking, _inputs: dict[str, Any]) -> None:
        try:
            while True:
                time.sleep(0.001)
        finally:
            ended.set()

    does(turn)
    task = await run(policy={"timeout": 0.05})
    assert task.result["error_type"] == "TimeoutError"
    assert ended.is_set()


async def test_code_that_polls_ends_by_itself_and_keeps_its_result():
    def poll(task: Blocking, _inputs: dict[str, Any]) -> Any:
        assert task.cancellation_checker is not None
        started.set()
        while not task.cancellation_checker():
            time.sleep(0.001)
        return {"rows": 3}

    started = threading.Event()
    does(poll)
    db = MemoryStore()
    node = await TaskManager(db).task_repository.create_task(name="polling")
    running = asyncio.create_task(TaskExecutor().execute_task_by_id(node.id, db_session=db))
    await asyncio.to_thread(started.wait, PATIENCE)
    answer = await TaskExecutor().cancel_task(node.id, db_session=db)
    await running
    task = (await db.get([node.id]))[node.id]
    assert (answer["status"], task.status, task.result) == ("cancelled", "cancelled", {"rows": 3})


async def test_the_checker_is_true_when_the_time_is_over():
    def poll(task: Blocking, _inputs: dict[str, Any]) -> None:
        assert task.cancellation_checker is not None
        while not task.cancellation_checker():
            time.sleep(0.001)
        noticed.set()

    noticed = threading.Event()
    does(poll)
    task = await run("polling", policy={"timeout": 0.05})
    assert task.result["error_type"] == "TimeoutError"
    assert noticed.is_set()


async def test_code_that_hangs_is_left_behind_and_said_so(
    short_grace: None, caplog: pytest.LogCaptureFixture
):
    def hang(_task: Blocking, _inputs: dict[str, Any]) -> None:
        go_on.wait(PATIENCE)

    go_on = threading.Event()
    does(hang)
    with caplog.at_level(logging.ERROR):
        task = await run(policy={"timeout": 0.05})
    go_on.set()
    assert task.result["error_type"] == "TimeoutError"
    assert "still runs in its thread" in caplog.text


async def test_a_plain_cancel_is_called_in_a_thread():
    def wait(_task: Blocking, _inputs: dict[str, Any]) -> None:
        started.set()
        Stoppable.asked.wait(PATIENCE)
        raise ConnectionError("closed")

    started = threading.Event()
    Stoppable.asked.clear()
    does(wait)
    db = MemoryStore()
    node = await TaskManager(db).task_repository.create_task(name="stoppable")
    running = asyncio.create_task(TaskExecutor().execute_task_by_id(node.id, db_session=db))
    await asyncio.to_thread(started.wait, PATIENCE)
    await TaskExecutor().cancel_task(node.id, db_session=db)
    await running
    task = (await db.get([node.id]))[node.id]
    assert (task.status, task.result) == ("cancelled", {"partial_result": "half"})
    assert Stoppable.in_thread is True


@pytest.mark.parametrize(
    ("error", "error_type"),
    [
        (ValueError("no"), "ValueError"),
        (StopIteration("no"), "RuntimeError"),
        (SystemExit(2), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_a_thread_raises_fails_its_task_alone(error: BaseException, error_type: str):
    def leave(_task: Blocking, _inputs: dict[str, Any]) -> None:
        raise error

    does(leave)
    task = await run()
    assert (task.status, task.result["error_type"]) == ("failed", error_type)


def test_an_interruption_that_comes_late_reaches_no_other_call():
    threads = CodeThreads()
    for turn in range(100):
        over = threading.Event()
        call = ThreadCall(lambda: sum(range(50)), over.set)
        threads.start(call)
        while not over.is_set():
            call.interrupt()
        call.interrupt()
        assert call.error is None or isinstance(call.error, asyncio.CancelledError), turn
        checked = threading.Event()
        after = ThreadCall(lambda: sum(range(5000)), checked.set)
        threads.start(after)
        assert checked.wait(PATIENCE)
        assert (after.error, after.value) == (None, sum(range(5000)))
