"""The journal: a SQLite database beside the DuckDB file, which makes small changes durable.

DuckDB takes milliseconds for a commit of any size, SQLite a fraction of one. A record of the journal is what
one group commit writes. It is acknowledged once it is here, and applied to the DuckDB file later, with
others.

The DuckDB file names its journal and has the number of the last record applied, written in the transaction
that applies it. So each record is applied once, and a journal next to another file, or an older copy of
either, is noticed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sqlite3
import uuid
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Final
from weakref import WeakSet

from apflow.core.errors import StoreDamagedError, StoreError, StoreUnavailableError
from apflow.core.process.identity import after_fork_in_child
from apflow.core.process.new_file import create_private

ADVICE: Final = (
    "Put the database file and the journal that belong together next to each other. If the right journal is "
    "lost, `apflow db discard-journal` opens the database without it."
)
_FORMAT: Final = 1  # of the tables and of the records
_CREATE: Final = (
    "CREATE TABLE journal (format INTEGER NOT NULL, identity TEXT NOT NULL, is_closed INTEGER NOT NULL)",
    "CREATE TABLE records (number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, body BLOB NOT NULL)",
)
_INSERT: Final = "INSERT INTO records (number, checksum, body) VALUES (?, ?, ?)"
# The last record stays, so that its number is known.
_READ: Final = "SELECT number, checksum, body FROM records WHERE number > ? ORDER BY number"
_DELETE: Final = "DELETE FROM records WHERE number <= ?"


_journals: WeakSet[Journal] = WeakSet()


def _leave_to_parent() -> None:
    for journal in list(_journals):
        journal.leave_to_parent()


after_fork_in_child(_leave_to_parent)


def journal_of(path: Path) -> Path:
    """Return the journal of a database file."""
    return path.with_name(f"{path.name}.journal")


class Journal:
    """An open journal. One thread at a time may use it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, identity: str, last: int) -> None:
        self.path = path
        self.identity = identity
        self.last = last  # the number of the last record; 0: there was none
        self.applied = 0  # the records up to this number are in the database, and no longer needed
        self._deleted = 0
        self._connection = connection
        self._inodes = self._find_inodes()
        _journals.add(self)

    @classmethod
    def create(cls, path: Path) -> Journal:
        """Create a journal, which must not exist.

        Raises:
            StoreError: the file cannot be written.
        """
        partial = _incomplete(path)
        try:
            remove(partial)
            create_private(partial).close()
            with closing(_connected(partial)) as connection:
                for statement in _CREATE:
                    connection.execute(statement)
                connection.execute("INSERT INTO journal VALUES (?, ?, 1)", (_FORMAT, uuid.uuid4().hex))
                # A commit is one append and one fsync then (https://sqlite.org/wal.html).
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
            remove(path)  # its log, left by a process that was killed
            partial.rename(path)  # durable with the log: SQLite syncs the directory when it creates that
        except (OSError, sqlite3.Error) as error:
            with suppress(OSError):
                remove(partial)
            raise _failed(path, error) from error
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Open the journal that an ended process has left.

        Raises:
            StoreDamagedError: the file is damaged or incomplete, or is not a journal of this version.
            StoreError: it cannot be read.
        """
        try:
            _check_log(path)
            connection = _connected(path)
        except (OSError, sqlite3.Error, ValueError) as error:
            raise _failed(path, error) from error
        try:
            [(number, identity, _)] = connection.execute("SELECT * FROM journal").fetchall()
            if number != _FORMAT:
                raise _damaged(path, f"its format is {number!r}, not {_FORMAT}.")
            connection.execute("UPDATE journal SET is_closed = 0")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            [(last,)] = connection.execute("SELECT coalesce(max(number), 0) FROM records").fetchall()
        except (sqlite3.Error, ValueError) as error:
            connection.close()
            raise _failed(path, error) from error
        return cls(path, connection, identity, last)

    def append(self, body: bytes) -> int:
        """Store a record durably, and return its number.

        Raises:
            StoreUnavailableError: there is no space, or the disk fails. The record is not stored.
            StoreError: the record cannot be stored for another reason.
        """
        number, run = self.last + 1, self._connection.execute
        delete = min(self.applied, self.last - 1)
        try:
            if delete > self._deleted:
                run("BEGIN")
                run(_INSERT, (number, zlib.crc32(body), body))
                run(_DELETE, (delete,))
                run("COMMIT")
                self._deleted = delete
            else:
                run(_INSERT, (number, zlib.crc32(body), body))
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise _failed(self.path, error) from error
        self.last = number
        return number

    def after(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield the records after a number, in order.

        Raises:
            StoreDamagedError: a record is damaged or missing.
        """
        try:
            with closing(self._connection.execute(_READ, (number,))) as rows:
                for found, checksum, body in rows:
                    number += 1
                    if found != number:
                        raise _damaged(
                            self.path,
                            f"record {number} is missing: a newer copy of the database file has it, or the "
                            "journal is damaged.",
                        )
                    if not isinstance(body, bytes) or zlib.crc32(body) != checksum:
                        raise _damaged(self.path, f"record {found} has a wrong checksum.")
                    yield found, body
        except sqlite3.Error as error:
            raise _failed(self.path, error) from error

    @property
    def is_there(self) -> bool:
        """Whether the files at the paths are still the ones that are open."""
        return self._inodes is not None and self._find_inodes() == self._inodes

    def _find_inodes(self) -> tuple[int, int] | None:
        try:
            return self.path.stat().st_ino, _log_of(self.path).stat().st_ino
        except OSError:
            return None

    def leave_to_parent(self) -> None:
        """Abandon the connection in a forked process: closing it would delete the log of the parent."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    def close(self) -> None:
        """Close the journal and keep its records."""
        with suppress(sqlite3.Error):
            self._connection.execute("UPDATE journal SET is_closed = 1")
        self._connection.close()

    def remove(self) -> None:
        """Close the journal and delete it. All its records must be applied."""
        self.close()
        remove(self.path)


def remove(path: Path) -> None:
    """Delete the files of a journal, if they exist."""
    for each in (path, _log_of(path), path.with_name(f"{path.name}-shm")):
        each.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename the files of a journal; return the new path of the first."""
    free = (path.with_name(f"{path.name}.discarded-{number}") for number in count(1))
    kept = next(each for each in free if not each.exists())
    for old, new in ((_log_of(path), _log_of(kept)), (path, kept)):
        if old.exists():
            old.rename(new)
    return kept


def remove_incomplete(path: Path) -> None:
    """Delete what is left of a journal that a killed process was about to create."""
    if _incomplete(path).exists():
        remove(_incomplete(path))


def _incomplete(path: Path) -> Path:
    return path.with_name(f"{path.name}-new")


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _check_log(path: Path) -> None:
    """Raise `StoreDamagedError` if a process was killed and the write-ahead log is missing since.

    Without the log, SQLite would open the journal as it was at its last checkpoint.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as connection:
        [(is_closed,)] = connection.execute("SELECT is_closed FROM journal").fetchall()
    if not is_closed and not _log_of(path).exists():
        raise _damaged(path, f"its write-ahead log {_log_of(path)} is missing.")


def _connected(path: Path) -> sqlite3.Connection:
    """Return a connection that needs no shared memory: the claim on the database admits one process."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=16)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _failed(path: Path, error: Exception) -> StoreError:
    """Return the error for one of SQLite, the system, or a row that is not as expected."""
    url = f"The journal {path}"
    if isinstance(error, OSError):
        reason = error.strerror or "an error of the system"
        return StoreUnavailableError(url, reason, f"cannot be written: {error}.")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # without the extended part
    if code in _REASONS:
        reason = os.strerror(_REASONS[code])
        return StoreUnavailableError(url, reason, f"cannot be written: {reason} ({error}).")
    if code == sqlite3.SQLITE_CANTOPEN:  # there is no free descriptor, no right, or no file
        return StoreUnavailableError(url, "a file cannot be opened", f"cannot be opened: {error}.")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        return _damaged(path, f"{error}.")
    return StoreError(f"{url} cannot be used: {error}.")


def _damaged(path: Path, cause: str) -> StoreDamagedError:
    database = path.with_suffix("")
    return StoreDamagedError(
        f"The journal {path}",
        f"cannot be applied to {database}: {cause}",
        f"{ADVICE} Nothing was changed.",
        doing="",
    )


# The result codes of SQLite (https://sqlite.org/rescode.html) that stand for a lack that may pass.
_REASONS: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
