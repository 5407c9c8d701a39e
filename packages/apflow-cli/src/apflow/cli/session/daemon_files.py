"""The files of a daemon: its lock, its state and its log, in the user's folder for states.

A daemon holds a record lock while it lives. The system releases the lock with the process, however that
ends, and a forked process does not inherit it. The state file counts only while the lock is held, so a
process ID in it is never out of date.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from apflow.core.errors import ConflictError, InvalidInputError
from apflow.core.process.atomic_file import OWNER_ONLY, write_whole
from apflow.core.process.identity import has_ended
from apflow.core.store.base import TaskStore

if sys.platform != "win32":
    import fcntl

PROBE_SECONDS: Final = 2.0  # for which another command may hold the lock to look at it
INTERVAL_SECONDS: Final = 0.02
WAITING: Final = "waiting"  # for the database, which another process holds
RUNNING: Final = "running"


@dataclass(frozen=True, slots=True)
class DaemonState:
    """A daemon that lives."""

    pid: int
    started: str  # see `apflow.core.process.identity`
    state: str  # RUNNING or WAITING
    since: str  # when it started, in ISO 8601
    database: str  # its URL, without a password
    log: str
    modules: tuple[str, ...] = ()


class DaemonLockedError(ConflictError):
    """Another daemon of the same database lives."""


class DaemonFiles:
    """The files of the daemon of one database.

    Raises:
        InvalidInputError: daemons are not supported here.
    """

    def __init__(self, db: TaskStore) -> None:
        import platformdirs

        if sys.platform == "win32":
            raise InvalidInputError("Daemons are not supported on Windows. Use `apflow worker`.")
        if not db.capabilities.is_durable:
            raise InvalidInputError(
                f"{db.url} is lost with its process, so a daemon cannot run it. Set APFLOW_DATABASE_URL to a "
                "DuckDB file or a PostgreSQL database."
            )
        name = sha256(db.url.encode()).hexdigest()[:16]
        self.folder = platformdirs.user_state_path("apflow", appauthor=False) / "daemons" / name
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock, self._state = self.folder / "lock", self.folder / "state.json"
        self.log = self.folder / "daemon.log"

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the lock. A process may do this once, and must not open the lock file meanwhile.

        Raises:
            DaemonLockedError: another daemon holds it.
        """
        descriptor = self._open_lock()
        try:
            until = time.monotonic() + PROBE_SECONDS
            while not _try_lock(descriptor):
                if time.monotonic() > until:
                    raise DaemonLockedError(f"A daemon of this database runs already; see {self._state}.")
                time.sleep(INTERVAL_SECONDS)
            self._state.unlink(missing_ok=True)  # of a daemon that was killed
            try:
                yield
            finally:
                self._state.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def write(self, state: DaemonState) -> None:
        """Publish the state. Only the holder of the lock may do this."""
        write_whole(self._state, json.dumps(asdict(state)))

    def read(self) -> DaemonState | None:
        """Return the daemon that lives; None if there is none. A state that remains of one is removed.

        A daemon that has just been started may not have published its state yet; see `is_locked`.
        """
        if not self.is_locked():
            return None
        with suppress(OSError, ValueError, TypeError, KeyError):
            given: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
            known: dict[str, Any] = {each.name: given[each.name] for each in fields(DaemonState)}
            known["modules"] = tuple(known["modules"])
            state = DaemonState(**known)
            # Of a daemon that was killed, while the next one has only taken the lock.
            return None if has_ended(state.pid, state.started) else state
        return None

    def is_locked(self) -> bool:
        """Return whether a daemon lives."""
        descriptor = self._open_lock()
        try:
            if not _try_lock(descriptor):
                return True
            self._state.unlink(missing_ok=True)  # of a daemon that was killed
            return False
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        return os.open(self._lock, flags, OWNER_ONLY)


def last_lines(path: Path, count: int, size: int = 1 << 20) -> list[str]:
    """Return the last lines of a file, from at most so many bytes."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode(errors="replace").splitlines()[-count:] if count else []
    return []


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
