"""The claim on a database file: only one process, and one store in it, may open the file.

DuckDB holds a POSIX record lock, which the kernel releases as soon as the process closes *any* descriptor of
the file (fcntl(2), "Record locks"); copying the open file is enough. The claim is therefore a lock on a file
next to the database: an open file description lock (Linux) or flock(2), which only its holder can release.
A second lock, on the database file itself, also covers its other names (hard links).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from apflow.core.errors import StoreError, StoreLockedError
from apflow.core.process.identity import ForkLock, after_fork_in_child, started
from apflow.core.process.server_file import find_server
from apflow.storage.duckdb.openfile import FileState, OpenFile

OWNER_ONLY = 0o600
_PID_BYTES = 32
_BUSY = (errno.EACCES, errno.EAGAIN)
# The operating system or the file system does not support locks of this kind.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

# (device, inode) of the database files that this process has open: DuckDB would open a file again by another
# name.
_open_files: set[tuple[int, int]] = set()
_open_paths: set[Path] = set()
_open_lock = ForkLock()  # guards both


class FileClaim:
    """Exclusive use of one database file, from `take` to `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_path = path.with_name(f"{path.name}.lock")
        self._descriptor: int | None = None
        self._file: OpenFile | None = None
        self._identity: tuple[int, int] | None = None

    def take(self) -> None:
        """Claim the file. It does not have to exist yet.

        Raises:
            StoreLockedError: another process, or another store of this one, has the file open.
            StoreError: the path is not a regular file, or the lock file cannot be created or locked.
        """
        with _open_lock.lock:
            identity = _identity_of(self.path)
            if self.path in _open_paths or identity in _open_files:
                raise StoreLockedError(self.path, os.getpid())
            self._descriptor = _locked_file(self.lock_path, self.path)
            _open_paths.add(self.path)
        self._open_file()
        if self._file is not None and not self._file.lock():
            raise locked(self.path, self._file.holder())

    def unlock_file(self) -> bool:
        """Release the lock on the database file, so that DuckDB can lock it; return whether there was one."""
        if self._file is not None:
            self._file.unlock()
        return self._file is not None

    def identify(self) -> None:
        """Record which file is open. Called after the database is created."""
        if self._file is None:  # a new file: it cannot be open by another name
            self._open_file()
            if self._file is not None:
                self._file.lock()
        if self._file is not None:
            self._file.remember()
        with _open_lock.lock:
            self._identity = None if self._file is None else self._file.identity
            if self._identity is not None:
                _open_files.add(self._identity)

    def compare(self) -> FileState:
        """Compare the open file with the file at the path. Only the writer thread may call this."""
        return FileState.SAME if self._file is None else self._file.compare()

    def pieces(self) -> Iterator[bytes]:
        """Yield the content of the open file; nothing if the file is new."""
        return iter(()) if self._file is None else self._file.pieces()

    def release(self) -> None:
        """Release the file after DuckDB has closed it. Repeated calls have no effect.

        In a forked process, this closes copies of the descriptors, and the parent keeps the locks.
        """
        with _open_lock.lock:
            if self._descriptor is not None:
                _open_paths.discard(self.path)
            if self._identity is not None:
                _open_files.discard(self._identity)
            self._identity = None
            descriptor, self._descriptor = self._descriptor, None
            file, self._file = self._file, None
        if file is not None:
            file.close()
        if descriptor is not None:
            os.close(descriptor)

    def _open_file(self) -> None:
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                kind = "Is a directory" if self.path.is_dir() else "Not a regular file"
                raise StoreError(
                    f"{self.path} cannot be opened as a database: {kind}. Check the path, or "
                    "choose another one with APFLOW_DATABASE_URL."
                )
            self._file = OpenFile(self.path)
        except (FileNotFoundError, PermissionError):  # DuckDB creates the file, or reports the error
            return


def _locked_file(lock_path: Path, path: Path) -> int:
    """Open and lock the lock file, write the id of this process into it, and return its descriptor."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(lock_path, flags | getattr(os, "O_NONBLOCK", 0), OWNER_ONLY)
    except OSError as error:
        raise StoreError(
            f"The lock file {lock_path} cannot be opened: {error.strerror}. The directory of the "
            "database must be writable, and the lock file a regular file."
        ) from error
    try:
        _lock_exclusively(descriptor)
        os.pwrite(descriptor, f"{os.getpid()}\n".ljust(_PID_BYTES).encode(), 0)
    except OSError as error:
        pid = _read_pid(descriptor)
        os.close(descriptor)
        if error.errno in _BUSY:
            raise locked(path, pid) from error
        raise StoreError(
            f"The lock file {lock_path} cannot be locked: {error.strerror}. The database must be on a file "
            "system that supports locks and has space; choose another place with APFLOW_DATABASE_URL."
        ) from error
    return descriptor


def locked(path: Path, pid: int | None) -> StoreLockedError:
    """Return an error that names the holder of a file, from the lock and from a published server file."""
    holder = find_server(path)
    if holder is None or pid not in (None, holder.pid):
        return StoreLockedError(path, pid)
    return StoreLockedError(path, holder.pid, holder.url or None, needs_token=holder.needs_token)


def _start_without_claims() -> None:
    """Forget all open files in a forked process: they belong to the parent."""
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
    if not text.isdigit() or started(int(text)) == "ended":
        return None
    return int(text)


if sys.platform == "win32":

    def _lock_exclusively(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_exclusively(descriptor: int) -> None:
        """Raise `OSError` if another open file description holds the lock."""
        if sys.platform == "linux":
            # struct flock (fcntl(2)): type, origin, start, length (0: to the end), pid (0 is required here).
            lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
            else:
                return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
