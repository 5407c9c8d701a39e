"""The claim on a database file: one process, and one store in it, may have the file open.

DuckDB holds a POSIX record lock, which the kernel releases as soon as the process closes *any* descriptor of
the file (fcntl(2), "Record locks"): copying the open file is enough. The claim is therefore a lock on a file
next to the database, by an open file description lock (Linux) or flock(2), which only its holder releases.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from pathlib import Path

from apflow.core.errors import StoreError, StoreLockedError
from apflow.core.holder import find_holder
from apflow.core.process import after_fork_in_child

OWNER_ONLY = 0o600
_PID_BYTES = 32

# (device, inode) of the database files that this process has open: DuckDB opens a file twice under two names.
_open_files: set[tuple[int, int]] = set()
_open_paths: set[Path] = set()
_open_lock = threading.Lock()  # guards both


class FileClaim:
    """Exclusive use of one database file, from `take` to `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_path = path.with_name(f"{path.name}.lock")
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None

    def take(self) -> None:
        """Claim the file, which need not exist yet.

        Raises:
            StoreLockedError: another process, or another store of this one, has the file open.
            StoreError: the lock file cannot be made.
        """
        with _open_lock:
            identity = _identity_of(self.path)
            if self.path in _open_paths or identity in _open_files:
                raise StoreLockedError(self.path, os.getpid())
            self._lock()
            _open_paths.add(self.path)

    def identify(self) -> None:
        """Remember which file is open. Called when the database exists."""
        with _open_lock:
            self._identity = _identity_of(self.path)
            if self._identity is not None:
                _open_files.add(self._identity)

    def check(self) -> None:
        """Raise `StoreError` unless the open file is still the one at its path."""
        if self._identity is None or _identity_of(self.path) == self._identity:
            return
        raise StoreError(
            f"The database file {self.path} was deleted or replaced while it was open, so changes would be "
            "lost. Nothing more is acknowledged. Put the original file back, or restart to use what is there."
        )

    def release(self) -> None:
        """Give the file up. May be repeated.

        In a forked process it closes a copy of the descriptor, and the first process keeps the lock.
        """
        with _open_lock:
            _open_paths.discard(self.path)
            if self._identity is not None:
                _open_files.discard(self._identity)
            self._identity = None
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _lock(self) -> None:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self.lock_path, flags, OWNER_ONLY)
        except OSError as error:
            raise StoreError(
                f"The lock file {self.lock_path} cannot be opened: {error.strerror}. The directory of the "
                "database must be writable, and the lock file a regular file."
            ) from error
        try:
            _lock_exclusively(descriptor)
        except OSError as error:
            pid = _read_pid(descriptor)
            os.close(descriptor)
            raise locked(self.path, pid) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor


def locked(path: Path, pid: int | None) -> StoreLockedError:
    """Return who holds a file: by what the lock says, and by what a server has published."""
    holder = find_holder(path)
    if holder is None or pid not in (None, holder.pid):
        return StoreLockedError(path, pid)
    return StoreLockedError(path, holder.pid, holder.url, needs_token=holder.needs_token)


def _start_without_claims() -> None:
    """In a forked process: the files belong to the first one."""
    global _open_lock
    _open_lock = threading.Lock()
    _open_paths.clear()
    _open_files.clear()


after_fork_in_child(_start_without_claims)


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, _PID_BYTES, 0).strip()
    return int(text) if text.isdigit() else None


if sys.platform == "win32":

    def _lock_exclusively(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_exclusively(descriptor: int) -> None:
        """Raise `OSError` where another open file description holds the lock."""
        command = getattr(fcntl, "F_OFD_SETLK", None)
        if command is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        # struct flock (fcntl(2)): type, whence, start, length (0: to the end), pid (0, as OFD locks require).
        fcntl.fcntl(descriptor, command, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
