"""The writer thread: decides batches of changes with the ledger, and stores what they come to.

A small batch is acknowledged when the journal has it, and applied to the database later. Anything else is
written to the database at once, after all that the journal has.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb

from apflow.core.errors import StoreError, StoreUnavailableError
from apflow.core.model.task import Task, utc_now
from apflow.core.model.usage import RecentCalls, UsageEntry
from apflow.core.store.base import Change
from apflow.core.store.group_commit import ChangeResult
from apflow.core.store.transfer import ExportReader
from apflow.storage.duckdb import recovery, statements
from apflow.storage.duckdb.application import Application, Record
from apflow.storage.duckdb.batch import Batch, added_by, batch_of, together
from apflow.storage.duckdb.bulk_load import Target, add_custom_columns, load
from apflow.storage.duckdb.database import Database
from apflow.storage.duckdb.failure import is_invalidated, unavailable
from apflow.storage.duckdb.journal import Journal, journal_of
from apflow.storage.duckdb.large_values import COLUMNS, DELETE_OF_OLD_EVENTS, MAX_INLINE, Run, full_texts
from apflow.storage.duckdb.record import decoded, encoded
from apflow.storage.duckdb.vacuum import vacuum
from apflow.storage.duckdb.writing import Writing
from apflow.storage.sql import logs
from apflow.storage.sql.columns import BASE, TaskColumn, decode, encode, naive, task_columns
from apflow.storage.sql.ledger import GUARDS, Ledger, Needs, Row, Tree, Writes
from apflow.storage.sql.queries import Statement
from apflow.storage.sql.usage import addition_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
PRUNE_EVERY: Final = timedelta(days=1)
MAX_TRIES: Final = 3  # to write a batch that conflicts inside DuckDB, or whose database was opened again
# A larger batch costs DuckDB little more than its journal would, so it is written to the database at once.
MAX_JOURNAL_ROWS: Final = 200
MAX_JOURNAL_BYTES: Final = 256 << 10
# The first commits of a process go to the database: one that makes few does not pay for a journal.
COMMITS_BEFORE_JOURNAL: Final = 4
MAX_APPLIED_ROWS: Final = 5000  # of one transaction

_GUARD_KINDS = [next(column.kind for column in BASE if column.name == name) for name in GUARDS]


class ReopenedError(StoreError):
    """The database was opened again while a batch was being decided, so it is decided again."""


class Writer:
    """Commits batches of changes and records. Only one thread may call its methods, except where they say."""

    def __init__(self, database: Database, event_retention: timedelta | None = None) -> None:
        self._database = database
        self._retention = event_retention
        self._prune_at = utc_now()
        self._counted = RecentCalls()
        self._writing = Writing(database)
        self.ledger = Ledger(0)
        self._ledger_opening = -1  # the opening of the database that the ledger belongs to
        self._opening = 0
        self._commits = 0
        self._has_warned = False  # whether a message says that there is no journal
        self.discards_journal = False  # whether a journal that cannot be applied is discarded
        self.discarded: Path | None = None  # where that journal is then
        self._journal: Journal | None = None
        self._journal_lock = threading.Lock()  # guards the journal and the opening; taken last
        self.application = Application(self._apply, database.url)
        self.last_events = self._writing.last_events

    @property
    def columns(self) -> tuple[TaskColumn, ...]:
        """The columns that the table is known to have."""
        return self._writing.columns

    def commit(self, changes: list[Change]) -> list[ChangeResult]:
        """Write a batch and return the outcome of each change.

        If the batch fails, its changes are written one by one, so that only the faulty change gets the error.

        Raises:
            StoreError: the database cannot be opened, or its file was deleted or replaced. No change is
                written.
        """
        self._open()
        self._database.check_file()
        outcomes: list[ChangeResult] = []
        while len(outcomes) < len(changes):
            self._open()  # opens it again if DuckDB has invalidated the database
            rest = changes[len(outcomes) :] if outcomes else changes
            try:
                outcomes += self._together(rest)
            except Exception as error:  # noqa: BLE001 - returned as the outcome of the change that caused it
                failure = self._writing.store_error(error)
                if isinstance(failure, StoreUnavailableError):  # caused by the disk, not by a change
                    return outcomes + [failure] * len(rest)
                if len(rest) == 1:
                    outcomes.append(failure)
                else:
                    outcomes += [outcome for change in rest for outcome in self.commit([change])]
        self._database.check_file()
        return outcomes

    def write_record(self, statement: Statement) -> int | None:
        """Write a record or log lines in a separate transaction; return the first value that this returns.

        Raises:
            StoreError: the database cannot be opened or written.
        """

        def write() -> list[tuple[Any, ...]]:
            return self._writing.in_transaction(lambda: self._writing.run(*statement).fetchall())

        rows = self._alone(write)
        return rows[0][0] if rows else None

    def add_usage(self, entry: UsageEntry) -> None:
        """Add what a call of a model used, unless it was added before.

        Raises:
            StoreError: the database cannot be opened or written.
        """
        if not self._counted.has(entry.call_id):
            self.write_record(addition_of(entry))
            self._counted.note(entry.call_id)

    def load(self, reader: ExportReader) -> None:
        """Write an export in one transaction.

        Raises:
            InvalidInputError: the export is invalid or incomplete.
            ConflictError: a task or a record of the export exists.
            StoreError: the database cannot be opened or written.
        """

        def write() -> None:
            rows = self._writing.open()
            target = Target(self._database.url, rows.run, rows.values, self._database.trim_if_due)
            [last_number] = rows.run(statements.LAST_NUMBER, []).fetchone() or (0,)
            try:
                add_custom_columns(rows.run, reader)
                rows.values.clear()  # of a batch that failed
                self._writing.in_transaction(lambda: load(target, reader, last_number))
            finally:
                self._ledger_opening = -1  # the next use reads again what the ledger must know

        self._alone(write)

    def checkpoint(self) -> tuple[int, int]:
        """Apply the journal, and write the write-ahead log into the file.

        Returns:
            the number of records that were applied, and the size of the file in bytes; 0 for one in memory.

        Raises:
            StoreError: the database cannot be opened or written, or reads do not end.
        """
        records, _ = self.application.figures()
        self._alone(self._database.checkpoint)
        path = self._database.path
        return records, 0 if path is None else path.stat().st_size

    def vacuum(self) -> tuple[int, int]:
        """Replace the file by a copy without free space; see `vacuum`.

        Raises:
            InvalidInputError: the file has several names.
            StoreError: the database cannot be opened, or the copy cannot be written.
        """
        return self._alone(lambda: vacuum(self._database, self._writing.close), is_checked_after=False)

    def reopen_if_given_up(self) -> None:
        """Close the database if DuckDB has invalidated it, so that the next use opens it again."""
        self._writing.reopen_if_given_up()

    def close(self) -> None:
        """Apply what waits, remove the journal, and release the connection. Any thread may call it."""
        self.application.close()
        with self._writing.lock:
            self._end_journal()
            self._writing.close()

    def recover(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Apply what the journal has. Called by any thread when it opens the database, before it is used."""
        with self._journal_lock:
            self._opening += 1
            if self._journal is not None:
                self._journal.close()
                self._journal = None
            if self._database.path is not None:
                self._apply_journal(connection, self._database.path)
            self.application.restart()

    def _apply_journal(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        try:
            recovery.recover(connection, path)
        except (duckdb.Error, StoreError) as error:
            may_pass = isinstance(error, StoreUnavailableError) or unavailable(self._database.url, error)
            if may_pass or not self.discards_journal:
                raise
            self.discarded = recovery.discard(connection, path)

    def added(self, ids: Collection[str]) -> dict[str, Task]:
        """Return tasks that were added lately, so that only the journal has them, by id.

        Args:
            ids: the tasks or trees that are asked for. The answer may have others, and may lack some.
        """
        records = self.application.about(ids)
        if not records or task_columns() is not BASE:
            return {}
        return added_by([decoded(record.body, record.number) for record in records])

    def _alone(self, write: Callable[[], T], *, is_checked_after: bool = True) -> T:
        """Call a function that writes to the database, after everything before is in it.

        Raises:
            StoreError: the database cannot be opened or written.
        """
        self._open()
        self._database.check_file()
        try:
            self.application.wait()
            with self._writing.lock:
                self._writing.open()
                done = write()
        except Exception as error:
            failure = self._writing.store_error(error)
            if failure is error:
                raise
            raise failure from error
        if is_checked_after:
            self._database.check_file()
        return done

    def _open(self) -> None:
        self._writing.open()
        if self._ledger_opening != self._opening:
            self._new_ledger()
        if task_columns() is not self._writing.columns:
            self._add_columns()
        if self._retention is not None and utc_now() >= self._prune_at:
            self._prune(utc_now() - self._retention)
            self._prune_at = utc_now() + PRUNE_EVERY

    def _new_ledger(self) -> None:
        self.application.wait()  # before the lock, which the application needs
        with self._writing.lock:
            opening = self._opening
            [[last]] = self._writing.run(statements.LAST_NUMBER).fetchall()
            self.ledger = Ledger(last + 1)
            self._ledger_opening = opening

    def _add_columns(self) -> None:
        """Add missing custom columns to the table. Existing rows get the default."""
        wanted, run = task_columns(), self._writing.run
        self.application.wait()
        with self._writing.lock:
            there = {row[0] for row in run(statements.COLUMN_NAMES).fetchall()}
            for column in wanted:
                if column.name in there:
                    continue
                run(statements.add_column(column.name, column.sql_type))
                if column.default is not None:
                    run(statements.fill_column(column.name), [encode(column.kind, column.default)])
            self._writing.columns = wanted

    def _prune(self, before: datetime) -> None:
        """Delete events and log lines stored before a given time. Roots keep the number of the last event."""

        def delete() -> None:
            for statement in (
                statements.KEEP_NUMBERS,
                DELETE_OF_OLD_EVENTS,
                statements.DELETE_OLD_EVENTS,
                logs.DELETE_OLD,
            ):
                self._writing.run(statement, [naive(before)])

        self.application.wait()
        with self._writing.lock:
            self._writing.open()
            self._writing.in_transaction(delete)

    def _together(self, changes: Sequence[Change]) -> list[ChangeResult]:
        for attempt in range(1, MAX_TRIES + 1):
            try:
                return self._once(changes)
            except ReopenedError:
                if attempt == MAX_TRIES:
                    raise
                self._open()
            except duckdb.Error as error:
                if attempt == MAX_TRIES:
                    raise
                if is_invalidated(error):
                    self._open()
                elif not isinstance(error, duckdb.TransactionException) or unavailable(
                    self._database.url, error
                ):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(self, changes: Sequence[Change]) -> list[ChangeResult]:
        now = utc_now()
        try:
            self._learn(self.ledger.needs(changes))
            outcomes, writes = self.ledger.decide(changes)
            if writes:
                self.ledger.note_stored_at(writes, naive(now))
                self._store(writes, now)
        except BaseException:
            self.ledger.forget()
            raise
        self.ledger.keep(writes)
        return list(outcomes)

    def _store(self, writes: Writes, now: datetime) -> None:
        batch = batch_of(writes, self._row, now)
        if not self._journaled(batch):
            self._write(batch)

    def _row(self, task_id: str) -> Row | None:
        return self.ledger.row(task_id)

    def _write(self, batch: Batch) -> None:
        """Write a batch to the database, after everything that the journal has."""
        self.application.wait()
        with self._writing.lock:
            self._check_opening()
            try:
                referring = self._writing.write(batch)
            except duckdb.Error as error:
                if not is_invalidated(error):
                    raise
                self._writing.reopen_later(error)
                self._writing.open()
                if not self._is_stored(batch):
                    raise
                return
        self._note_references(referring)

    def _note_references(self, task_ids: set[str]) -> None:
        for task_id in task_ids:
            row = self.ledger.row(task_id)
            if row is not None:
                row.has_references = True

    def _is_stored(self, batch: Batch) -> bool:
        """Return whether a transaction with an unknown result was committed: look for one of its rows."""
        run = self._writing.run
        for root_id, last in batch.last_events.items():
            rows = run(statements.SEQUENCES, [[root_id]]).fetchall()
            return bool(rows) and rows[0][1] >= last
        for task_id in batch.added:
            return bool(run(statements.KNOW_ONE, [task_id]).fetchall())
        for task_id in batch.removed:
            return not run(statements.KNOW_ONE, [task_id]).fetchall()
        return False

    def _check_opening(self) -> None:
        if self._ledger_opening != self._opening:
            raise ReopenedError(f"{self._database.url} was opened again. Repeat the change.")

    # The journal.

    def _journaled(self, batch: Batch) -> bool:
        """Store a batch in the journal, unless it is large, or has what a record cannot keep."""
        self._commits += 1
        is_small = batch.size <= MAX_JOURNAL_ROWS and self._commits > COMMITS_BEFORE_JOURNAL
        if self._database.path is None or not is_small:
            return False
        batch.settle_events()
        record = encoded(batch)
        if record is None or len(record) > MAX_JOURNAL_BYTES:
            return False
        if self.application.is_full or self.application.failure is not None:
            self.application.wait()
        if not self._append(record, frozenset(batch.ids())):
            return False
        if len(record) > MAX_INLINE:
            self._note_references({*batch.added, *batch.sets})
        return True

    def _append(self, record: bytes, ids: frozenset[str]) -> bool:
        """Store a record in the journal; return False if there is no journal."""
        while True:
            with self._journal_lock:
                self._check_opening()
                journal = self._journal
                if journal is not None and journal.is_there:
                    journal.applied = self.application.applied
                    number = journal.append(record)
                    self.application.add(Record(number, record, ids))
                    return True
            try:
                self._begin_journal()
            except StoreError as error:  # such as no free descriptor: the database itself may take the batch
                if not self._has_warned:
                    logger.warning("%s works without a journal for now: %s", self._database.url, error)
                self._has_warned = True
                return False
            self._has_warned = False

    def _begin_journal(self) -> None:
        """Create a journal, in place of one whose files were deleted or replaced."""
        path = self._database.path
        assert path is not None  # a database in memory has no journal
        self.application.wait()
        with self._writing.lock:
            self._writing.open()
            if self._journal is not None:
                logger.error(
                    "%s was deleted or replaced while it was open. All changes in it are in the database.",
                    self._journal.path,
                )
                self._end_journal()
            journal = Journal.create(journal_of(path))
            try:
                self._writing.in_transaction(lambda: self._mark(journal.identity))
            except BaseException:
                journal.remove()
                raise
            with self._journal_lock:
                self._journal = journal
                self.application.restart()

    def _mark(self, identity: str) -> None:
        self._writing.run(recovery.FORGET)
        self._writing.run(recovery.BEGIN, [identity])

    def _end_journal(self) -> None:
        """Remove the journal if all of its records are in the database; otherwise only close it."""
        with self._journal_lock:
            journal, self._journal = self._journal, None
        if journal is None:
            return
        if self.application.applied < journal.last:
            journal.close()
            return
        try:
            self._writing.run(recovery.END)
        except (duckdb.Error, StoreError) as error:
            logger.warning("%s: the journal could not be removed: %s", self._database.url, error)
            journal.close()
        else:
            journal.remove()

    def _apply(self, records: Sequence[Record]) -> None:
        """Write records to the database. Called in the thread of the application."""
        batches = [decoded(record.body, record.number) for record in records]
        with self._writing.lock:
            if not self.application.is_next(records[0]):  # the database was opened again meanwhile
                return
            self._database.check_file()
            try:
                for batch in together(batches, MAX_APPLIED_ROWS):
                    self._writing.write(batch)
                    self.application.note_applied(batch.number)
            except Exception as error:
                failure = self._writing.store_error(error)
                if not self._writing.is_open:  # opening it applies what is left
                    self._writing.open()
                    return
                raise failure from error

    # What the ledger must know.

    def _learn(self, needs: Needs) -> None:
        asked = {*needs.rows, *needs.trees, *(each for ids in needs.values.values() for each in ids)}
        if not asked:
            return
        if self.application.concerns(asked):
            self.application.wait()
        with self._database.cursor() as cursor:
            run = partial(self._database.execute, cursor)
            if needs.rows:
                self._learn_rows(needs.rows, run)
            if needs.trees:
                self._learn_trees(needs.trees, run)
            for name, ids in needs.values.items():
                self._learn_values(name, ids, run)

    def _learn_rows(self, ids: set[str], run: Run) -> None:
        if len(ids) == 1:
            result = run(statements.KNOW_ONE, list(ids))
        else:
            listed = list(ids)
            result = run(statements.know_many(listed), [listed])
        self.ledger.learn_rows(ids, {row[0]: _stored_row(row) for row in result.fetchall()})

    def _learn_trees(self, root_ids: set[str], run: Run) -> None:
        """Read the counters of trees. A tree whose root is being added starts at zero."""
        trees = {root_id: Tree.empty() for root_id in root_ids}
        stored = [root_id for root_id in root_ids if not self.ledger.is_known_missing(root_id)]
        if stored:
            for root_id, position, last, number in run(statements.POSITIONS, [stored]).fetchall():
                trees[root_id] = Tree(position, last, number, None)
            for root_id, last, since in run(statements.SEQUENCES, [stored]).fetchall():
                trees[root_id].sequence = max(trees[root_id].sequence, last)
                trees[root_id].stored_since = since
        for root_id, tree in trees.items():
            self.ledger.learn_tree(root_id, tree)
            self.last_events.learn(root_id, tree.sequence)

    def _learn_values(self, name: str, ids: Sequence[str], run: Run) -> None:
        kind = next((column.kind for column in self._writing.columns if column.name == name), None)
        if kind is not None:  # otherwise the change that names it is rejected
            rows = run(statements.value_of(name, ids), [ids]).fetchall()
            stored = [row[1] for row in rows]
            if name in COLUMNS:
                stored = full_texts(stored, run)
            values = {row[0]: decode(kind, value) for row, value in zip(rows, stored, strict=True)}
            self.ledger.learn_values(name, values)


def _stored_row(row: Sequence[Any]) -> Row:
    guards = (decode(kind, value) for kind, value in zip(_GUARD_KINDS, row[4:], strict=True))
    return Row(row[1], row[2], tuple(guards), has_references=row[3])
