"""Keeping what users' code raises, cancels or swallows inside the call that it came from.

Users' code may raise what is not an `Exception` (`SystemExit`, a panic of a Rust library), or cancel the
asyncio task that it runs in. Only a cancellation that apflow asked for may pass the border of the call.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, copy_context
from functools import partial
from inspect import getattr_static
from traceback import format_exception
from typing import Any, TypeVar

from apflow.core.concurrency.exit_fence import EscapedError, create_unfenced, guard
from apflow.core.process.error_text import describe_error

T = TypeVar("T")

logger = logging.getLogger(__name__)

INSIST_SECONDS = 1.0  # between two cancellations of code that does not end


def call_contained(call: Callable[[], T]) -> T:
    """Call a function of users' code.

    Raises:
        EscapedError: it raised what is not an `Exception`.
    """
    try:
        return call()
    except Exception:
        raise
    except BaseException as error:
        raise EscapedError(error) from error


def read_attribute(source: object, name: str, default: object = None) -> object:
    """Return an attribute of an object of users' code.

    A property runs where no asyncio task is current: it must not cancel the task that reads the attribute.

    Raises:
        EscapedError: the property raised what is not an `Exception`.
    """
    if _is_plain(source, name):
        return getattr(source, name, default)
    return call_contained(lambda: _without_task(lambda: getattr(source, name, default)))


def _is_plain(source: object, name: str) -> bool:
    """Whether reading an attribute runs no code of users."""
    missing = object()
    try:
        found = getattr_static(source, name, missing)
    except BaseException:  # noqa: BLE001 - the border to users' code
        return False
    return found is None or type(found) in (bool, int, float, str)


def _without_task(call: Callable[[], T]) -> T:
    """Call a function in a thread, where `asyncio.current_task()` is `None`."""
    if not _has_task():
        return call()
    with ThreadPoolExecutor(1, "apflow:attribute") as pool:
        return pool.submit(copy_context().run, call).result()


def _has_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no event loop runs
        return False


def log_error(log: logging.Logger, message: str, *arguments: object, error: BaseException) -> None:
    """Log an error of users' code with its traceback, whatever its attributes and its `__str__` do."""
    log.error(f"{message}\n%s", *arguments, show_traceback(error))


def show_traceback(error: BaseException) -> str:
    """Return the traceback of an error of users' code as text."""
    try:
        return "".join(format_exception(error)).rstrip()
    except BaseException as unreadable:  # noqa: BLE001 - the border to users' code
        return f"{describe_error(error)} (its traceback cannot be shown: {describe_error(unreadable)})"


def must_pass(error: BaseException, task: asyncio.Task[Any] | None, is_ended: Callable[[], bool]) -> bool:
    """Return whether an error may leave users' code: nothing that the code has caused itself does.

    Args:
        task: the asyncio task that the code began in.
        is_ended: whether apflow has asked the code to end.
    """
    if isinstance(error, Exception):
        return False
    if isinstance(error, GeneratorExit) and not _is_current(task):
        return True  # the coroutine is being closed: it may not wait any more
    return is_ended() and isinstance(error, (asyncio.CancelledError, KeyboardInterrupt))


async def forget_cancellations(task: asyncio.Task[Any]) -> None:
    """Undo the cancellations that a task was asked for, and take one that has not been raised yet."""
    uncancel(task)
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        uncancel(task)


def uncancel(task: asyncio.Task[Any] | None = None) -> None:
    """Set the count of a task's cancellations to 0; without a task, that of the current one."""
    task = task or asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def _is_current(task: asyncio.Task[Any] | None) -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no event loop runs
        return False


class CodeTasks:
    """The asyncio tasks in which users' code of one run runs.

    A task group would wait for each of them without end; these can be left behind.
    """

    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self.is_ended = False  # the run ends: every task was asked to
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        guard(self._loop)
        self._tasks: set[asyncio.Task[None]] = set()

    def create_task(
        self, coroutine: Coroutine[Any, Any, None], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Run a coroutine in a new task."""
        task = create_unfenced(partial(self._loop.create_task, coroutine, name=name, context=context))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def end(self, seconds: float) -> None:
        """Cancel every task and wait for their ends, at most so many seconds."""
        self.is_ended = True
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel("the run ends")
        _, left = await asyncio.wait(self._tasks, timeout=seconds)
        for task in left:
            logger.error("%s ignores that it was cancelled, and is left behind.", task.get_name())

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)


async def run_apart(
    make: Callable[[Callable[[], bool]], Coroutine[Any, Any, T]], name: str, *, context: Context | None = None
) -> T:
    """Run a coroutine in a separate task, and return its result.

    Cancelling the caller, however often, cancels the coroutine once and waits for its end: by a timeout, by
    Ctrl-C, or by a cancel scope of anyio, which cancels again and again.

    Args:
        make: takes a function that returns whether the coroutine was asked to end; returns the coroutine.
        context: what the coroutine runs in; by default a copy of the present context.
    """
    has_ended = False
    loop = asyncio.get_running_loop()
    guard(loop)
    coroutine = make(lambda: has_ended)
    if context is None:
        task = loop.create_task(coroutine, name=name)
    else:
        task = create_unfenced(lambda: loop.create_task(coroutine, name=name, context=context))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.done() and not _is_cancelling():
            raise  # the coroutine itself was cancelled
        has_ended = True
        task.cancel()
        with shielded():
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # retrieved: the cancelled caller does not see it
        raise


def shielded() -> AbstractContextManager[object]:
    """Keep cancel scopes of anyio around the caller away from what is awaited here."""
    anyio = sys.modules.get("anyio")  # if it was never imported, there is no scope
    return nullcontext() if anyio is None else anyio.CancelScope(shield=True)


def _is_cancelling() -> bool:
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0
