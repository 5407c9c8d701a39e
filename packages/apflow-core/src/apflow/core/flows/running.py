"""Running flows from Python: `run_flow` in async code, `run_sync` in scripts and notebooks."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol, TypeVar, cast, overload

from apflow.core.authoring.creator import TaskCreator
from apflow.core.builder import TaskBuilder
from apflow.core.concurrency import exit_fence
from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.flows.flow import FlowTree
from apflow.core.flows.outcome import FlowOutcome
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.store.base import TaskStore
from apflow.core.store.session import get_default_session
from apflow.core.task_executor import TaskExecutor

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Tasks = Sequence[Mapping[str, Any]]

INTERRUPT_SECONDS = 0.2  # between two moments at which Ctrl-C is noticed


class Buildable(Protocol[R_co]):
    """A flow that needs no arguments, or `flow.build(...)`."""

    def build(self) -> FlowTree[R_co]:
        """Return the tree."""
        ...


@overload
async def run_flow(
    work: Buildable[R], *, db: TaskStore | None = None, user_id: str | None = None
) -> FlowOutcome[R]: ...
@overload
async def run_flow(
    work: TaskBuilder | Tasks, *, db: TaskStore | None = None, user_id: str | None = None
) -> FlowOutcome[Json]: ...
async def run_flow(
    work: Buildable[Any] | TaskBuilder | Tasks, *, db: TaskStore | None = None, user_id: str | None = None
) -> FlowOutcome[Any]:
    """Create a tree, run it until it has ended, and return its outcome.

    Args:
        work: a flow, what `flow.build(...)` returns, a `TaskBuilder`, or an array of tasks.
        db: the store; by default that of the settings.
        user_id: the owner of the tasks.

    Raises:
        TreeInvalidError: the tasks are not a valid tree. Nothing is created.
        FlowError: the code of a flow uses the result of a task for something else than an argument.
    """
    convert: Callable[[Json], Any] = _as_it_is
    if not isinstance(work, TaskBuilder | Sequence):
        work = work.build()
    if isinstance(work, FlowTree):
        convert = work.result_of
    if isinstance(work, TaskBuilder):
        user_id = work.user_id if user_id is None else user_id
        work = work.to_array()
    db = get_default_session() if db is None else db
    node = await TaskCreator(db).create_task_tree_from_array(work, user_id=user_id)
    answer = await TaskExecutor().execute_task_tree(node, db_session=db)
    return FlowOutcome(
        TaskStatus(answer["status"]),
        answer["progress"],
        answer["root_task_id"],
        answer["error"],
        answer["tolerated"],
        answer.results,
        answer["result"],
        convert,
    )


@overload
def run_sync(
    work: Buildable[R], *, db: TaskStore | None = None, user_id: str | None = None
) -> FlowOutcome[R]: ...
@overload
def run_sync(
    work: TaskBuilder | Tasks, *, db: TaskStore | None = None, user_id: str | None = None
) -> FlowOutcome[Json]: ...
def run_sync(
    work: Buildable[Any] | TaskBuilder | Tasks, *, db: TaskStore | None = None, user_id: str | None = None
) -> FlowOutcome[Any]:
    """Create a tree, run it until it has ended, and return its outcome: `run_flow` for code without `await`.

    It works in scripts, in threads, and while an event loop runs in the same thread, as in Jupyter. Ctrl-C
    cancels the tree, waits for that, and raises `KeyboardInterrupt`. See `run_flow` for arguments and errors.
    """
    make = partial(cast("Any", run_flow), work, db=db, user_id=user_id)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return exit_fence.run(make())
    return _run_in_thread(make)


def _run_in_thread(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a new event loop, in another thread, because one runs in this thread."""
    other = _OtherLoop(make)
    thread = threading.Thread(
        target=copy_context().run, args=(other.run,), name="apflow:run_sync", daemon=True
    )
    try:
        with _raising_interrupts():
            thread.start()
            # The system may deliver a signal to any thread, which does not wake this one: Python calls the
            # handler when this thread continues.
            while not other.over.wait(INTERRUPT_SECONDS):
                pass
    except BaseException:  # KeyboardInterrupt
        if thread.ident is not None:
            other.cancel()
            other.over.wait()
        raise
    return cast("T", other.result())


@contextmanager
def _raising_interrupts() -> Generator[None]:
    """Make Ctrl-C raise `KeyboardInterrupt` here. The event loop of this thread would note it too late."""
    present = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or present in (None, signal.SIG_IGN):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, present)


class _OtherLoop:
    """An event loop in another thread, and the coroutine that it runs."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.over = threading.Event()  # `Thread.join`, once interrupted, no longer waits in Python 3.11
        self._make = make
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = exit_fence.run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the caller
            self._error = error
        finally:
            self._started.set()
            self.over.set()

    async def _main(self) -> Any:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._started.set()
        return await self._make()

    def cancel(self) -> None:
        self._started.wait()
        if self._loop is not None and self._task is not None:
            call_in_loop(self._loop, self._task.cancel)

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


def _as_it_is(value: Json) -> Json:
    return value
