"""Detects changes that other programs make to the open database file.

DuckDB writes to open descriptors: a file that is deleted, moved or replaced still accepts changes, which no
later process finds. The writer therefore compares the paths with the open files before and after each commit.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_HEADER_BYTES = 12_288  # three blocks: the file header, and two states of which the newer one is valid
_MAGIC = slice(8, 12)
_IDENTIFIER = slice(
    124, 140
)  # random, set when the database is created (DuckDB 2.0; constant in any version)
_ITERATIONS = (4096 + 8, 8192 + 8)  # offset of the number of each state; a checkpoint writes the next number
_BUSY = (errno.EACCES, errno.EAGAIN)


def log_of(path: Path) -> Path:
    """Return the write-ahead log of a database file."""
    return path.with_name(f"{path.name}.wal")


class FileState(Enum):
    """How the files at the paths compare with the open files."""

    SAME = "same"
    REPLACED = "replaced"  # the database file or its content
    LOG_LOST = "log lost"  # the write-ahead log was deleted, moved or replaced; the database file is intact


@dataclass(frozen=True, slots=True)
class _Header:
    magic: bytes
    identifier: bytes
    iteration: int


class OpenFile:
    """A descriptor of the database file that holds a separate lock on it.

    It is closed after DuckDB has closed the file: closing it earlier releases the record lock of DuckDB.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = log_of(path)
        self._descriptor = _open(path)
        self._written: tuple[int, int] | None = None  # size and time of the database file
        self._logged: tuple[int, int] | None = None  # inode and size of the log
        self._header: _Header | None = None

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: the same under every name of the file."""
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def lock(self) -> bool:
        """Lock the file under all its names, and return whether that succeeded.

        This is flock(2), which is independent of record locks. If the file system does not support it, only
        the lock file next to the database protects the file.
        """
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _BUSY
        return True

    def unlock(self) -> None:
        """Release the lock, so that DuckDB can lock the file (on NFS, both locks are the same)."""
        if sys.platform != "win32":
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def holder(self) -> int | None:
        """Return the id of the process that holds a lock of this kind, if the system reports it (Linux)."""
        device, inode = self.identity
        name = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
        try:
            lines = Path("/proc/locks").read_text().splitlines()
        except OSError:
            return None
        for fields in map(str.split, lines):
            if fields[1:2] == ["FLOCK"] and name in fields and int(fields[4]) > 0:
                return int(fields[4])
        return None

    def remember(self) -> None:
        """Record the present state of the files as written by this process."""
        self._written, self._header = _size_and_time(self.path), self._read_header()
        self._logged = _inode_and_size(self._log)

    def compare(self) -> FileState:
        """Compare the paths with the open files. Called before and after each commit."""
        try:
            status = self.path.stat()
        except OSError:
            return FileState.REPLACED
        if (status.st_dev, status.st_ino) != self.identity:
            return FileState.REPLACED
        before, logged = self._logged, _inode_and_size(self._log)
        has_grown = before is None or (
            logged is not None and logged[0] == before[0] and logged[1] >= before[1]
        )
        written = (status.st_size, status.st_mtime_ns)
        if has_grown and written == self._written:
            self._logged = logged
            return FileState.SAME
        known, header = self._header, self._read_header()
        if known is not None and (
            header is None
            or (header.magic, header.identifier) != (known.magic, known.identifier)
            or header.iteration < known.iteration
        ):
            return FileState.REPLACED
        if not has_grown and known is not None and header is not None and header.iteration == known.iteration:
            return FileState.LOG_LOST
        self._written, self._header, self._logged = written, header, logged
        return FileState.SAME

    def pieces(self, size: int = 8 << 20) -> Iterator[bytes]:
        """Yield the content of the file. A second descriptor would release the lock of DuckDB when closed."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        while piece := os.read(self._descriptor, size):
            yield piece

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def _read_header(self) -> _Header | None:
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        data = os.read(self._descriptor, _HEADER_BYTES)
        if len(data) < _HEADER_BYTES:
            return None
        iteration = max(struct.unpack_from("<Q", data, start)[0] for start in _ITERATIONS)
        return _Header(data[_MAGIC], data[_IDENTIFIER], iteration)


def _open(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NONBLOCK if sys.platform != "win32" else getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, os.O_RDWR | flags)  # NFS requires write access for a lock
    except PermissionError:
        return os.open(path, os.O_RDONLY | flags)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _inode_and_size(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size
