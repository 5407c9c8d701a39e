"""What an error of DuckDB means for its user, and what to do about it.

The messages are those of DuckDB 2.0; each has a test that makes DuckDB raise it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import duckdb

from apflow.core.errors import StoreDamagedError, StoreError, StoreUnavailableError
from apflow.storage.duckdb.claim import locked

_HELD = re.compile(r"^IO Error: Could not set lock on file ")
_PID = re.compile(r"\(PID (\d+)\)")
_WAL = re.compile(r"Failure while replaying WAL file|Corrupt WAL file")
_POSITION = re.compile(r"entry at byte position (\d+)")
_DAMAGED = re.compile(
    r"Corrupt database file|Could not read enough bytes from file|Failed to load metadata pointer"
)
_SYSTEM = re.compile(
    r"Cannot open file|Could not read from file|Could not write|No space left|Failed to create directory"
)


def as_store_error(error: duckdb.Error, url: str, path: Path | None, *, doing: str) -> StoreError:
    """Return what to raise for an error of DuckDB.

    Args:
        doing: what failed, as the end of a sentence that begins with the URL: "cannot be opened".
    """
    message = str(error)
    passing = unavailable(url, error)
    if passing is not None:
        return passing
    if path is not None:
        for pattern, read in _KINDS:
            if pattern.search(message):
                return read(message, url, path)
    advice = _ADVICE.get(type(error), "") if path is not None else ""
    if path is not None and _SYSTEM.search(message):
        advice = (
            f" Check that {path} is a file in an existing directory that this user may write, and that the "
            "disk has space, or choose another database with APFLOW_DATABASE_URL."
        )
    return StoreError(f"{url} {doing}: {_sentence(message)}{advice}")


def _read_lock(message: str, url: str, path: Path) -> StoreError:
    del url
    held_by = _PID.search(message)
    return locked(path, int(held_by[1]) if held_by else None)


def _read_foreign(message: str, url: str, path: Path) -> StoreError:
    return StoreDamagedError(
        url,
        _sentence(message),
        f"Check the path {path}. If it is the right file, its first block is damaged: restore a backup.",
    )


def _read_wal(message: str, url: str, path: Path) -> StoreError:
    position = _POSITION.search(message)
    start = position[1] if position else "0"
    cut = f"`truncate -s {start} {path}.wal` keeps the changes before the damage"
    return StoreDamagedError(
        url,
        _sentence(message),
        f"The database file is intact up to its last checkpoint; only its write-ahead log {path}.wal is "
        f"damaged. Copy both files first. {cut}. Moving the log away loses all changes since the checkpoint.",
    )


def _read_damage(message: str, url: str, path: Path) -> StoreError:
    return StoreDamagedError(
        url,
        _sentence(message),
        f"The file {path} is damaged. Copy it, then restore a backup. Without one, open the copy read-only "
        "with the duckdb program and export the tables whose blocks are intact "
        "(COPY apflow_tasks TO 'tasks.parquet').",
    )


def _read_version(message: str, url: str, path: Path) -> StoreError:
    return StoreError(
        f"{url} cannot be opened: {_sentence(message)} Another version of DuckDB wrote {path}. Upgrade the "
        "package duckdb, or export the database with the version that wrote it."
    )


def _sentence(message: str) -> str:
    first = message.strip().splitlines()[0] if message.strip() else "unknown error"
    return first if first.endswith((".", "!")) else f"{first}."


_KINDS: tuple[tuple[re.Pattern[str], Callable[[str, str, Path], StoreError]], ...] = (
    (_HELD, _read_lock),
    (re.compile(r"exists, but it is not a valid DuckDB database file"), _read_foreign),
    (re.compile(r"database file with version number"), _read_version),
    (_WAL, _read_wal),
    (_DAMAGED, _read_damage),
)
_ADVICE: dict[type[duckdb.Error], str] = {
    duckdb.OutOfMemoryException: " Raise the setting duckdb_memory_limit (APFLOW_DUCKDB_MEMORY_LIMIT).",
}


# What the system says where a disk, or the process, lacks room. DuckDB passes it on as text.
_ROOM = {
    os.strerror(each): each
    for each in (
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE,
        errno.ENOMEM,
    )
}  # fmt: skip


def unavailable(url: str, error: BaseException) -> StoreUnavailableError | None:
    """Return the error to raise where DuckDB cannot write for the moment; None for another error."""
    if not isinstance(error, duckdb.Error):
        return None
    reason = next((text for text in _ROOM if text in str(error)), None)
    if reason is None:
        return None
    return StoreUnavailableError(
        url, reason, f"cannot be written now: {error}. Make room there; what waits is then written."
    )
