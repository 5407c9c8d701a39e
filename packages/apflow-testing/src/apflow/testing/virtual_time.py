"""An event loop on which time passes without waiting.

When the loop has nothing to do before its next timer, it moves its clock to that timer instead of sleeping.
Sleeps, timeouts and waits for retries therefore end at once, in their order. While something outside of the
loop is at work (a thread, a connection, a child process), the loop waits in real time, because
the result can arrive at any moment.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from apflow.core.concurrency.thread_pool import has_running_calls

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for input, or moves the clock of the loop to the end of the wait."""

    def __init__(self) -> None:
        super().__init__()
        self.may_jump: Callable[[], bool] = lambda: False
        self.jumped = 0.0  # seconds

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or not self.may_jump():
            return super().select(timeout)
        found = super().select(0)
        if not found:
            self.jumped += timeout
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves to the next timer whenever the loop is idle."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        self._outside = 0  # calls in threads
        super().__init__(self._jumping)
        self._own_inputs = len(self._jumping.get_map())  # the pipe that wakes the loop
        self._jumping.may_jump = self._is_alone

    def time(self) -> float:
        """Return the time of the loop's clock, in seconds."""
        return super().time() + self._jumping.jumped

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call a function in a thread. Time does not jump meanwhile."""
        called = super().run_in_executor(executor, func, *args)
        self._outside += 1
        called.add_done_callback(self._forget)
        return called

    async def shutdown_default_executor(self, *arguments: Any) -> None:
        """Wait for the end of the threads of the default executor. Time does not jump meanwhile."""
        self._outside += 1  # since Python 3.12, this has a timeout
        try:
            await super().shutdown_default_executor(*arguments)
        finally:
            self._outside -= 1

    def _forget(self, _: object) -> None:
        self._outside -= 1

    def _is_alone(self) -> bool:
        """Return whether nothing outside of the loop can wake it."""
        if self._outside or has_running_calls() or len(self._jumping.get_map()) > self._own_inputs:
            return False
        # Until Python 3.12, a thread waits for the end of each child process.
        return not any("waitpid-" in thread.name for thread in threading.enumerate())
