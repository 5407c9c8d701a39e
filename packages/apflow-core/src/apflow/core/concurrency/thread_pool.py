"""A bounded thread pool for blocking libraries, separate from asyncio's default pool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakSet

from apflow.core.process.identity import after_fork_in_child

T = TypeVar("T")

logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0  # for a call to end that was stopped


_pools: WeakSet[ThreadPool] = WeakSet()
_waiting: WeakSet[asyncio.Future[Any]] = WeakSet()  # calls that have not ended


def has_running_calls() -> bool:
    """Return whether a call in any pool of this process has not ended."""
    return bool(_waiting)


class ThreadPool:
    """A bounded pool of threads, started at the first need, shared by every event loop of the process."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._pool: ThreadPoolExecutor | None = None
        self._lock = Lock()  # guards the pool's making
        _pools.add(self)

    async def run(self, call: Callable[[], T], *, stop: Callable[[], object] | None = None) -> T:
        """Call a function in a thread and wait for it.

        If this is cancelled, `stop` is called, in another thread, and is to make the call end; the end of
        the call is waited for, some seconds long, before `CancelledError` is raised. A call that has not
        begun by then never does.
        """
        future = self._threads().submit(copy_context().run, call)
        waiting = asyncio.wrap_future(future)
        _waiting.add(waiting)
        waiting.add_done_callback(_waiting.discard)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if not future.cancel():
                await self._end(waiting, stop)
            raise

    async def _end(self, waiting: asyncio.Future[T], stop: Callable[[], object] | None) -> None:
        if stop is not None:
            stopping = asyncio.get_running_loop().run_in_executor(None, partial(_call, stop))
            await asyncio.wait([stopping], timeout=STOP_SECONDS)
        _, running = await asyncio.wait([waiting], timeout=STOP_SECONDS)
        if running:
            logger.error("%s: a call did not end within %g s of being stopped.", self._name, STOP_SECONDS)
        elif not waiting.cancelled():
            waiting.exception()  # seen: it was stopped, and how it ended is of no interest

    def forget_threads(self) -> None:
        """In a forked process: the threads are not there. New ones are started at the next need."""
        self._pool, self._lock = None, Lock()

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._size, thread_name_prefix=self._name)
            return self._pool


def _call(stop: Callable[[], object]) -> None:
    try:
        stop()
    except Exception:
        logger.exception("What was to stop a call has failed.")


def _start_without_threads() -> None:
    for pool in list(_pools):
        pool.forget_threads()


after_fork_in_child(_start_without_threads)
