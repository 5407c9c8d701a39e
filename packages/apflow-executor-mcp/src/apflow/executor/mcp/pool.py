"""The connections of an event loop, kept between the tasks of a tree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from typing import Final

from apflow.core.concurrency.loop_local import LoopLocal
from apflow.executor.mcp.connection import Connection
from apflow.executor.mcp.link import Listener
from apflow.executor.mcp.request import Target
from apflow.executor.mcp.sampling import Sampler

IDLE_SECONDS: Final = 10.0  # that a connection is kept without a task that uses it
MAX_IDLE: Final = 32  # connections of one loop that are kept; the oldest is closed


class Connections:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self._open: dict[Hashable, Connection] = {}
        self._idle: dict[Connection, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def use(
        self, key: Hashable, target: Target, listener: Listener, sampler: Sampler | None = None
    ) -> AsyncGenerator[Connection]:
        """Yield a connection that other tasks with the same key may use at the same time.

        A connection that may not be used again is closed when its last user has left, who waits for that.

        Args:
            sampler: answers requests of the server for a language model; such a connection has one user.
        """
        connection = self._take(key, target, sampler)
        connection.link.listeners.add(listener)
        try:
            yield connection
        finally:
            connection.link.listeners.discard(listener)
            await self._leave(key, connection)

    async def close(self) -> None:
        """Close all of them."""
        for timer in self._idle.values():
            timer.cancel()
        self._idle.clear()
        for connection in [*self._open.values()]:
            self._close_later(connection)
        self._open.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _take(self, key: Hashable, target: Target, sampler: Sampler | None) -> Connection:
        connection = self._open.get(key)
        if connection is None or not connection.is_usable:
            connection = self._open[key] = Connection(target, sampler)
        timer = self._idle.pop(connection, None)
        if timer is not None:
            timer.cancel()
        connection.users += 1
        return connection

    async def _leave(self, key: Hashable, connection: Connection) -> None:
        connection.users -= 1
        if connection.users:
            return
        if connection.is_for_one or not (connection.is_usable and connection.is_open):
            self._forget(key, connection)
            await asyncio.shield(self._close_later(connection))
            return
        loop = asyncio.get_running_loop()
        self._idle[connection] = loop.call_later(IDLE_SECONDS, self._drop, key, connection)
        if len(self._idle) > MAX_IDLE:
            oldest = next(iter(self._idle))
            self._idle.pop(oldest).cancel()
            self._drop(next(each for each, kept in self._open.items() if kept is oldest), oldest)

    def _drop(self, key: Hashable, connection: Connection) -> None:
        """Close a connection that was not used for a while."""
        self._idle.pop(connection, None)
        self._forget(key, connection)
        self._close_later(connection)

    def _forget(self, key: Hashable, connection: Connection) -> None:
        if self._open.get(key) is connection:
            del self._open[key]

    def _close_later(self, connection: Connection) -> asyncio.Task[None]:
        task = asyncio.create_task(connection.close(), name="apflow:mcp:close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task


_connections = LoopLocal(Connections, Connections.close)


async def connections() -> Connections:
    """Return the connections of the running loop."""
    return await _connections.get()


async def close_connections() -> None:
    """Close the connections of the running loop."""
    await _connections.close()
