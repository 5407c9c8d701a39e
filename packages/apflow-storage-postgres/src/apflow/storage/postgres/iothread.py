"""A thread that runs an event loop.

The driver's connections live there, so that the store is not bound to a loop of the user, can be used from
several threads, and continues while a loop of the user is blocked.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar
from weakref import WeakSet

from apflow.core.errors import StoreError
from apflow.core.process.identity import ForkGuard

T = TypeVar("T")


class IoThread:
    """An event loop in a thread, started at the first need."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.guard = ForkGuard(name)
        self._lock = threading.Lock()  # guards what follows
        self._loop: _Loop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the thread.

        Raises:
            StoreError: this was closed before.
            StoreForkedError: another process used this first, and this one was forked from it.
        """
        try:
            self.guard.check()
            return asyncio.run_coroutine_threadsafe(work, self._running())
        except BaseException:
            work.close()
            raise

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread and wait for it, in whatever loop the caller has."""
        return await asyncio.wrap_future(self.submit(work))

    def soon(self, call: Callable[[], object]) -> None:
        """Call a function in the thread, without waiting for it. Nothing happens where this is closed."""
        if self.guard.is_forked:
            return
        with self._lock:
            if self._loop is not None and not self._is_closed:
                self._loop.call_soon_threadsafe(call)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return self._thread is threading.current_thread()

    @property
    def is_running(self) -> bool:
        """Whether anything was ever run here, and this is not closed."""
        return self._loop is not None and not self._is_closed and not self.guard.is_forked

    def close(self) -> None:
        """End what still runs, and the thread. May be repeated. In a forked process, nothing happens."""
        if self.guard.is_forked:
            return
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._is_closed:
                raise StoreError(f"{self._name} is closed.")
            if self._loop is None:
                self._loop = _Loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()
            return self._loop


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that knows what it has connected.

    A connection that is given up while it is being made says farewell by TLS, which may take longer than
    the loop lives (asyncpg 0.32).
    """

    def __init__(self) -> None:
        super().__init__()
        self._connected: WeakSet[asyncio.WriteTransport] = WeakSet()

    async def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await super().create_connection(*args, **kwargs)
        self._connected.add(transport)
        return transport, protocol

    async def end(self) -> None:
        """End what still runs, and every connection."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for transport in list(self._connected):
            transport.abort()
        await asyncio.sleep(0)  # transports let go of their sockets in the turn after the one that ends them


def _serve(loop: _Loop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.end())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
