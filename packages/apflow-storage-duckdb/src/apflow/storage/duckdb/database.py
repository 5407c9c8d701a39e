"""The DuckDB file: opened on first use and migrated to the newest version."""

from __future__ import annotations

import ctypes
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import duckdb

from apflow.core.errors import FormerDatabaseError, StoreError, StoreLockedError
from apflow.core.model.task import utc_now
from apflow.core.process.identity import ForkGuard, ForkLock, after_fork_in_child
from apflow.storage.duckdb.claim import OWNER_ONLY, FileClaim
from apflow.storage.duckdb.failure import as_store_error, is_invalidated
from apflow.storage.duckdb.migration_copy import copy_before_migration
from apflow.storage.duckdb.openfile import FileState, log_of
from apflow.storage.sql.columns import naive
from apflow.storage.sql.migrations import (
    CREATE_SCHEMA_TABLE,
    LATEST,
    READ_VERSION,
    WRITE_VERSION,
    migrations_after,
)

# When a row is added or changed, a checkpoint rewrites the columns of its row group with all rows. With rows
# of kilobytes and DuckDB's default size of 122,880, that is hundreds of megabytes. A small size slows down
# scans of a million rows.
ROW_GROUP_SIZE = 8192
NAME = "apflow"  # of the attached file: only ATTACH accepts a row group size
CHECKPOINT_THRESHOLD = "8MB"  # of the write-ahead log
MAX_LOG_BYTES = 10_000_000  # after which reads wait for a checkpoint
READS_SECONDS = 1.0  # for running reads to end before such a checkpoint
CHECKPOINT_SECONDS = 5.0  # to wait for readers, or until the next attempt
CLOSE_SECONDS = 10.0  # for statements to end before the database is closed
TRIM_EVERY = 10_000  # rows read or written, after which memory is returned to the system
TRIM_SECONDS = 2.0  # after which it is returned in any case: a few rows may be large
# With zstd, DuckDB decompresses 2,048 rows to read one: with results of 1 MB, 160 ms instead of 0.5 ms, and
# hundreds of megabytes. As an option of `connect`, this has no effect (2.0).
NO_ZSTD = "SET disabled_compression_methods = 'zstd'"
# Each checkpoint leaves the rows that were added since the one before it in new row groups (2.0).
# Merging them in each checkpoint would rewrite the same rows repeatedly; never merging them would make scans
# slower with each checkpoint. So one checkpoint of several merges. The setting limits the row groups that it
# takes from each table: more than arise between two merges, and few enough for a short pause when a file has
# many.
MERGE_EVERY = 8  # checkpoints
MERGING = "SET max_vacuum_tasks = 64"
NO_MERGING = "SET max_vacuum_tasks = 0"

logger = logging.getLogger(__name__)

_databases: WeakSet[Database] = WeakSet()


class Database:
    """A DuckDB database, opened on first use. Every method may block.

    `path` is None for a database in memory.
    """

    def __init__(
        self,
        url: str,
        path: Path | None,
        memory_limit: str,
        on_open: Callable[[], object] = lambda: None,
        *,
        has_migration_copy: bool = True,
    ) -> None:
        self.url, self.path = url, path
        # Called with the connection each time that the database is opened, before anything uses it.
        self.recover: Callable[[duckdb.DuckDBPyConnection], object] = lambda _: None
        self._has_migration_copy = has_migration_copy  # whether the file is copied before a migration
        self._on_open = on_open  # called each time that the file was opened
        self._memory_limit = memory_limit
        self._lock = ForkLock()  # guards the connection
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._lasting: duckdb.DuckDBPyConnection | None = None  # of the writer
        self._cursors: dict[int, duckdb.DuckDBPyConnection] = {}  # in use, by identity
        self._idle: list[duckdb.DuckDBPyConnection] = []  # kept for reuse: a new one must execute USE
        self._parsed: dict[str, duckdb.Statement] = {}
        self._claim = None if path is None else FileClaim(path)
        self._has_checkpoints = True
        self._log_bytes = 0  # when it was last looked at
        self._checkpoints = 0  # since one that merged row groups
        self._trimmed_at = time.monotonic()
        self._next_checkpoint = float("-inf")  # not before this moment, by the monotonic clock
        self._guard = ForkGuard(url)
        _databases.add(self)

    @contextmanager
    def cursor(self) -> Generator[duckdb.DuckDBPyConnection]:
        """Use a connection to the database for one operation. Opens the file if it is not open.

        Raises:
            StoreLockedError: another process holds the file.
            StoreVersionError: a newer apflow wrote the file.
            StoreDamagedError: the file is damaged, or is not a database.
            StoreForkedError: the parent of this forked process opened the database.
            StoreError: the file cannot be opened for another reason.
        """
        with self._open_lock():
            idle = self._idle
            cursor = idle.pop() if idle else self._new_cursor()
            self._cursors[id(cursor)] = cursor
        try:
            yield cursor
            idle.append(cursor)  # before it is marked as unused, so that `close` finds it
        except BaseException:
            cursor.close()
            raise
        finally:
            self._cursors.pop(id(cursor), None)

    def writing_cursor(self) -> duckdb.DuckDBPyConnection:
        """Return the connection of the writer, which stays open until the database is closed.

        Raises:
            StoreError: as for `cursor`.
        """
        with self._open_lock():
            self._lasting = self._new_cursor()
            return self._lasting

    def _new_cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._opened_connection().cursor()
        if self.path is not None:
            cursor.execute(f"USE {NAME}")
        return cursor

    def _open_lock(self) -> threading.Lock:
        self._guard.check()
        return self._lock.lock

    def _opened_connection(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def execute(
        self, cursor: duckdb.DuckDBPyConnection, text: str, parameters: Sequence[Any]
    ) -> duckdb.DuckDBPyConnection:
        """Execute a statement. Statements are parsed once and cached: parsing is a third of the cost."""
        parsed = self._parsed.get(text)
        if parsed is None:
            [parsed] = cursor.extract_statements(text)
            self._parsed[text] = parsed
        return cursor.execute(parsed, parameters)

    def close(self) -> None:
        """Close the file when the running statements have ended. The next use opens it again.

        DuckDB keeps the database open while any connection is open, even after it has invalidated the
        database.
        """
        self._parsed.clear()
        with self._lock.lock:
            if self._connection is None:
                return
            self._wait_for_cursors(CLOSE_SECONDS)
            for cursor in list(self._cursors.values()):
                cursor.interrupt()
            self._close_connections()
            if self._claim is not None:
                self._claim.release()

    def _close_connections(self) -> None:
        connection, self._connection, self._lasting = self._connection, None, None
        idle, self._idle = self._idle, []
        for each in (*idle, connection):
            if each is not None:
                each.close()
        self._has_checkpoints = True

    def replace_file(self, replacement: Path) -> None:
        """Move a copy of the database to its place, and open it. No connection may write.

        Raises:
            StoreError: reads do not end, or the write-ahead log is not empty. The file is as it was.
        """
        assert self._claim is not None
        path = self._claim.path
        self._parsed.clear()
        with self._lock.lock:
            self._wait_for_cursors(CLOSE_SECONDS)
            if self._cursors:
                raise StoreError(
                    f"{path} was not replaced: reads have not ended in {CLOSE_SECONDS:g} s. Try again later."
                )
            self._close_connections()  # the last one writes a checkpoint, and removes the log
            try:
                if log_of(path).exists():
                    raise StoreError(f"{path} was not replaced: its write-ahead log could not be emptied.")
                replacement.replace(path.resolve())
            finally:
                self._claim.release()
            self._connection = self._open()

    def _wait_for_cursors(self, seconds: float) -> None:
        """Wait, at most so many seconds, until no cursor is in use. The lock is held, so none begins."""
        until = time.monotonic() + seconds
        while self._cursors and time.monotonic() < until:
            time.sleep(0.001)

    def failed(self, error: duckdb.Error, doing: str) -> StoreError:
        """Return the exception for a DuckDB error. `doing` says what failed, such as "cannot be read"."""
        return as_store_error(error, self.url, self.path, doing=doing)

    def leave_to_parent(self) -> None:
        """Abandon all open connections in a forked process without using them.

        Destroying the connection would write a checkpoint into a file that the parent still uses, and could
        wait for locks that threads of the parent held. The connection is never destroyed.
        """
        for connection in (self._connection, self._lasting, *self._idle, *self._cursors.values()):
            if connection is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        if self._claim is not None:
            self._claim.release()

    def check_file(self) -> None:
        """Raise `StoreError` if the open file was deleted or replaced: changes to it would be lost.

        If only the write-ahead log is missing, write a checkpoint, which puts all changes into the file.
        """
        if self._claim is None:
            return
        state = self._claim.compare()
        if state is FileState.LOG_LOST and self._write_checkpoint():
            state = self._claim.compare()
        self._set_checkpoints(is_allowed=state is FileState.SAME)
        if state is FileState.SAME:
            return
        lost = self._claim.path
        if state is FileState.LOG_LOST:
            lost = log_of(lost)
        raise StoreError(
            f"{lost} was deleted or replaced while it was open. Changes would be lost, so no more changes "
            "are accepted. Restore the original file, or restart to use the file that is there."
        )

    def _write_checkpoint(self) -> bool:
        logger.warning("%s: the write-ahead log was deleted or replaced; writing a checkpoint.", self.url)
        until = time.monotonic() + CHECKPOINT_SECONDS
        while True:
            try:
                with self.cursor() as cursor:
                    cursor.execute("CHECKPOINT")
            except duckdb.TransactionException:  # a reader is active
                if time.monotonic() >= until:
                    return False
                time.sleep(0.05)
            except duckdb.Error as error:
                logger.error("%s: the checkpoint failed: %s", self.url, error)  # noqa: TRY400  the message is complete
                return False
            else:
                return True

    def _set_checkpoints(self, *, is_allowed: bool) -> None:
        """Enable or disable checkpoints, which could be written into a file that replaced the database."""
        if is_allowed == self._has_checkpoints:
            return
        self._has_checkpoints = is_allowed
        if not is_allowed:
            logger.error(
                "%s: the database file was deleted or replaced; no more changes are accepted.", self.url
            )
        with self.cursor() as cursor, suppress(duckdb.Error):
            cursor.execute(f"PRAGMA {'enable' if is_allowed else 'disable'}_checkpoint_on_shutdown")
            threshold = CHECKPOINT_THRESHOLD if is_allowed else "1TB"
            cursor.execute(f"SET checkpoint_threshold = {literal(threshold)}")

    def maintain_log(self) -> None:
        """Bound the write-ahead log and the number of row groups. Called after each commit.

        DuckDB writes a checkpoint in a commit only if no older transaction reads rows that have changed
        since. With constant reads that is rare, so the log would grow (2.0).

        Raises:
            duckdb.Error: the checkpoint failed, and DuckDB has invalidated the database.
        """
        size = self._protect_log()
        if size < self._log_bytes or not size:
            self._note_checkpoint()
        self._log_bytes = size
        if size > MAX_LOG_BYTES and self._has_checkpoints:
            self._checkpoint_between_reads()

    def _note_checkpoint(self) -> None:
        """Make the next checkpoint merge row groups if enough have not."""
        self._checkpoints += 1
        if self._checkpoints >= MERGE_EVERY and self._lasting is not None:
            is_next = self._checkpoints == MERGE_EVERY
            self._lasting.execute(MERGING if is_next else NO_MERGING)
            self._checkpoints = MERGE_EVERY if is_next else 0

    def _protect_log(self) -> int:
        """Restrict the log, which DuckDB recreates, to its owner, like the database file. Return its size."""
        if self.path is None:
            return 0
        log = log_of(self.path)
        try:
            status = log.stat()
            if status.st_mode & 0o077:
                log.chmod(OWNER_ONLY)
        except FileNotFoundError:
            return 0
        return status.st_size

    def _checkpoint_between_reads(self) -> None:
        """Block new reads, wait briefly for the running ones to end, and write a checkpoint."""
        if time.monotonic() < self._next_checkpoint:
            return
        with self._lock.lock:
            self._wait_for_cursors(READS_SECONDS)
            if not self._cursors and self._lasting is not None:
                try:
                    self._lasting.execute("CHECKPOINT")
                except duckdb.Error as error:  # the changes are in the log
                    if is_invalidated(error):
                        raise
                    logger.warning("%s: a checkpoint failed: %s", self.url, error)
                else:
                    return
        self._next_checkpoint = time.monotonic() + CHECKPOINT_SECONDS

    def checkpoint(self) -> None:
        """Write a checkpoint, when the running reads have ended. New ones wait. No connection may write.

        Raises:
            StoreError: the reads do not end.
            duckdb.Error: the checkpoint fails. Its changes stay in the write-ahead log.
        """
        with self._lock.lock:
            self._wait_for_cursors(CLOSE_SECONDS)
            if self._cursors or self._lasting is None:
                raise StoreError(
                    f"{self.url}: no checkpoint was written, because reads have not ended in "
                    f"{CLOSE_SECONDS:g} s. Try again later."
                )
            self._lasting.execute("CHECKPOINT")

    def trim_if_due(self) -> None:
        """Call `trim`, unless it was called recently."""
        if time.monotonic() - self._trimmed_at >= TRIM_SECONDS:
            self.trim()

    def trim(self) -> None:
        """Return memory that DuckDB has freed to the system. Takes a millisecond.

        Threads that call DuckDB keep the memory of their statements, 100 MB after a few large ones, because
        only DuckDB's own threads release it. Setting the memory limit to its present value releases it (2.0).
        """
        self._trimmed_at = time.monotonic()
        try:
            with self.cursor() as cursor:  # a separate one, so that a failure does not end a transaction
                cursor.execute(f"SET memory_limit = {literal(self._memory_limit)}")
        except (duckdb.Error, StoreError) as error:  # only the memory stays in use
            logger.debug("%s: memory was not returned to the system: %s", self.url, error)

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._claim is None:
            return self._opened()
        self._make_directory(self._claim.path.parent)
        try:
            self._claim.take()
            connection = self._opened_file(self._claim)
            self._claim.identify()
        except BaseException:
            self._claim.release()
            raise
        self._on_open()
        return connection

    def _opened_file(self, claim: FileClaim) -> duckdb.DuckDBPyConnection:
        is_new = not claim.path.exists()
        try:
            connection = self._opened_beside_lock(claim)
            if is_new:
                claim.path.chmod(OWNER_ONLY)
        except BaseException:
            if is_new:  # an incomplete file could never be opened
                for each in (claim.path, log_of(claim.path)):
                    each.unlink(missing_ok=True)
            raise
        return connection

    def _opened_beside_lock(self, claim: FileClaim) -> duckdb.DuckDBPyConnection:
        try:
            return self._opened()
        except StoreLockedError:  # on NFS, the claim's own lock on the file conflicts
            if not claim.unlock_file():
                raise
            return self._opened()

    def _make_directory(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreError(
                f"{self.url} cannot be opened: the directory {directory} cannot be created "
                f"({error.strerror}). Choose another database with APFLOW_DATABASE_URL."
            ) from error

    def _opened(self) -> duckdb.DuckDBPyConnection:
        connection = self._connect()
        try:
            migrate(connection, self.url, before=partial(self._copy_before_migration, connection))
            self.recover(connection)
            self._checkpoint_log(connection)
            connection.execute(f"SET memory_limit = {literal(self._memory_limit)}")
            self._protect_log()
        except duckdb.Error as error:
            connection.close()
            raise self.failed(error, "cannot be opened") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _copy_before_migration(self, connection: duckdb.DuckDBPyConnection, version: int) -> None:
        """Copy the file as it is at a version, unless that is switched off."""
        if self._claim is not None and self._has_migration_copy:
            connection.execute("CHECKPOINT")  # so that the file has what the log has
            copy_before_migration(self._claim, version)

    def _checkpoint_log(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Write a checkpoint if a log remains, before the memory limit is set.

        A checkpoint that runs out of memory, such as one during reads of large values, invalidates the
        database (2.0). The changes are then in the log; this writes them while no other statement needs
        memory.
        """
        if self.path is not None and log_of(self.path).exists():
            connection.execute("CHECKPOINT")

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            connection = duckdb.connect(":memory:", config=self._config())
        except duckdb.Error as error:
            raise self.failed(error, "cannot be opened") from error
        try:
            connection.execute(NO_ZSTD)
            connection.execute(NO_MERGING)
            if self.path is not None:
                connection.execute(
                    f"ATTACH {literal(str(self.path))} AS {NAME} (ROW_GROUP_SIZE {ROW_GROUP_SIZE})"
                )
                connection.execute(f"USE {NAME}")
        except duckdb.Error as error:
            connection.close()
            raise self.failed(error, "cannot be opened") from error
        return connection

    def _config(self) -> dict[str, str | bool | int | float | list[str]]:
        config: dict[str, str | bool | int | float | list[str]] = {
            # The statements touch few rows: dividing them among threads would cost more than it gains.
            "threads": 1,
            # Half of DuckDB's default: with the largest commits, the write-ahead log stays below 20 MB.
            "checkpoint_threshold": CHECKPOINT_THRESHOLD,
            # DuckDB returns the memory of a large write to the system soon after it.
            "allocator_background_threads": True,
            # DuckDB never loads extensions from the network.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        folder = Path(tempfile.gettempdir()) / "apflow-duckdb" if self.path is None else f"{self.path}.tmp"
        return {**config, "temp_directory": str(folder)}


def _leave_to_parent() -> None:
    for database in list(_databases):
        database.leave_to_parent()


after_fork_in_child(_leave_to_parent)


def literal(text: str) -> str:
    """Return a string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def migrate(
    connection: duckdb.DuckDBPyConnection,
    url: str,
    latest: int = LATEST,
    before: Callable[[int], object] = lambda _: None,
) -> None:
    """Migrate a database to a version, each step in a separate transaction.

    Args:
        before: called with the version of a database that is not empty, before it is changed.

    Raises:
        StoreVersionError: the database is newer than this program.
        FormerDatabaseError: the predecessor of apflow wrote the database; it stays unchanged.
    """
    if is_former(connection):
        raise FormerDatabaseError(url)
    connection.execute(CREATE_SCHEMA_TABLE)
    [row] = connection.execute(READ_VERSION).fetchall()
    due = list(migrations_after(row[0], url, latest))
    if due and row[0] > 0:
        before(row[0])
    for version, statements in due:
        connection.begin()
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(WRITE_VERSION, [version, naive(utc_now())])
            connection.commit()
        except BaseException:
            connection.rollback()
            raise


def is_former(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether a database has a table of tasks that apflow did not create."""
    rows = connection.execute(
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_catalog = current_database() AND table_name IN ('apflow_tasks', 'apflow_schema')"
    ).fetchall()
    return [row[0] for row in rows] == ["apflow_tasks"]
