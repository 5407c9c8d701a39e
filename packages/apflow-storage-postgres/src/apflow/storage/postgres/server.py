"""Connections to the server: opened on first use, and reopened after they are lost."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import asyncpg

from apflow.core.errors import StoreError
from apflow.storage.postgres.address import Address
from apflow.storage.postgres.driver import Connection
from apflow.storage.postgres.failure import explain, is_connection_lost, is_lost_race
from apflow.storage.postgres.schema import add_columns, migrate
from apflow.storage.sql.columns import BASE, TaskColumn, task_columns

logger = logging.getLogger(__name__)

T = TypeVar("T")
RACES = 5  # attempts of what loses races
FIRST_WAIT, MAX_WAIT_SECONDS = 0.05, 2.0  # seconds between attempts
COMMAND_TIMEOUT = 75.0  # seconds; more than the server's own: where it says nothing any more


class Server:
    """A database on a server. The first connection migrates it to the newest version.

    Everything here runs in one event loop. `patience`: seconds for which a lost server is tried again;
    one that was never there is not waited for.
    """

    def __init__(self, address: Address, patience: float = 30.0) -> None:
        self.address, self.patience = address, patience
        self.columns: tuple[TaskColumn, ...] = BASE  # those that the table is known to have
        self._lock = asyncio.Lock()  # held while the schema is looked at
        self._was_there = False

    @property
    def url(self) -> str:
        """The URL without a password."""
        return self.address.url

    async def connect(self) -> Connection:
        """Return a new connection to a database of the newest version."""
        address = self.address
        connection: Connection = await asyncpg.connect(
            address.dsn,
            timeout=address.connect_timeout,
            command_timeout=COMMAND_TIMEOUT,
            statement_cache_size=address.statement_cache_size,
            server_settings=dict(address.session),
        )
        if not self._was_there:
            try:
                async with self._lock:
                    await migrate(connection, self.url)
            except BaseException:
                connection.terminate()
                raise
            self._was_there = True
        return connection

    async def learn_columns(self, connection: Connection) -> None:
        """Give the table the custom columns that tasks have by now."""
        async with self._lock:
            wanted = task_columns()
            if wanted is not self.columns:
                await add_columns(connection, wanted)
                self.columns = wanted

    async def patiently(self, work: Callable[[], Awaitable[T]], patience: float | None = None) -> T:
        """Do what may be done twice, again where the connection or a race was lost.

        Args:
            patience: seconds; None for the server's own.

        Raises:
            StoreError: the server cannot be reached, or not for too long.
        """
        races, wait = 0, FIRST_WAIT
        until = time.monotonic() + (self.patience if patience is None else patience)
        while True:
            try:
                return await work()
            except Exception as error:
                if is_lost_race(error) and races < RACES:
                    races += 1
                elif not is_connection_lost(error) or not self._may_wait(error) or time.monotonic() > until:
                    raise
                logger.info("%s: tried again in %.2g s: %s", self.url, wait, error)
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  so that processes do not meet
            wait = min(MAX_WAIT_SECONDS, wait * 2)

    def _may_wait(self, error: Exception) -> bool:
        return self._was_there or isinstance(error, asyncpg.CannotConnectNowError)

    @asynccontextmanager
    async def translating_errors(self) -> AsyncGenerator[None]:
        """Turn the driver's errors into those of the store."""
        try:
            yield
        except Exception as error:
            said = explain(error, self.url)
            if said is error:
                raise
            raise said from error


class Link:
    """One connection, for one user at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._is_closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Give the connection, a new one where it was lost. One that was left in the middle is dropped."""
        async with self._lock:
            connection = self._connection
            if self._is_closed:
                raise StoreError(f"The store {self._server.url} is closed.")
            if connection is None or connection.is_closed():
                connection = self._connection = await self._server.connect()
            try:
                if task_columns() is not self._server.columns:
                    await self._server.learn_columns(connection)
                yield connection
            except BaseException as error:
                if connection.is_closed() or connection.is_in_transaction() or not _is_answer(error):
                    connection.terminate()
                    self._connection = None
                raise

    async def close(self) -> None:
        """Let go of the connection."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.close(timeout=2)


class Links:
    """A few connections, for as many users at a time."""

    def __init__(self, server: Server, size: int) -> None:
        self._all = [Link(server) for _ in range(size)]
        self._free: asyncio.LifoQueue[Link] = asyncio.LifoQueue()  # the last one used is surely connected
        for link in self._all:
            self._free.put_nowait(link)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Give a connection that is free, once there is one."""
        link = await self._free.get()
        try:
            async with link.connection() as connection:
                yield connection
        finally:
            self._free.put_nowait(link)

    async def close(self) -> None:
        """Let go of all of them."""
        for link in self._all:
            await link.close()


def _is_answer(error: BaseException) -> bool:
    """Return whether the connection is still usable: the server or the driver refused a statement."""
    return isinstance(error, asyncpg.PostgresError | asyncpg.DataError | StoreError) and not (
        is_connection_lost(error)
    )
