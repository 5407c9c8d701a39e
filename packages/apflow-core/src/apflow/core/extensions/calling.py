"""Calling an executor: an async method on the event loop, any other in a thread."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context
from functools import lru_cache, partial
from typing import Any

from apflow.core.concurrency.code_threads import CallLeftBehindError, call_in_thread
from apflow.core.concurrency.containment import read_attribute
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.settings import get_settings

logger = logging.getLogger(__name__)

# The executor whose code runs in the current context.
running_executor: ContextVar[ExecutableTask | None] = ContextVar("apflow_running_executor", default=None)


def call_execute(executor: ExecutableTask, inputs: dict[str, Any]) -> Awaitable[Any]:
    """Call `execute` of an executor, and return what gives its result when it is awaited.

    A plain `def execute` runs in a thread, with the context of the caller.
    """
    if _is_async(type(executor), "execute"):
        running: Awaitable[Any] = executor.execute(inputs)
        return running
    return _call_blocking(executor, partial(executor.execute, inputs))


def call_cancel(executor: ExecutableTask) -> Awaitable[Any]:
    """Call `cancel` of an executor as `call_execute` calls `execute`."""
    if _is_async(type(executor), "cancel"):
        return executor.cancel()
    return _call_blocking(executor, executor.cancel)


@lru_cache(maxsize=1024)
def _is_async(kind: type[ExecutableTask], method: str) -> bool:
    """Return whether a method of a class is async, also under decorators that keep `__wrapped__`."""
    found = getattr(kind, method)
    return inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(inspect.unwrap(found))


async def _call_blocking(executor: ExecutableTask, call: Callable[[], Any]) -> Any:
    is_asked = False
    checker = executor.cancellation_checker

    def ask() -> None:
        nonlocal is_asked
        is_asked = True

    executor.cancellation_checker = lambda: is_asked or (checker is not None and checker())
    try:
        value = await call_in_thread(
            partial(copy_context().run, call),
            grace=get_settings().cancel_grace,
            when_asked=ask,
            is_patient=lambda: _ends_by_itself(executor, checker),
        )
    except CallLeftBehindError:
        logger.error(  # noqa: TRY400 - the traceback is that of the engine
            "The code of task %s (%s) does not end after it was interrupted, and still runs in its thread. "
            "Give a separate timeout to calls that wait.",
            executor.task_id,
            executor.id,
        )
        raise
    # A plain function may return a coroutine: a decorator of an async method does.
    return await value if inspect.isawaitable(value) else value


def _ends_by_itself(executor: ExecutableTask, checker: Callable[[], bool] | None) -> bool:
    """Whether an interrupted call has time to notice it: unless it had that since the task was cancelled."""
    if checker is not None and checker():
        return False
    try:
        return read_attribute(executor, "cancelable") is True
    except Exception:  # noqa: BLE001 - the border to users' code
        return False
