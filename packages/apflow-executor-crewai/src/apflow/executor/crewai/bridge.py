"""Work on the event loop for code that runs in a thread, until the work is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Stopped(BaseException):
    """Ends a crew. It is not an `Exception`, because CrewAI repeats what fails with one."""


class LoopBridge:
    """Runs coroutines on the event loop that is running now, in the present context.

    The context holds who wrote the tree and whose budget pays for calls of models. CrewAI starts threads
    without it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._running: set[asyncio.Task[Any]] = set()
        self._is_stopped = False

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine and wait for it. Call it in a thread without an event loop.

        Args:
            make: called on the event loop.

        Raises:
            Stopped: `stop` was called, before or meanwhile.
        """
        self.check()
        waiting: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._start, make, waiting, context=self._context)
        try:
            return waiting.result()
        except BaseException:
            self.check()
            raise

    def send(self, call: Callable[[], object]) -> None:
        """Make the event loop call a function soon. Thread-safe."""
        with suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(call, context=self._context)

    def check(self) -> None:
        """Raise `Stopped` if `stop` was called."""
        if self._is_stopped:
            raise Stopped

    def stop(self) -> None:
        """Cancel the running coroutines, and refuse new ones. Thread-safe."""
        self._is_stopped = True
        self.send(self._cancel)

    def _start(self, make: Callable[[], Coroutine[Any, Any, T]], waiting: Future[T]) -> None:
        if self._is_stopped:
            waiting.cancel()
            return
        task = self._loop.create_task(make(), name="apflow:crew")
        self._running.add(task)
        task.add_done_callback(partial(self._end, waiting))

    def _end(self, waiting: Future[T], task: asyncio.Task[T]) -> None:
        self._running.discard(task)
        if task.cancelled():
            waiting.cancel()
        elif (error := task.exception()) is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(task.result())

    def _cancel(self) -> None:
        for task in self._running:
            task.cancel()
