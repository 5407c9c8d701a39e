"""Which process it is: known by its host, its number and the moment of its start.

So neither another machine with the same files, nor a later process with the same number, is taken for it. A
host is a boot of a machine and the space of process numbers in it: no process of an earlier boot, or of
another container, is ever judged.

Without `/proc` (macOS, BSD) the moment of start cannot be seen: a process then counts as ended when nothing
has its number. On Windows none is judged.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from weakref import WeakSet

from apflow.core.errors import StoreForkedError

PROC = Path("/proc")


def host() -> str:
    """Return an identifier of this host."""
    import platform  # here: few processes ask

    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        space = str((PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        import uuid

        boot, space = f"{uuid.getnode():x}", "0"
    return f"{platform.node()}/{boot}/{space}"


def started(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot, or "ended"; None where that cannot be seen."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if fields[0] in "ZX" else fields[19]


def has_ended(pid: int, when: str) -> bool:
    """Return whether a process of this host has ended; False if that is unknown.

    Args:
        when: what `started` said of it then; empty where that could not be seen.
    """
    if sys.platform == "win32" or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's
        pass
    now = started(pid)
    return now is not None and bool(when) and now != when


class ForkGuard:
    """Notices that what one process has opened is used in a process forked from it.

    Threads and connections do not survive fork(2): who waits for them would wait indefinitely.
    """

    __slots__ = ("_pid", "_url")

    def __init__(self, url: str) -> None:
        self._url = url
        self._pid: int | None = None  # of the process that used it first

    @property
    def is_forked(self) -> bool:
        """Whether another process than this one has opened it."""
        return self._pid is not None and self._pid != os.getpid()

    def check(self) -> None:
        """Raise `StoreForkedError` in any process but the first that called this."""
        pid = os.getpid()
        if self._pid is None:
            self._pid = pid
        elif self._pid != pid:
            raise StoreForkedError(self._url, self._pid, pid)


class ForkLock:
    """Holds a lock that is free in a forked process, whatever thread held it at the moment of the fork.

    `with each.lock:` takes it.
    """

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        _locks.add(self)


_locks: WeakSet[ForkLock] = WeakSet()


def terminals() -> list[int]:
    """Return the standard descriptors of this process that are terminals."""
    return [fd for fd in (0, 1, 2) if os.isatty(fd)]


def leave_terminals(descriptors: Sequence[int]) -> None:
    """Redirect descriptors to the null device: writing to a terminal that has closed is an error."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in descriptors:
        os.dup2(null, fd)
    os.close(null)


def after_fork_in_child(call: Callable[[], object]) -> None:
    """Call a function in every process that is forked from this one, where the system forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


def _renew_locks() -> None:
    for each in list(_locks):
        each.lock = threading.Lock()


after_fork_in_child(_renew_locks)
