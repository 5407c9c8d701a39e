"""DuckDBStore: tasks in one file, used by one process at a time."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from apflow.core.errors import StoreError
from apflow.core.model.event import TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.tally import TreeTally
from apflow.core.model.task import Task
from apflow.core.model.usage import UsageEntry
from apflow.core.service.local_server import LocalServer
from apflow.core.settings import Settings
from apflow.core.store.base import Capabilities, Change, JournalState, TaskQuery
from apflow.core.store.duckdb_url import MEMORY, file_of
from apflow.core.store.group_commit import GroupCommit
from apflow.core.store.transfer import ExportReader, ExportWriter
from apflow.storage.duckdb.backup import back_up
from apflow.storage.duckdb.database import TRIM_EVERY, Database
from apflow.storage.duckdb.export import export_database
from apflow.storage.duckdb.failure import is_invalidated
from apflow.storage.duckdb.large_values import JsonReader, ValueMissingError, full_texts
from apflow.storage.duckdb.query_copy import SourceCopy
from apflow.storage.duckdb.statements import READ_EVENTS, SEQUENCES, among
from apflow.storage.duckdb.writer import Writer
from apflow.storage.sql.columns import task_columns
from apflow.storage.sql.ledger import EVER
from apflow.storage.sql.migrations import LATEST
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

T = TypeVar("T")
READERS = 2
PAGE = 2048  # rows per fetch: the size of DuckDB's vectors


def create_store(url: str, settings: Settings) -> DuckDBStore:
    """Return the store of a `duckdb://` URL. The first operation opens the file."""
    return DuckDBStore(
        url,
        memory_limit=settings.duckdb_memory_limit,
        event_retention=timedelta(days=settings.event_retention_days),
        has_migration_copy=settings.migration_copy,
    )


class DuckDBStore(SqlQueryStore):
    """A DuckDB file: `duckdb:///relative.duckdb`, `duckdb:////absolute.duckdb` or `duckdb:///:memory:`.

    One thread writes in batches. A few threads read, each from a snapshot, without waiting for the writer.
    """

    tables_version = LATEST

    def __init__(
        self,
        url: str = f"duckdb:///{MEMORY}",
        *,
        memory_limit: str = "512MB",
        event_retention: timedelta | None = None,
        has_migration_copy: bool = True,
    ) -> None:
        path = file_of(url)
        self.url = f"duckdb:///{path or MEMORY}"
        self.file = path
        self.capabilities = Capabilities(
            is_durable=path is not None,
            has_attempts=True,
            has_usage=True,
            has_sql=True,
            has_custom_columns=True,
        )
        self._local = None if path is None else LocalServer(self, path)
        started = (lambda: None) if self._local is None else self._local.start
        self._database = Database(
            self.url, path, memory_limit, on_open=started, has_migration_copy=has_migration_copy
        )
        self._writer = Writer(self._database, event_retention)
        self._database.recover = self._writer.recover
        self._group = GroupCommit(self._writer.commit, self.url)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix=f"read {self.url}")
        # Queries copy one after the other, and take no thread from other reads.
        self._copies = ThreadPoolExecutor(1, thread_name_prefix=f"copy {self.url}")
        # Also runs if the store is never closed, and at the end of the process.
        parts = (self._local, self._group, self._readers, self._copies, self._writer, self._database)
        self._close = weakref.finalize(self, _close, *parts)

    async def get(self, ids: Sequence[str]) -> dict[str, Task]:
        self._check_usable()
        new = self._writer.added(ids)
        if new and new.keys() >= set(ids):
            return {task_id: new[task_id] for task_id in ids}
        statement = select_by_id(ids, among)
        return {task.id: task for task in await self._read(lambda: self._snapshot(statement, ids))}

    async def tree(self, root_id: str) -> list[Task]:
        def read() -> list[Task]:
            first = self._writer.ledger.first_number(root_id)
            tasks = self._snapshot(select_tree(root_id, first), [root_id])
            if self._writer.ledger.first_number(root_id) < first:  # older rows may have joined the tree
                tasks = self._snapshot(select_tree(root_id), [root_id])
            # The rows arrive almost in this order; ORDER BY would double the cost of planning.
            return sorted(tasks, key=attrgetter("position", "id"))

        self._check_usable()
        new = self._writer.added([root_id])
        if root_id in new:
            tasks = [task for task in new.values() if task.root_id == root_id]
            return sorted(tasks, key=attrgetter("position", "id"))
        return await self._read(read)

    async def find(self, query: TaskQuery) -> list[Task]:
        return await self._read(lambda: self._snapshot(select_tasks(query, among), ()))

    async def count(self, query: TaskQuery) -> dict[TaskStatus, int]:
        statement = count_tasks(query, among)

        def read() -> dict[TaskStatus, int]:
            with self._database.cursor() as cursor:
                rows = self._database.execute(cursor, *statement).fetchall()
            return {TaskStatus(status): number for status, number in rows}

        return await self._read(read)

    async def tallies(self, root_ids: Sequence[str]) -> dict[str, TreeTally]:
        statement = tally_trees(root_ids, among)

        def read() -> dict[str, TreeTally]:
            with self._database.cursor() as cursor:
                return read_tallies(self._database.execute(cursor, *statement).fetchall())

        return await self._read(read)

    async def events(self, root_id: str, after: int = 0, limit: int | None = None) -> list[TaskEvent]:
        if not possible([root_id]):
            return []

        def read() -> list[TaskEvent]:
            if self._writer.last_events.get(root_id) == after:
                return []
            with self._database.cursor() as cursor:
                try:
                    bodies = self._pages(cursor, root_id, after, limit)
                except ValueMissingError:  # the tree was deleted meanwhile
                    cursor.begin()
                    bodies = self._pages(cursor, root_id, after, limit)
                    cursor.commit()
            return [event for body in bodies for event in read_page(root_id, body) if event.sequence > after]

        return (await self._read(read))[:limit]

    def _pages(
        self, cursor: duckdb.DuckDBPyConnection, root_id: str, after: int, limit: int | None
    ) -> list[str]:
        run, ledger = partial(self._database.execute, cursor), self._writer.ledger
        since = ledger.stored_since(root_id)
        rows = run(READ_EVENTS, [root_id, after, since, limit]).fetchall()
        if ledger.stored_since(root_id) < since:  # the clock was set back meanwhile
            rows = run(READ_EVENTS, [root_id, after, EVER, limit]).fetchall()
        return full_texts([row[0] for row in rows], run)

    async def discard_journal(self) -> Path | None:
        self._writer.discards_journal = True
        await self._read(self._opened)
        return self._writer.discarded

    async def backup(self, path: Path) -> None:
        await self._read(partial(back_up, self._database, path))

    def journal(self) -> JournalState | None:
        return None if self.file is None else JournalState(*self._writer.application.figures())

    async def checkpoint(self) -> tuple[int, int]:
        return await self._group.run(self._writer.checkpoint)

    async def vacuum(self) -> tuple[int, int]:
        return await self._group.run(self._writer.vacuum)

    async def export_to(self, writer: ExportWriter) -> None:
        try:
            await self._read(partial(export_database, self._database, writer))
        except asyncio.CancelledError:
            writer.is_cancelled = True  # a thread does not end by itself
            raise

    async def import_from(self, reader: ExportReader) -> None:
        try:
            await self._group.run(partial(self._writer.load, reader))
        except asyncio.CancelledError:
            reader.is_cancelled = True
            raise

    async def close(self) -> None:
        if self._local is not None and self._local.is_answering and not self._group.guard.is_forked:
            await asyncio.to_thread(self._local.stop)  # answers may need this event loop to end
        self.is_closed = True
        if not self._group.guard.is_forked:
            self._readers.shutdown()
            self._copies.shutdown()
        self._close()

    async def add_usage(self, entries: Sequence[UsageEntry]) -> None:
        for entry in entries:
            await self._group.run(partial(self._writer.add_usage, entry))

    async def _write_record(self, statement: Statement) -> int | None:
        return await self._group.run(partial(self._writer.write_record, statement))

    async def _read_records(self, statement: Statement) -> Sequence[Sequence[Any]]:
        def read() -> list[Any]:
            with self._database.cursor() as cursor:
                return self._database.execute(cursor, *statement).fetchall()

        return await self._read(read)

    async def _copy_sources(self, names: Sequence[str], folder: Path) -> Mapping[str, Path]:
        copy = SourceCopy(self._database, names, folder)
        try:
            return await self._read(copy.run, self._copies)
        except asyncio.CancelledError:
            await asyncio.to_thread(copy.stop)
            raise

    async def _read(self, read: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        """Run a read in a thread of a pool; None: that of the readers."""
        self._check_usable()
        if task_columns() is not self._writer.columns:
            await self._group.submit(Change())  # adds the columns
        loop = asyncio.get_running_loop()
        number = self._writer.application.last  # what is acknowledged by now
        try:
            try:
                return await loop.run_in_executor(pool or self._readers, self._reading, read, number)
            except duckdb.Error as error:
                if not is_invalidated(error):
                    raise
                # Caused by this read or by a concurrent write: repeat it in a new connection.
                await self._group.run(self._writer.reopen_if_given_up)
                return await loop.run_in_executor(pool or self._readers, self._reading, read, 0)
        except duckdb.Error as error:
            raise self._database.failed(error, "cannot be read") from error

    def _opened(self) -> None:
        """Open the database."""
        with self._database.cursor():
            pass

    def _check_usable(self) -> None:
        if self.is_closed:
            raise StoreError(f"The store {self.url} is closed.")
        self._group.guard.check()

    def _reading(self, read: Callable[[], T], number: int) -> T:
        """Read when the database has the records of the journal up to a number."""
        try:
            self._writer.application.wait(number)
            return read()
        finally:
            self._database.trim_if_due()

    def _snapshot(self, statement: Statement, roots: Sequence[str]) -> list[Task]:
        """Read tasks and, for the tasks in `roots`, the number of the last event."""
        with self._database.cursor() as cursor:
            tasks = self._as_of_one_moment(cursor, statement, roots)
        if len(tasks) >= TRIM_EVERY:
            self._database.trim()
        return tasks

    def _as_of_one_moment(
        self, cursor: duckdb.DuckDBPyConnection, statement: Statement, roots: Sequence[str]
    ) -> list[Task]:
        """Read rows and event numbers that are consistent: the rows include all events up to the number.

        Usually the writer knows the numbers, and they do not change while the rows are read. Otherwise the
        numbers and the rows are read in one transaction.
        """
        known = self._known(roots)
        if None not in known.values():
            with suppress(ValueMissingError):  # a row changed before its value was read
                tasks = self._fetch(cursor, statement)
                before, known = known, self._known(roots)
                if known == before:
                    return _numbered(tasks, known)
        cursor.begin()  # fixes the snapshot; the known numbers are older
        tasks = self._fetch(cursor, statement)
        found = [task.id for task in tasks if task.id == task.root_id and task.id in known]
        now = self._known(found)
        unsure = [each for each in found if now[each] is None or now[each] != known[each]]
        if unsure:
            rows = self._database.execute(cursor, SEQUENCES, [unsure]).fetchall()
            known |= dict.fromkeys(unsure, 0) | {root_id: last for root_id, last, _ in rows}
        cursor.commit()
        return _numbered(tasks, known)

    def _known(self, roots: Sequence[str]) -> dict[str, int | None]:
        return {root_id: self._writer.last_events.get(root_id) for root_id in roots}

    def _fetch(self, cursor: duckdb.DuckDBPyConnection, statement: Statement) -> list[Task]:
        rows, read_json = task_rows(), JsonReader()
        self._database.execute(cursor, *statement)
        tasks = rows.tasks(iter(lambda: cursor.fetchmany(PAGE), []), read_json)
        read_json.resolve(tasks, partial(self._database.execute, cursor))
        return tasks


def _close(
    local: LocalServer | None,
    group: GroupCommit,
    readers: ThreadPoolExecutor,
    copies: ThreadPoolExecutor,
    writer: Writer,
    database: Database,
) -> None:
    if group.guard.is_forked:
        return  # the parent process still uses the file
    if local is not None:
        local.stop()
    group.close()
    copies.shutdown(wait=False)
    readers.shutdown(wait=False)  # this may run in one of its threads, during garbage collection
    writer.close()
    database.close()


def _numbered(tasks: list[Task], last_events: Mapping[str, int | None]) -> list[Task]:
    """Set the number of the last event on roots. The root stores it if old events were removed."""
    for task in tasks:
        if task.id == task.root_id:
            task.last_event = max(task.last_event, last_events.get(task.id) or 0)
    return tasks
