"""Running many coroutines in few asyncio tasks: those that never wait share one.

An asyncio task costs more than a short coroutine does. So a task runs one coroutine after the other until
one waits: that one keeps the task, and the others continue in a new one. Each coroutine runs in one task from
beginning to end, and none sees what another has put into a context variable, or runs in a task that another
has kept a reference to: it may cancel that task later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context, ContextVar, copy_context
from sys import getrefcount
from types import CoroutineType
from typing import Any, Protocol, cast

from apflow.core.concurrency.exit_fence import end_code, enter_code
from apflow.core.process.error_text import describe_error

logger = logging.getLogger(__name__)

# The name of the task while it waits, and the function that returns the coroutine for its task.
Named = tuple[str, Callable[["asyncio.Task[Any]"], Coroutine[Any, Any, None]]]


class Group(Protocol):
    """What tasks are created in."""

    def create_task(
        self, coroutine: Coroutine[Any, Any, None], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Run a coroutine in a new task."""
        ...


def start(group: Group, waiting: deque[Named], context: Context | None = None) -> None:
    """Run these as tasks of a group, in order."""
    group.create_task(_run(group, waiting), name=waiting[0][0], context=context)


async def _run(group: Group, waiting: deque[Named]) -> None:
    outer = copy_context()
    enter_code()
    try:
        await _run_in_present_task(group, waiting, outer)
    finally:
        end_code()


async def _run_in_present_task(group: Group, waiting: deque[Named], outer: Context) -> None:
    """Run coroutines in the present task up to the first that keeps it, and the others in a new one."""
    # Not a copy of the context: when a variable is set and reset, the copy refers to the task a second time.
    values = dict(copy_context().items())  # kept, so that no other object gets the identity of one of them
    before = _identities(values.items())
    current = cast("asyncio.Task[Any]", asyncio.current_task())  # asked once: it may cost a system call
    references = getrefcount(current)
    while waiting:
        name, make = waiting.popleft()
        coroutine = cast("CoroutineType[Any, Any, None]", make(current))
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            del coroutine
            is_kept = getrefcount(current) > references
            if waiting and (is_kept or _identities(copy_context().items()) != before):
                start(group, waiting, outer)
                return
            continue
        if waiting:
            start(group, waiting, outer)
            waiting = deque[Named]()
        current.set_name(name)
        await StartedCoroutine(coroutine, waits_for)


def _identities(values: Iterable[tuple[ContextVar[Any], object]]) -> dict[ContextVar[Any], int]:
    """Return the identities of the values of context variables, whose comparison is code of users."""
    return {variable: id(value) for variable, value in values}


class StartedCoroutine:
    """A coroutine that has run up to its first wait in the present task: awaiting it continues from there."""

    __slots__ = ("_coroutine", "_is_first", "_waits_for")

    def __init__(self, coroutine: CoroutineType[Any, Any, Any], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._is_first = True

    def __await__(self) -> Generator[Any, Any, Any]:
        return cast("Generator[Any, Any, Any]", self)

    def __iter__(self) -> StartedCoroutine:
        return self

    def __next__(self) -> object:
        return self.send(None)

    def send(self, value: object) -> object:
        """Return the awaited future first; afterwards continue the coroutine."""
        if self._is_first:
            self._is_first = False
            return self._waits_for
        return self._coroutine.send(value)

    def throw(self, error: BaseException, *_: object) -> object:
        """Raise an error, usually a cancellation, where the coroutine waits."""
        try:
            return self._coroutine.throw(error)
        finally:
            del error  # its traceback refers to this frame

    def close(self) -> None:
        """End the coroutine."""
        self._coroutine.close()


class Abandonable:
    """A coroutine that has run up to its first wait in the present task, and that can be left there.

    Awaiting this continues the coroutine in the present task, as `await` does, but waits by a separate
    future. So the caller can continue even if the coroutine, or a task that it waits for, ignores
    cancellations.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._outer: asyncio.Future[None] | None = None
        self._is_cancelled = self._is_abandoned = False

    def cancel(self) -> None:
        """Raise `CancelledError` where the coroutine waits. The present task is not cancelled."""
        self._is_cancelled = True
        _release(self._outer)

    def abandon(self) -> None:
        """Continue the coroutine no more: it is closed, and awaiting it ends."""
        self._is_abandoned = True
        _release(self._outer)

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            error = yield from self._wait(waits_for)
            if self._is_abandoned:
                self._close()
                return
            try:
                waits_for = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration:
                return
            finally:
                del error  # its traceback refers to this frame

    def _wait(self, waits_for: Any) -> Generator[Any, Any, BaseException | None]:
        """Wait for what the coroutine waits for; return what to raise in it."""
        try:
            if getattr(waits_for, "_asyncio_future_blocking", None) is None:
                yield waits_for  # one iteration of the event loop; the task refuses other values
                return self._take_cancellation()
            waits_for._asyncio_future_blocking = False  # noqa: SLF001 - as a task does with what it waits for
            while not (waits_for.done() or self._is_abandoned):
                error = yield from self._wait_once(waits_for)
                if error is not None and not waits_for.cancel(*error.args):
                    return error
        except GeneratorExit:
            self._close()
            raise
        except BaseException as error:  # noqa: BLE001 - raised where the coroutine waits
            return error
        return None

    def _wait_once(self, waits_for: asyncio.Future[Any]) -> Generator[Any, Any, BaseException | None]:
        """Wait for the future or a cancellation, and return the cancellation."""
        outer = self._outer = asyncio.get_running_loop().create_future()

        def release(_: object) -> None:
            _release(outer)

        waits_for.add_done_callback(release)
        try:
            yield from outer
        except asyncio.CancelledError as error:
            return error
        finally:
            waits_for.remove_done_callback(release)
            self._outer = None
        return self._take_cancellation()

    def _take_cancellation(self) -> BaseException | None:
        was_cancelled, self._is_cancelled = self._is_cancelled, False
        return asyncio.CancelledError() if was_cancelled else None

    def _close(self) -> None:
        try:
            self._coroutine.close()
        except BaseException as error:  # noqa: BLE001 - the border to users' code
            logger.error("%r does not end when it is closed: %s", self._coroutine, describe_error(error))  # noqa: TRY400


def _release(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
