"""Which trees run in this process, and who this process is."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from weakref import WeakKeyDictionary

from apflow.core.errors import AlreadyRunningError
from apflow.core.store import TaskStore
from apflow.core.treerun import TreeRun

_owner: tuple[int, str] | None = None
_running: WeakKeyDictionary[TaskStore, dict[str, TreeRun | None]] = WeakKeyDictionary()
_lock = threading.Lock()


def owner_id() -> str:
    """Return the name of this process as an owner of runs: host, pid and 64 random bits.

    It is made anew at each start (and after a fork), so that no later process is taken for this one.
    """
    global _owner  # noqa: PLW0603 - one per process
    with _lock:
        if _owner is None or _owner[0] != os.getpid():
            _owner = (os.getpid(), f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}")
        return _owner[1]


def claim(store: TaskStore, root_id: str) -> None:
    """Note that this process is about to run a tree.

    Raises:
        AlreadyRunningError: it runs the tree already.
    """
    with _lock:
        trees = _running.setdefault(store, {})
        if root_id in trees:
            raise AlreadyRunningError(root_id)
        trees[root_id] = None


def enter(store: TaskStore, run: TreeRun) -> None:
    """Make the run of a claimed tree known."""
    with _lock:
        _running[store][run.root_id] = run


def leave(store: TaskStore, root_id: str) -> None:
    """Note that this process does not run a tree any more."""
    with _lock:
        _running.get(store, {}).pop(root_id, None)


def is_running(store: TaskStore, root_id: str) -> bool:
    """Say whether this process runs a tree."""
    return root_id in _running.get(store, {})


def running(store: TaskStore, root_id: str) -> TreeRun | None:
    """Return the run of a tree in this process, if it has begun."""
    return _running.get(store, {}).get(root_id)


def running_roots(store: TaskStore) -> list[str]:
    """Return the ids of the trees that this process runs."""
    return list(_running.get(store, {}))
