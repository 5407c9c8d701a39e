"""The writer thread: computes the rows of a batch with the ledger and writes them to the database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

import duckdb

from apflow.core.errors import ApflowError, StoreError, StoreUnavailableError
from apflow.core.model.task import utc_now
from apflow.core.model.usage import RecentCalls, UsageEntry
from apflow.core.store.base import Change
from apflow.core.store.group_commit import ChangeResult
from apflow.core.store.transfer import ExportReader
from apflow.storage.duckdb import statements
from apflow.storage.duckdb.bulk_load import Target, add_custom_columns, load
from apflow.storage.duckdb.database import TRIM_EVERY, Database
from apflow.storage.duckdb.failure import is_invalidated, unavailable
from apflow.storage.duckdb.large_values import (
    COLUMNS,
    DELETE_OF_OLD_EVENTS,
    DELETE_OF_TREES,
    LAST_VALUE,
    ValueWriter,
    delete_unreferenced,
    full_texts,
    referenced,
)
from apflow.storage.duckdb.vacuum import vacuum
from apflow.storage.sql import logs
from apflow.storage.sql.attempts import SLOTS, columns_of_attempts
from apflow.storage.sql.columnar import Column, Slot, columns_of_added, columns_of_sets
from apflow.storage.sql.columns import (
    ATTEMPTS,
    BASE,
    EVENTS,
    TaskColumn,
    decode,
    encode,
    naive,
    task_columns,
)
from apflow.storage.sql.ledger import GUARDS, Ledger, Needs, Row, Tree, Writes
from apflow.storage.sql.pages import pages
from apflow.storage.sql.queries import Statement
from apflow.storage.sql.usage import addition_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
MAX_ROWS = 10_000  # of one INSERT, to limit its memory
COMMITTED = "COMMIT succeeded and is durable"  # in an error of the checkpoint after it
MAX_PAGES = 10  # of events, likewise
PRUNE_EVERY = timedelta(days=1)
MAX_TRIES = 3  # to write a batch that conflicts inside DuckDB with the addition of a column

_GUARD_KINDS = [next(column.kind for column in BASE if column.name == name) for name in GUARDS]


class Writer:
    """Commits batches of changes and records. Only one thread may call `commit` and `write_record`."""

    def __init__(self, database: Database, event_retention: timedelta | None = None) -> None:
        self._database = database
        self._retention = event_retention
        self._prune_at = utc_now()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._rows_since_trim = 0
        self.ledger = Ledger(0)
        self._values = ValueWriter(0)
        self._counted = RecentCalls()
        self.columns: tuple[TaskColumn, ...] = BASE  # the columns that the table is known to have

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
                failure = self._store_error(error)
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
        self._open()
        self._database.check_file()
        try:
            rows = self._in_transaction(lambda: self._run(*statement).fetchall())
        except Exception as error:
            raise self._store_error(error) from error
        self._database.check_file()
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
        self._open()
        self._database.check_file()
        target = Target(self._database.url, self._run, self._values, self._database.trim_if_due)
        [last_number] = self._run(statements.LAST_NUMBER, []).fetchone() or (0,)
        try:
            add_custom_columns(self._run, reader)
            self._values.clear()  # of a batch that failed
            self._in_transaction(lambda: load(target, reader, last_number))
        except Exception as error:
            raise self._store_error(error) from error
        finally:
            self.close()  # the next use reads again what the ledger must know
        self._database.check_file()

    def vacuum(self) -> tuple[int, int]:
        """Replace the file by a copy without free space; see `vacuum`.

        Raises:
            InvalidInputError: the file has several names.
            StoreError: the database cannot be opened, or the copy cannot be written.
        """
        self._open()
        self._database.check_file()
        return vacuum(self._database, self.close)

    def _in_transaction(self, work: Callable[[], T]) -> T:
        connection = self._connection
        assert connection is not None  # opened before anything is written
        connection.begin()
        try:
            done = work()
            self._commit(connection)
        except BaseException:
            _roll_back(connection)
            raise
        self._database.trim_if_due()
        return done

    def _commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Commit. If the checkpoint after the commit fails, the changes are stored; reopen the database."""
        try:
            connection.commit()
        except duckdb.FatalException as error:
            if COMMITTED not in str(error):
                raise
            self._reopen_later(error)
            return
        try:
            self._database.maintain_log()
        except duckdb.Error as error:
            if not is_invalidated(error):
                raise
            self._reopen_later(error)

    def reopen_if_given_up(self) -> None:
        """Close the database if DuckDB has invalidated it, so that the next use opens it again."""
        if self._connection is not None:
            try:
                self._connection.execute(statements.LAST_NUMBER).fetchall()
            except duckdb.Error as error:
                if not is_invalidated(error):
                    raise
                self._reopen_later(error)

    def _reopen_later(self, error: Exception) -> None:
        logger.error("%s: DuckDB invalidated the database; reopening it: %s", self._database.url, error)
        self.close()
        self._database.close()

    def _run(self, text: str, parameters: Sequence[Any]) -> duckdb.DuckDBPyConnection:
        assert self._connection is not None  # opened before anything is run
        return self._database.execute(self._connection, text, parameters)

    def close(self) -> None:
        """Release the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> None:
        connection = self._connection
        if connection is None:
            connection = self._database.writing_cursor()
            [row] = connection.execute(statements.LAST_NUMBER).fetchall()
            self.ledger = Ledger(row[0] + 1)
            [value] = connection.execute(LAST_VALUE).fetchall()
            self._values = ValueWriter(value[0])
            self._connection = connection
        if task_columns() is not self.columns:
            self._add_columns(connection)
        if self._retention is not None and utc_now() >= self._prune_at:
            self._prune(connection, utc_now() - self._retention)
            self._prune_at = utc_now() + PRUNE_EVERY

    def _add_columns(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Add missing custom columns to the table. Existing rows get the default."""
        wanted = task_columns()
        there = {row[0] for row in connection.execute(statements.COLUMN_NAMES).fetchall()}
        for column in wanted:
            if column.name in there:
                continue
            connection.execute(statements.add_column(column.name, column.sql_type))
            if column.default is not None:
                default = encode(column.kind, column.default)
                connection.execute(statements.fill_column(column.name), [default])
        self.columns = wanted

    def _prune(self, connection: duckdb.DuckDBPyConnection, before: datetime) -> None:
        """Delete events and log lines stored before a given time. Roots keep the number of the last event."""
        connection.begin()
        try:
            connection.execute(statements.KEEP_NUMBERS, [naive(before)])
            connection.execute(DELETE_OF_OLD_EVENTS, [naive(before)])
            connection.execute(statements.DELETE_OLD_EVENTS, [naive(before)])
            connection.execute(logs.DELETE_OLD, [naive(before)])
            connection.commit()
        except BaseException:
            _roll_back(connection)
            raise

    def _store_error(self, error: Exception) -> BaseException:
        """Return the error for a change that failed when written separately."""
        is_over = is_invalidated(error) or isinstance(error, duckdb.InternalException)
        if is_over and self._connection is not None:
            self._reopen_later(error)
        if isinstance(error, ApflowError) or not isinstance(error, duckdb.Error):
            return error
        failure = self._database.failed(error, "did not take a change")
        failure.__cause__ = error
        return failure

    def _together(self, changes: Sequence[Change]) -> list[ChangeResult]:
        for attempt in range(1, MAX_TRIES + 1):
            try:
                return self._once(changes)
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
        outcomes: Sequence[ChangeResult] = ()
        writes = Writes()
        try:
            self._learn(self.ledger.needs(changes))
            outcomes, writes = self.ledger.decide(changes)
            if writes:
                self.ledger.note_stored_at(writes, naive(now))
                self._write(writes, now)
        except BaseException as error:
            if not (isinstance(error, duckdb.Error) and is_invalidated(error)):
                self.ledger.forget()
                raise
            self._reopen_later(error)
            self._open()
            if not self._is_stored(writes):
                raise
            return list(outcomes)
        self.ledger.keep(writes)
        return list(outcomes)

    def _is_stored(self, writes: Writes) -> bool:
        """Return whether a transaction with an unknown result was committed: look for one of its rows."""
        for root_id, events in writes.events.items():
            rows = self._run(statements.SEQUENCES, [[root_id]]).fetchall()
            return bool(rows) and rows[0][1] >= events[-1].sequence
        for task_id in writes.added:
            return bool(self._run(statements.KNOW_ONE, [task_id]).fetchall())
        for task_id in writes.removed:
            return not self._run(statements.KNOW_ONE, [task_id]).fetchall()
        return False

    def _learn(self, needs: Needs) -> None:
        if needs.rows:
            self._learn_rows(needs.rows)
        if needs.trees:
            self._learn_trees(needs.trees)
        for name, ids in needs.values.items():
            self._learn_values(name, ids)

    def _learn_rows(self, ids: set[str]) -> None:
        if len(ids) == 1:
            result = self._run(statements.KNOW_ONE, list(ids))
        else:
            listed = list(ids)
            result = self._run(statements.know_many(listed), [listed])
        self.ledger.learn_rows(ids, {row[0]: _row(row) for row in result.fetchall()})

    def _learn_trees(self, root_ids: set[str]) -> None:
        """Read the counters of trees. A tree whose root is being added starts at zero."""
        trees = {root_id: Tree.empty() for root_id in root_ids}
        stored = [root_id for root_id in root_ids if not self.ledger.is_known_missing(root_id)]
        if stored:
            for root_id, position, last, number in self._run(statements.POSITIONS, [stored]).fetchall():
                trees[root_id] = Tree(position, last, number, None)
            for root_id, last, since in self._run(statements.SEQUENCES, [stored]).fetchall():
                trees[root_id].sequence = max(trees[root_id].sequence, last)
                trees[root_id].stored_since = since
        for root_id, tree in trees.items():
            self.ledger.learn_tree(root_id, tree)

    def _learn_values(self, name: str, ids: Sequence[str]) -> None:
        kind = next((column.kind for column in self.columns if column.name == name), None)
        if kind is not None:  # otherwise the change that names it is rejected
            rows = self._run(statements.value_of(name, ids), [ids]).fetchall()
            stored = [row[1] for row in rows]
            if name in COLUMNS:
                stored = full_texts(stored, self._run)
            values = {row[0]: decode(kind, value) for row, value in zip(rows, stored, strict=True)}
            self.ledger.learn_values(name, values)

    def _write(self, writes: Writes, now: datetime) -> None:
        def work() -> None:
            unused = referenced(COLUMNS, list(writes.removed.values()), self._run)
            self._insert_tasks(writes, now)
            unused |= self._update_tasks(writes)
            if writes.removed:
                _expect(self._run(statements.DELETE, [list(writes.removed.values())]), writes.removed)
                self._run(statements.delete_attempts(writes.removed), [list(writes.removed)])
            delete_unreferenced(unused, self._run)
            if writes.ended:
                self._run(DELETE_OF_TREES, [writes.ended])
                self._run(statements.DELETE_EVENTS, [writes.ended])
                self._run(logs.DELETE_OF_TREES, [writes.ended])
            if writes.reduced:
                self._run(logs.DELETE_OF_TASKS, [list(writes.reduced), list(writes.removed)])
            self._insert_events(writes, now)
            if writes.attempts:
                self._run(_INSERT_ATTEMPTS, columns_of_attempts(writes.attempts))
            self._values.insert(self._run)

        self._values.clear()  # of a batch that failed
        self._in_transaction(work)
        self._rows_since_trim += len(writes.added) + len(writes.sets)
        if self._rows_since_trim >= TRIM_EVERY:
            self._database.trim()
            self._rows_since_trim = 0

    def _insert_tasks(self, writes: Writes, now: datetime) -> None:
        added = list(writes.added.values())
        sets = {task_id: writes.sets.pop(task_id) for task_id in writes.added if task_id in writes.sets}
        for start in range(0, len(added), MAX_ROWS):
            rows = added[start : start + MAX_ROWS]
            columns = self._inline(
                columns_of_added(rows, sets, self.columns, now), [each.task.id for each in rows]
            )
            self._run(statements.insert(_slots(columns)), [column.value for column in columns])
            if len(added) > MAX_ROWS:
                self._database.trim()

    def _inline(self, columns: Iterable[Column], ids: Iterable[str]) -> list[Column]:
        """Return columns with references instead of large values, and record which rows may have them."""
        last = self._values.last_number
        inlined = [self._values.column(column) for column in columns]
        if self._values.last_number != last:
            for task_id in ids:
                row = self.ledger.row(task_id)
                if row is not None:
                    row.has_references = True
        return inlined

    def _update_tasks(self, writes: Writes) -> set[int]:
        """Change rows, similar ones in one statement. Return the values that they referred to."""
        unused: set[int] = set()
        groups: dict[tuple[str, ...], list[str]] = {}
        for task_id, sets in writes.sets.items():
            groups.setdefault(tuple(sets), []).append(task_id)
        by_name = {column.name: column for column in self.columns}
        for names, ids in groups.items():
            unused |= self._referenced(names, ids)
            columns = self._inline(
                columns_of_sets([writes.sets[task_id] for task_id in ids], [by_name[each] for each in names]),
                ids,
            )
            values = [column.value for column in columns]
            if len(ids) == 1:
                result = self._run(statements.update_one(names), [*values, ids[0]])
            else:
                numbers = [self.ledger.number_of(task_id) for task_id in ids]
                result = self._run(statements.update(_slots(columns)), [*values, numbers])
            _expect(result, ids)
        return unused

    def _referenced(self, names: Sequence[str], ids: Sequence[str]) -> set[int]:
        """Return the values that these columns of the rows refer to before the change."""
        rows = (self.ledger.row(task_id) for task_id in ids)
        numbers = [row.number for row in rows if row is not None and row.has_references]
        return referenced(names, numbers, self._run)

    def _insert_events(self, writes: Writes, now: datetime) -> None:
        found = (
            page._replace(body=self._values.inline(page.body))
            for root_id in writes.events
            for page in pages(root_id, writes.events_of(root_id, now))
        )
        while rows := list(islice(found, MAX_PAGES)):
            if len(rows) == 1:
                self._run(_INSERT_PAGE, [*rows[0], naive(now)])
            else:
                self._run(_INSERT_PAGES, [*_transposed(rows), naive(now)])


def _row(row: Sequence[Any]) -> Row:
    guards = (decode(kind, value) for kind, value in zip(_GUARD_KINDS, row[4:], strict=True))
    return Row(row[1], row[2], tuple(guards), has_references=row[3])


def _slots(columns: Iterable[Column]) -> tuple[Slot, ...]:
    return tuple(column.slot for column in columns)


def _expect(result: duckdb.DuckDBPyConnection, rows: Sequence[object] | dict[str, int]) -> None:
    """Raise unless a statement changed exactly these rows: otherwise the ledger would be wrong."""
    [[found]] = result.fetchall()
    if found != len(rows):
        raise StoreError(
            f"{found} of {len(rows)} rows exist in the database: another program has changed the file. "
            "Make no changes to it while apflow has it open."
        )


def _transposed(rows: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
    return (list(column) for column in zip(*rows, strict=True))


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    try:
        connection.rollback()
    except duckdb.Error as error:  # a failed commit has rolled back already
        logger.debug("Nothing to roll back: %s", error)


_PAGE_TYPES = (
    ("root_id", "VARCHAR"), ("first_sequence", "BIGINT"), ("last_sequence", "BIGINT"), ("body", "VARCHAR"),
)  # fmt: skip
_STORED_AT = Slot("stored_at", "TIMESTAMP", is_same=True)
_INSERT_PAGE = statements.insert((*(Slot(*each, True) for each in _PAGE_TYPES), _STORED_AT), EVENTS)
_INSERT_ATTEMPTS = statements.insert(SLOTS, ATTEMPTS)
_INSERT_PAGES = statements.insert((*(Slot(*each, False) for each in _PAGE_TYPES), _STORED_AT), EVENTS)
