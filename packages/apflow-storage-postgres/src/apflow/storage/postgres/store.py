"""PostgresStore: tasks in one database, for several processes."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, TypeVar

from apflow.core.errors import StoreError
from apflow.core.model.event import TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.tally import TreeTally
from apflow.core.model.task import Task
from apflow.core.model.usage import UsageEntry
from apflow.core.settings import Settings
from apflow.core.store.base import Capabilities, Change, Notice, NoticeKind, TaskQuery
from apflow.core.store.group_commit import ChangeResult, GroupCommit
from apflow.core.store.transfer import ExportReader, ExportWriter
from apflow.storage.postgres.address import read_address
from apflow.storage.postgres.bulk import export_database, load
from apflow.storage.postgres.calls import PostgresCalls
from apflow.storage.postgres.driver import Connection
from apflow.storage.postgres.iothread import IoThread
from apflow.storage.postgres.notices import Notices
from apflow.storage.postgres.query_copy import copy_sources
from apflow.storage.postgres.schema import LATEST
from apflow.storage.postgres.server import Link, Links, Server
from apflow.storage.postgres.statements import READ_EVENTS, RENEW, SIZE, TABLES, reserve, unowned
from apflow.storage.postgres.writer import Writer
from apflow.storage.sql.pages import read_page
from apflow.storage.sql.queries import (
    Statement,
    count_tasks,
    possible,
    read_tallies,
    select_by_id,
    select_tasks,
    select_tree,
    tally_trees,
)
from apflow.storage.sql.query import SqlQueryStore
from apflow.storage.sql.rows import task_rows
from apflow.storage.sql.usage import addition_of

T = TypeVar("T")
READERS = 3
RESERVED = timedelta(seconds=2)  # the limit for a process that looked for work to take it
MARGIN, LONG_LEASE = 4, timedelta(seconds=60)
PAGE = 2048  # rows that are decoded at once


def create_store(url: str, settings: Settings) -> PostgresStore:
    """Return the store of a PostgreSQL URL. Nothing is opened before the first operation."""
    return PostgresStore(
        url,
        lease=timedelta(seconds=settings.lease_seconds),
        event_retention=timedelta(days=settings.event_retention_days),
    )


class PostgresStore(SqlQueryStore):
    """A PostgreSQL database: `postgresql://user:password@host:5432/database?sslmode=require`.

    One thread holds the connections; batches are written one after the other, and a few connections read.

    Args:
        url: in any usual form; see `read_address`.
        lease: how long a run is its owner's after the owner gave a sign of life.
        event_retention: how long stored events are kept; None: always.
        patience: seconds for which a server that was lost is tried again.

    Raises:
        InvalidInputError: the URL cannot be read.
    """

    capabilities = Capabilities(
        is_durable=True,
        is_shared=True,
        has_attempts=True,
        has_usage=True,
        has_sql=True,
        has_custom_columns=True,
    )
    tables_version = LATEST

    def __init__(
        self,
        url: str,
        *,
        lease: timedelta = timedelta(seconds=15),
        event_retention: timedelta | None = None,
        patience: float = 30.0,
    ) -> None:
        address = read_address(url)
        self.url = address.url
        self._server = Server(address, patience)
        self._io = IoThread(self.url)
        self._readers = Links(self._server, READERS)
        self._lease = lease
        # A lease with more left was given before the server's clock was set back. The margin is wide,
        # because processes of one database may differ in their settings.
        self._longest_lease = max(LONG_LEASE, MARGIN * lease)
        self._keeper = Link(self._server)  # separate: a lease must not wait for readers or a writer
        self._notices = Notices(self._server)
        writer = Writer(self._server, lease, event_retention, self._notices.send)
        calls = PostgresCalls(self._server, self._io, lease)
        self.call_exchange = calls
        self._commit = _Commit(self._io, writer)
        self._group = GroupCommit(self._commit, self.url)
        # Also if the store is not closed, and at the end of the process.
        self._close = weakref.finalize(
            self,
            _close,
            self._group,
            self._io,
            (writer, self._readers, self._keeper, self._notices, calls),
        )

    @property
    def is_forked(self) -> bool:
        return self._group.guard.is_forked or self._io.guard.is_forked

    async def get(self, ids: Sequence[str]) -> dict[str, Task]:
        statement = select_by_id(ids)
        return {task.id: task for task in await self._tasks(statement)}

    async def tree(self, root_id: str) -> list[Task]:
        return sorted(await self._tasks(select_tree(root_id)), key=attrgetter("position", "id"))

    async def find(self, query: TaskQuery) -> list[Task]:
        return await self._tasks(select_tasks(query))

    async def count(self, query: TaskQuery) -> dict[TaskStatus, int]:
        rows = await self._read(lambda connection: _fetch(connection, count_tasks(query)))
        return {TaskStatus(status): number for status, number in rows}

    async def tallies(self, root_ids: Sequence[str]) -> dict[str, TreeTally]:
        statement = tally_trees(root_ids)
        return read_tallies(await self._read(lambda connection: _fetch(connection, statement)))

    async def events(self, root_id: str, after: int = 0, limit: int | None = None) -> list[TaskEvent]:
        if not possible([root_id]):
            return []
        statement = Statement(READ_EVENTS, [root_id, after, limit])
        rows = await self._read(lambda connection: _fetch(connection, statement))
        found = [event for (body,) in rows for event in read_page(root_id, body) if event.sequence > after]
        return found[:limit]

    async def renew(self, owner: str, root_ids: Sequence[str]) -> dict[str, bool]:
        if not root_ids:
            return {}
        self._check_open()
        return await self._io.run(_renewing(self._server, self._keeper, owner, list(root_ids), self._lease))

    async def unowned(self, owner: str, limit: int, root_ids: Sequence[str] | None = None) -> Sequence[Task]:
        del owner  # whose lease is over has lost the run, even if it asks itself
        reader = task_rows()
        text = unowned(reader.selected, is_among=root_ids is not None)
        parameters = [limit, self._longest_lease, *([] if root_ids is None else [list(root_ids)])]
        rows = await self._read(lambda connection: _fetch(connection, Statement(text, parameters)))
        return reader.tasks([rows])

    async def reserve(self, owner: str, limit: int, without: Collection[str] = ()) -> Sequence[Task]:
        del owner  # as in `unowned`
        reader = task_rows()
        statement = Statement(
            reserve(reader.selected),
            [limit, list(without), min(RESERVED, self._lease / 3), self._longest_lease],
        )
        rows = await self._read(lambda connection: _fetch(connection, statement))
        return reader.tasks([rows])

    def listen(self, on_notice: Callable[[Notice], object]) -> None:
        self._check_open()
        self._io.submit(self._notices.listen(on_notice))

    def announce(self, event: TaskEvent) -> None:
        notice = Notice(NoticeKind.LIVE, event.root_task_id, event)
        self._io.soon(lambda: self._notices.send([notice]))

    async def export_to(self, writer: ExportWriter) -> None:
        self._check_open()
        await self._io.run(_in_bulk(self._server, partial(export_database, writer=writer)))

    async def vacuum(self) -> tuple[int, int]:
        self._check_open()
        sizes: list[int] = []

        async def work(connection: Connection) -> None:
            sizes.append(await connection.fetchval(SIZE))
            for table in TABLES:
                await connection.execute(f"VACUUM (ANALYZE) {table}")
            sizes.append(await connection.fetchval(SIZE))

        await self._io.run(_in_bulk(self._server, work))
        before, after = sizes
        return before, after

    async def import_from(self, reader: ExportReader) -> None:
        self._check_open()
        await self._io.run(_in_bulk(self._server, partial(load, reader=reader, url=self.url)))

    async def close(self) -> None:
        self.is_closed = True
        self._close()

    async def add_usage(self, entries: Sequence[UsageEntry]) -> None:
        for entry in entries:
            await self._group.run(partial(self._commit.add_usage, entry))

    async def _write_record(self, statement: Statement) -> int | None:
        return await self._group.run(partial(self._commit.write_record, statement))

    async def _read_records(self, statement: Statement) -> Sequence[Sequence[Any]]:
        return await self._read(lambda connection: _fetch(connection, statement))

    async def _copy_sources(self, names: Sequence[str], folder: Path) -> Mapping[str, Path]:
        self._check_open()
        files = {name: folder / f"{name}.csv" for name in names}
        await self._io.run(_in_bulk(self._server, partial(copy_sources, files=files)))
        return files

    async def _tasks(self, statement: Statement) -> list[Task]:
        """Read tasks, of the columns that they have at this moment."""
        reader = task_rows()
        rows = await self._read(lambda connection: _fetch(connection, statement))
        return reader.tasks(rows[start : start + PAGE] for start in range(0, len(rows), PAGE))

    async def _read(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        """Read with a connection that is free."""
        self._check_open()
        return await self._io.run(_reading(self._server, self._readers, read))

    def _check_open(self) -> None:
        if self.is_closed:
            raise StoreError(f"The store {self.url} is closed.")


class _Closable(Protocol):
    async def close(self) -> None: ...


class _Commit:
    """Commits in the thread that holds the connections. Knows nothing of the store itself."""

    def __init__(self, io: IoThread, writer: Writer) -> None:
        self._io, self._writer = io, writer

    def __call__(self, changes: list[Change]) -> Sequence[ChangeResult]:
        return self._io.submit(self._writer.commit(changes)).result()

    def write_record(self, statement: Statement) -> int | None:
        """Write a record between two batches."""
        return self._io.submit(self._writer.write_record(statement)).result()

    def add_usage(self, entry: UsageEntry) -> None:
        """Add what a call of a model used, between two batches."""
        self._io.submit(self._writer.add_usage(entry.call_id, addition_of(entry))).result()


async def _reading(server: Server, readers: Links, read: Callable[[Connection], Awaitable[T]]) -> T:
    async def once() -> T:
        async with readers.connection() as connection:
            return await read(connection)

    async with server.translating_errors():
        return await server.patiently(once)


async def _in_bulk(server: Server, work: Callable[[Connection], Awaitable[None]]) -> None:
    """Do work that cannot be repeated, with a connection for it alone."""
    link = Link(server)
    try:
        async with server.translating_errors(), link.connection() as connection:
            await work(connection)
    finally:
        await link.close()


async def _renewing(
    server: Server, keeper: Link, owner: str, root_ids: list[str], lease: timedelta
) -> dict[str, bool]:
    """Renew leases. Later than a third of a lease, the next time will do."""
    soon = lease.total_seconds() / 3

    async def once() -> dict[str, bool]:
        async with asyncio.timeout(soon), keeper.connection() as connection:
            rows = await connection.fetch(RENEW, owner, root_ids, lease)
            return {row[0]: row[1] for row in rows}

    async with server.translating_errors():
        return await server.patiently(once, patience=soon)


async def _fetch(connection: Connection, statement: Statement) -> list[Any]:
    return await connection.fetch(statement.text, *statement.parameters)


def _close(group: GroupCommit, io: IoThread, opened: Sequence[_Closable]) -> None:
    if io.is_current or group.is_current:
        # A store that was never closed is collected in a thread that this waits for.
        threading.Thread(target=_close, args=(group, io, opened), name="apflow:close").start()
        return
    group.close()

    async def let_go() -> None:
        for each in opened:
            await each.close()

    if io.is_running:
        io.submit(let_go()).result()
    io.close()
