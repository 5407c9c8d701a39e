"""How many executor calls may run at once: in this process, over all its trees, per executor and host."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from weakref import WeakValueDictionary

from apflow.core.process.identity import ForkLock, after_fork_in_child

Wake = Callable[[], None]


class FairSemaphore:
    """A count of free places, shared by runs on any event loop and thread.

    Runs wait in line, each known by what wakes it, so that a large tree does not keep the others out: a
    free place is left to earlier waiters. A woken waiter takes a place or leaves the line.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._line: dict[Wake, None] = {}
        self._lock = threading.Lock()

    def take(self, wanted: int, by: Wake) -> int:
        """Acquire up to `wanted` places, leaving one for each earlier waiter; return their number."""
        with self._lock:
            before = 0
            for each in islice(self._line, max(0, self.limit - self._used)):
                if each == by:
                    break
                before += 1
            taken = max(0, min(wanted, self.limit - self._used - before))
            if not taken:
                return 0
            self._used += taken
            self._line.pop(by, None)
            woken = self._next()
        _wake(woken)
        return taken

    def give_back(self, count: int = 1) -> None:
        """Release places and wake the waiters."""
        with self._lock:
            self._used -= count
            woken = self._next()
        _wake(woken)

    def wait(self, by: Wake) -> None:
        """Join the line: `by` is called, from any thread, when there is a place, possibly immediately."""
        with self._lock:
            self._line.setdefault(by)
            is_free = by in self._next()
        if is_free:
            by()

    def leave(self, by: Wake) -> None:
        """Leave the line, and wake the next waiters."""
        if by not in self._line:
            return
        with self._lock:
            self._line.pop(by, None)
            woken = self._next()
        _wake(woken)

    def _next(self) -> list[Wake]:
        return list(islice(self._line, max(0, self.limit - self._used)))


def _wake(woken: list[Wake]) -> None:
    for wake in woken:
        wake()


_process: dict[str, FairSemaphore] = {}
_lock = ForkLock()


def process_semaphore(limit: int) -> FairSemaphore:
    """Return the places of this process, `limit` of them."""
    return _named("", limit)


def executor_semaphore(executor_id: str, limit: int) -> FairSemaphore:
    """Return the places of one executor in this process."""
    return _named(executor_id, limit)


def isolation_semaphore() -> FairSemaphore:
    """Return the one place of this process for tasks whose process has died during their call."""
    return _named(":isolation", 1)  # no executor can have this id


def _named(name: str, limit: int) -> FairSemaphore:
    with _lock.lock:
        slots = _process.get(name)
        if slots is None:
            slots = _process[name] = FairSemaphore(limit)
        slots.limit = limit
        return slots


_of_hosts: WeakValueDictionary[str, FairSemaphore] = WeakValueDictionary()


@asynccontextmanager
async def host_semaphore(executor_id: str, host: str, limit: int) -> AsyncGenerator[None]:
    """Hold a place among the `limit` calls of an executor that may be at one host at once; wait for it."""
    with _lock.lock:
        slots = _of_hosts.setdefault(f"{executor_id} {host}", FairSemaphore(limit))
    slots.limit = limit
    loop, is_free = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(is_free.set)

    try:
        while not slots.take(1, wake):
            slots.wait(wake)
            await is_free.wait()
            is_free.clear()
    except BaseException:
        slots.leave(wake)
        raise
    try:
        yield
    finally:
        slots.give_back()


def _start_with_all_free() -> None:
    """In a forked process: the calls that hold places are not there."""
    _process.clear()
    _of_hosts.clear()


after_fork_in_child(_start_with_all_free)
