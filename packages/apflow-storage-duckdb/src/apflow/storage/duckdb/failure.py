"""Translates DuckDB errors into errors that say what to do about them.

The messages are those of DuckDB 2.0; each has a test that makes DuckDB raise it. Patterns match at the start
of the message, and reasons of the operating system at its end, so that paths and values cannot match.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import duckdb

from apflow.core.errors import StoreDamagedError, StoreError, StoreUnavailableError
from apflow.storage.duckdb.claim import locked

Read = Callable[[re.Match[str], "Failure"], StoreError]

_PREFIX = (
    r"^(?:\w[\w ]* Error: )?(?:Failed to (?:commit|create checkpoint because of error): )*(?:IO Error: )?"
)
# A checkpoint may succeed after other statements have released their memory.
_NO_MEMORY = re.compile(
    r"Failed to create checkpoint because of error: .*(?:could not allocate|failed to (?:allocate|pin)) "
)
_INVALIDATED = re.compile(_PREFIX + r'Database ".*" has been invalidated because ')
_POSITION = re.compile(r"entry at byte position (\d+)")
_OTHER = "or choose another database with APFLOW_DATABASE_URL."
_MAKE_SPACE = "Free space on the disk, or raise the quota. All acknowledged changes are stored."


class Failure:
    """A DuckDB error: its message, the file, and the operation that failed."""

    def __init__(self, error: duckdb.Error, url: str, path: Path | None, doing: str) -> None:
        self.url, self.doing = url, doing
        self.file = str(path) if path is not None else "the database"
        self.lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["unknown error"]
        self.path = path

    @property
    def cause(self) -> str:
        """The first line of the message, as a sentence."""
        return self.lines[0] if self.lines[0].endswith((".", "!")) else f"{self.lines[0]}."

    def plain(self, advice: str) -> StoreError:
        """Return an error with the cause and some advice."""
        return StoreError(f"{self.url} {self.doing}: {self.cause} {advice}".rstrip())

    def damaged(self, advice: str) -> StoreError:
        """Return an error about a file that is damaged, or is not a database."""
        return StoreDamagedError(self.url, self.cause, advice, doing=self.doing)


def as_store_error(error: duckdb.Error, url: str, path: Path | None, *, doing: str) -> StoreError:
    """Return the exception to raise for a DuckDB error.

    Args:
        doing: what failed, as the end of a sentence that begins with the URL: "cannot be opened".
    """
    described = _as_lasting_error(error, url, path, doing)
    reason = _lacking(error)
    if reason is None or isinstance(described, StoreDamagedError):
        return described
    return StoreUnavailableError(url, reason, str(described).removeprefix(f"{url} "))


def is_invalidated(error: BaseException) -> bool:
    """Return whether DuckDB answers nothing more until the database is opened again.

    After a failed checkpoint, some statements raise a `FatalException`, others an `IOException` (2.0).
    """
    return isinstance(error, duckdb.FatalException) or (
        isinstance(error, duckdb.Error) and bool(_INVALIDATED.search(str(error)))
    )


def unavailable(url: str, error: BaseException) -> StoreError | None:
    """Return the error to raise if DuckDB temporarily cannot write; None for other errors."""
    if not isinstance(error, duckdb.Error) or _lacking(error) is None:
        return None
    return as_store_error(error, url, None, doing="cannot be written now")


def _lacking(error: duckdb.Error) -> str | None:
    """Return the system's message if the disk or the process lacks a resource; otherwise None."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    if isinstance(error, duckdb.FatalException) and _NO_MEMORY.search(lines[0]):
        return "no memory for a checkpoint"
    lacks = (text for text, reason in _REASONS.items() if reason.passes)
    return next((text for text in lacks if any(line.endswith(text) for line in lines)), None)


def _as_lasting_error(error: duckdb.Error, url: str, path: Path | None, doing: str) -> StoreError:
    failure = Failure(error, url, path, doing)
    if isinstance(error, duckdb.OutOfMemoryException):
        return failure.plain("Raise the setting duckdb_memory_limit (APFLOW_DUCKDB_MEMORY_LIMIT).")
    for pattern, read in _KINDS:
        match = pattern.search(failure.lines[0])
        if match:
            return read(match, failure)
    return failure.plain("")


def _read_held(match: re.Match[str], failure: Failure) -> StoreError:
    held_by = re.search(r"\(PID (\d+)\)", match[0])
    if failure.path is None:
        return failure.plain("")
    return locked(failure.path, int(held_by[1]) if held_by else None)


def _read_foreign(_: re.Match[str], failure: Failure) -> StoreError:
    return failure.damaged(
        f"Check the path {failure.file}. If it is the right file, its first block is damaged: "
        "restore a backup."
    )


def _read_log(_: re.Match[str], failure: Failure) -> StoreError:
    log, position = f"{failure.file}.wal", _POSITION.search(failure.cause)
    if "does not match database file" in failure.cause:
        return failure.damaged(
            f"The write-ahead log {log} belongs to another copy of the database. Put the right log next to "
            "the file. Without one, move this log away: the database opens as it was at its last checkpoint."
        )
    cut = f" `truncate -s {position[1]} {log}` keeps the changes before the damage." if position else ""
    return failure.damaged(
        f"The database file is intact up to its last checkpoint; only its write-ahead log {log} is damaged. "
        f"Copy both files first.{cut} Moving the log away loses all changes since the checkpoint."
    )


def _read_damage(_: re.Match[str], failure: Failure) -> StoreError:
    return failure.damaged(
        f"The file {failure.file} is damaged. Copy it, then restore a backup. Without one, open the copy "
        "read-only with the duckdb program and export the tables whose blocks are intact "
        "(COPY apflow_tasks TO 'tasks.parquet')."
    )


def _read_version(match: re.Match[str], failure: Failure) -> StoreError:
    found, newest = int(match["found"]), int(match["newest"])
    written = failure.lines[1] if len(failure.lines) > 1 else ""
    if found > newest:
        advice = "Upgrade the package duckdb to the version that wrote the file, or a newer one."
    else:
        advice = (
            "Export it with the version that wrote it (EXPORT DATABASE), and import it with this one "
            "(IMPORT DATABASE)."
        )
    return failure.plain(f"{written} {advice} The file is unchanged.".lstrip())


def _read_reason(match: re.Match[str], failure: Failure) -> StoreError:
    reason = _REASONS.get(
        match["reason"].rstrip("."),
        _Reason(f"Check that {{file}} is a file that this user may write, {_OTHER}"),
    )
    return failure.plain(reason.advice.format(file=failure.file, directory=Path(failure.file).parent))


def _advise(advice: str) -> Read:
    def read(_: re.Match[str], failure: Failure) -> StoreError:
        return failure.plain(advice.format(file=failure.file))

    return read


def _advise_damaged(advice: str) -> Read:
    def read(_: re.Match[str], failure: Failure) -> StoreError:
        return failure.damaged(advice.format(file=failure.file))

    return read


class _Reason(NamedTuple):
    """Advice for an error of the operating system."""

    advice: str
    passes: bool = False  # the disk or the process lacks a resource, and a retry may succeed


_REASONS = {
    os.strerror(code): reason
    for codes, reason in (
        ((errno.ENOENT, errno.ENOTDIR), _Reason(f"Create the directory {{directory}}, {_OTHER}")),
        (
            (errno.EACCES, errno.EPERM),
            _Reason(f"Give this user the right to read and write {{file}} and its directory, {_OTHER}"),
        ),
        (
            (errno.EROFS,),
            _Reason(f"The file system is mounted read-only: mount it for writing, {_OTHER}", passes=True),
        ),
        ((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _Reason(_MAKE_SPACE, passes=True)),
        ((errno.EMFILE, errno.ENFILE), _Reason("Raise the limit of open files (ulimit -n).", passes=True)),
        ((errno.ENOMEM,), _Reason("Give the process more memory.", passes=True)),
        (
            (errno.EIO,),
            _Reason(
                "The disk reports errors: check it, copy the file, and restore a backup if it is damaged.",
                passes=True,
            ),
        ),
        ((errno.ELOOP, errno.ENAMETOOLONG), _Reason(f"Correct the path, {_OTHER}")),
    )
    for code in codes
}

_KINDS: tuple[tuple[re.Pattern[str], Read], ...] = tuple(
    (re.compile(_PREFIX + pattern), read)
    for pattern, read in (
        (r'Could not set lock on file ".*": Conflicting lock is held .*', _read_held),
        (r'The file ".*" exists, but it is not a valid DuckDB database file', _read_foreign),
        (
            r"Trying to read a database file with (?:storage )?version number (?P<found>\d+), but we can "
            r"only read (?:storage )?versions? (?:between \d+ and )?(?P<newest>\d+)",
            _read_version,
        ),
        (r"(?:Failure while replaying WAL file|Corrupt WAL)", _read_log),
        (
            r"Corrupt(?:ed)? temporary file",
            _advise("Restart the process: DuckDB creates new temporary files."),
        ),
        (
            r"(?:[Cc]orrupt(?:ed)? |Could not read enough bytes from file|Failed to load metadata pointer"
            r"|.*Database file appears to be corrupted)",
            _read_damage,
        ),
        (
            r'(?:Extension "|Failed to download extension ").*sqlite_scanner',
            _advise_damaged("{file} is an SQLite database. Choose another path with APFLOW_DATABASE_URL."),
        ),
        (
            r"Cannot open encrypted database",
            _advise_damaged(
                "{file} is encrypted, or its first block is damaged. apflow cannot open encrypted files."
            ),
        ),
        (
            r"(?:Can't open a connection to same database file with a different configuration"
            r"|Unique file handle conflict)",
            _advise("Other code in this process has {file} open. Close that connection first."),
        ),
        (
            r"(?:Memory must have|Memory cannot|Unknown unit for memory|Cannot parse memory)",
            _advise("Correct the setting duckdb_memory_limit (APFLOW_DUCKDB_MEMORY_LIMIT), such as 256MB."),
        ),
        (r'.*(?:[Ff]ile|directory|lock) .*": (?P<reason>[^":]+)$', _read_reason),
    )
)
