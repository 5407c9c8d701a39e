"""The connection that writes, used by one thread at a time, in transactions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import duckdb

from apflow.core.errors import ApflowError
from apflow.storage.duckdb import recovery
from apflow.storage.duckdb.batch import Batch
from apflow.storage.duckdb.database import TRIM_EVERY, Database
from apflow.storage.duckdb.failure import is_invalidated
from apflow.storage.duckdb.row_writer import RowWriter
from apflow.storage.duckdb.statements import LAST_NUMBER
from apflow.storage.sql.columns import BASE, TaskColumn
from apflow.storage.sql.ledger import limit

logger = logging.getLogger(__name__)

T = TypeVar("T")
MAX_TREES = 250_000  # whose last events are known
COMMITTED = "COMMIT succeeded and is durable"  # in an error of the checkpoint after it


class LastEvents:
    """The numbers of the last events of trees that are in the database, as far as they are known."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        # Roots of a batch that may be in the database while `_known` does not have its events yet.
        self._in_writing: frozenset[str] = frozenset()

    def get(self, root_id: str) -> int | None:
        """Return the number of a tree, None where it is not known.

        If it is the same before and after something was read, it was so all the time.
        """
        return None if root_id in self._in_writing else self._known.get(root_id)

    def learn(self, root_id: str, number: int) -> None:
        """Record what the database says."""
        self._known[root_id] = number

    def begin(self, batch: Batch) -> None:
        """A batch is about to be written."""
        self._in_writing = frozenset(batch.events)

    def end(self, batch: Batch) -> None:
        """The batch is in the database."""
        for root_id in batch.ended:
            self._known.pop(root_id, None)
        self._known |= batch.last_events
        self._in_writing = frozenset()
        limit(self._known, MAX_TREES)

    def fail(self) -> None:
        """The batch may be in the database, or not."""
        for root_id in self._in_writing:
            self._known.pop(root_id, None)
        self._in_writing = frozenset()


class Writing:
    """Writes to the database. Every method may block; `lock` keeps others from writing between two calls."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.lock = threading.RLock()
        self.last_events = LastEvents()
        self.columns: tuple[TaskColumn, ...] = BASE  # the columns that the table is known to have
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._rows: RowWriter | None = None
        self._rows_since_trim = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    def open(self) -> RowWriter:
        """Open the database if it is not open.

        Raises:
            StoreError: it cannot be opened.
        """
        with self.lock:
            if self._rows is None:
                connection = self.database.writing_cursor()
                self._rows = RowWriter(partial(self.database.execute, connection), self.database.trim)
                self._connection = connection
            return self._rows

    def write(self, batch: Batch) -> set[str]:
        """Write a batch; return the ids of tasks whose rows may refer to large values now.

        Raises:
            duckdb.Error: the batch cannot be written, or it is unknown whether it was.
            StoreError: the database cannot be opened, or is not as the batch expects.
        """
        with self.lock:
            rows = self.open()

            def work() -> set[str]:
                referring = rows.write(batch, self.columns)
                if batch.number:
                    rows.run(recovery.NOTE_APPLIED, [batch.number])
                return referring

            self.last_events.begin(batch)
            try:
                referring = self.in_transaction(work)
            except BaseException:
                self.last_events.fail()
                raise
            self.last_events.end(batch)
            self._trim_after(batch)
            return referring

    def in_transaction(self, work: Callable[[], T]) -> T:
        """Call a function in a transaction of the connection, which must be open.

        Raises:
            duckdb.Error: the transaction cannot be committed, or it is unknown whether it was.
        """
        with self.lock:
            connection = self._connection
            assert connection is not None  # opened before anything is written
            connection.begin()
            try:
                done = work()
                self._commit(connection)
            except BaseException:
                _roll_back(connection)
                raise
            self.database.trim_if_due()
            return done

    def run(self, text: str, parameters: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        """Execute a statement. The caller holds the lock."""
        return self.open().run(text, parameters)

    def close(self) -> None:
        """Release the connection."""
        with self.lock:
            connection, self._connection, self._rows = self._connection, None, None
            if connection is not None:
                connection.close()

    def reopen_if_given_up(self) -> None:
        """Close the database if DuckDB has invalidated it, so that the next use opens it again."""
        with self.lock:
            if self._connection is not None:
                try:
                    self._connection.execute(LAST_NUMBER).fetchall()
                except duckdb.Error as error:
                    if not is_invalidated(error):
                        raise
                    self.reopen_later(error)

    def reopen_later(self, error: Exception) -> None:
        """Close the database, which DuckDB has invalidated: the next use opens it again."""
        logger.error("%s: DuckDB invalidated the database; reopening it: %s", self.database.url, error)
        with self.lock:
            self.close()
            self.database.close()

    def store_error(self, error: Exception) -> Exception:
        """Return the error for a write that failed."""
        is_over = is_invalidated(error) or isinstance(error, duckdb.InternalException)
        if is_over and self._connection is not None:
            self.reopen_later(error)
        if isinstance(error, ApflowError) or not isinstance(error, duckdb.Error):
            return error
        failure = self.database.failed(error, "did not take a change")
        failure.__cause__ = error
        return failure

    def _commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Commit. If the checkpoint after the commit fails, the changes are stored; reopen the database."""
        try:
            connection.commit()
        except duckdb.FatalException as error:
            if COMMITTED not in str(error):
                raise
            self.reopen_later(error)
            return
        try:
            self.database.maintain_log()
        except duckdb.Error as error:
            if not is_invalidated(error):
                raise
            self.reopen_later(error)

    def _trim_after(self, batch: Batch) -> None:
        self._rows_since_trim += len(batch.added) + len(batch.sets)
        if self._rows_since_trim >= TRIM_EVERY:
            self.database.trim()
            self._rows_since_trim = 0


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    try:
        connection.rollback()
    except duckdb.Error as error:  # a failed commit has rolled back already
        logger.debug("Nothing to roll back: %s", error)
