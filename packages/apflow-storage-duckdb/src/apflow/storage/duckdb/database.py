"""The DuckDB file: opened once, at the first need, and brought to the newest version."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from apflow.core.errors import FormerDatabaseError, StoreError, StoreLockedError
from apflow.core.holder import find_holder
from apflow.core.task import utc_now
from apflow.storage.sql.columns import naive
from apflow.storage.sql.migrations import (
    CREATE_SCHEMA_TABLE,
    LATEST,
    READ_VERSION,
    WRITE_VERSION,
    migrations_after,
)

_HOLDER = re.compile(r"PID (\d+)")
OWNER_ONLY = 0o600
TRIM_EVERY = 10_000  # rows read or written, after which memory is given back

logger = logging.getLogger(__name__)

# Files that a database of this process has open: two writers of one file would know nothing of each other,
# and DuckDB lets one process open a file twice.
_open_files: set[Path] = set()
_open_files_lock = threading.Lock()


class Database:
    """A DuckDB database, opened by whoever needs it first. Every method may block.

    `path` is None for a database in memory.
    """

    def __init__(self, url: str, path: Path | None, memory_limit: str) -> None:
        self.url, self.path = url, path
        self._memory_limit = memory_limit
        self._lock = threading.Lock()  # guards the connection
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._parsed: dict[str, duckdb.Statement] = {}

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own to the database, opening the file if nobody has.

        Raises:
            StoreLockedError: another process holds the file.
            StoreVersionError: a newer apflow wrote it.
            StoreError: it cannot be opened for another reason.
        """
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            return self._connection.cursor()

    def execute(
        self, cursor: duckdb.DuckDBPyConnection, text: str, parameters: Sequence[Any]
    ) -> duckdb.DuckDBPyConnection:
        """Execute a statement, parsed when it came for the first time: parsing is a third of its cost."""
        parsed = self._parsed.get(text)
        if parsed is None:
            [parsed] = cursor.extract_statements(text)
            self._parsed[text] = parsed
        return cursor.execute(parsed, parameters)

    def close(self) -> None:
        """Let go of the file. The next need opens it again."""
        self._parsed.clear()
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
                self._release()

    def protect(self) -> None:
        """Keep the write-ahead log, which comes and goes, for its owner alone, as the file is."""
        if self.path is None:
            return
        log = self.path.with_name(f"{self.path.name}.wal")
        try:
            if log.stat().st_mode & 0o077:
                log.chmod(OWNER_ONLY)
        except FileNotFoundError:
            pass

    def trim(self) -> None:
        """Give memory that DuckDB has freed back to the system. Takes a millisecond.

        The threads that call DuckDB keep what statements needed, 100 MB after a few large ones, because
        only its own threads tidy up. Setting the memory limit, to what it is, tidies up after all (2.0).
        """
        try:
            with self.cursor() as cursor:  # one of its own: a failure ends no transaction
                cursor.execute(f"SET memory_limit = {_literal(self._memory_limit)}")
        except (duckdb.Error, StoreError) as error:  # nothing is lost but the memory
            logger.debug("%s: memory was not given back: %s", self.url, error)

    def _open(self) -> duckdb.DuckDBPyConnection:
        self._claim()
        try:
            return self._opened()
        except BaseException:
            self._release()
            raise

    def _claim(self) -> None:
        if self.path is not None:
            with _open_files_lock:
                if self.path in _open_files:
                    raise StoreLockedError(self.path, os.getpid())
                _open_files.add(self.path)

    def _release(self) -> None:
        if self.path is not None:
            with _open_files_lock:
                _open_files.discard(self.path)

    def _opened(self) -> duckdb.DuckDBPyConnection:
        is_new = self.path is not None and not self.path.exists()
        if self.path is not None and is_new:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = self._connect()
        try:
            if self.path is not None and is_new:
                self.path.chmod(OWNER_ONLY)
            migrate(connection, self.url)
            self.protect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            return duckdb.connect(str(self.path or ":memory:"), config=self._config())
        except duckdb.Error as error:
            held = _HOLDER.search(str(error))
            if self.path is not None and (held or "lock" in str(error)):
                raise _locked(self.path, int(held[1]) if held else None) from error
            raise StoreError(
                f"{self.url} cannot be opened: {error}. Check the path, and who may write there, or choose "
                "another database with APFLOW_DATABASE_URL."
            ) from error

    def _config(self) -> dict[str, str | bool | int | float | list[str]]:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": self._memory_limit,
            # Statements here touch few rows: handing parts to other threads costs more than it gains.
            "threads": 1,
            # What a large write needed goes back to the system soon after it.
            "allocator_background_threads": True,
            # Nothing is ever fetched from the network.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if self.path is None:
            config["temp_directory"] = str(Path(tempfile.gettempdir()) / "apflow-duckdb")
        return config


def _locked(path: Path, pid: int | None) -> StoreLockedError:
    """Return who holds a file: by what DuckDB says, and by what the holder tells of itself."""
    holder = find_holder(path)
    if holder is None or pid not in (None, holder.pid):
        return StoreLockedError(path, pid)
    return StoreLockedError(path, holder.pid, holder.url, needs_token=holder.needs_token)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def migrate(connection: duckdb.DuckDBPyConnection, url: str, latest: int = LATEST) -> None:
    """Bring a database to a version, each step in a transaction of its own.

    Raises:
        StoreVersionError: it is newer than this program.
        FormerDatabaseError: the system before apflow wrote it; nothing is written.
    """
    if is_former(connection):
        raise FormerDatabaseError(url)
    connection.execute(CREATE_SCHEMA_TABLE)
    row = connection.execute(READ_VERSION).fetchone()
    assert row is not None  # an aggregate always gives one row
    for version, statements in migrations_after(row[0], url, latest):
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
    """Return whether a database has a table of tasks that apflow has not made."""
    rows = connection.execute(
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_name IN ('apflow_tasks', 'apflow_schema')"
    ).fetchall()
    return [row[0] for row in rows] == ["apflow_tasks"]
