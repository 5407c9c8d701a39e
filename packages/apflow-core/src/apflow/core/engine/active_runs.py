"""Tracks the trees that this process runs, and identifies this process as an owner of runs."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from concurrent.futures import Future
from weakref import WeakKeyDictionary

from apflow.core.engine.tree_run import TreeRun
from apflow.core.errors import AlreadyRunningError
from apflow.core.model.task import Task
from apflow.core.process.identity import ForkLock
from apflow.core.store.base import TaskStore

_owner: tuple[int, str] | None = None
# A claimed tree has a future of its run. The result None means that the tree was left without a run.
_running: WeakKeyDictionary[TaskStore, dict[str, Future[TreeRun | None]]] = WeakKeyDictionary()
_lock = ForkLock()


def owner_id() -> str:
    """Return the name of this process as an owner of runs: host, pid and 64 random bits.

    The name is generated again at each start and after a fork, so that it never identifies another process.
    """
    global _owner  # one per process
    with _lock.lock:
        if _owner is None or _owner[0] != os.getpid():
            _owner = (os.getpid(), f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}")
        return _owner[1]


def claim(store: TaskStore, root_id: str) -> None:
    """Record that this process is about to run a tree.

    Raises:
        AlreadyRunningError: this process already runs the tree.
    """
    with _lock.lock:
        trees = _running.setdefault(store, {})
        if root_id in trees:
            raise AlreadyRunningError(root_id)
        trees[root_id] = Future()


def enter(store: TaskStore, run: TreeRun) -> None:
    """Register the run of a claimed tree."""
    with _lock.lock:
        known = _running[store]
        if known[run.root_id].done():  # a second run under the same claim
            known[run.root_id] = Future()
        known[run.root_id].set_result(run)


def leave(store: TaskStore, root_id: str) -> None:
    """Record that this process no longer runs a tree."""
    with _lock.lock:
        begun = _running.get(store, {}).pop(root_id, None)
        if begun is not None and not begun.done():
            begun.set_result(None)


def all_running(store: TaskStore) -> list[TreeRun]:
    """Return the runs of this process that have started."""
    with _lock.lock:
        begun = list(_running.get(store, {}).values())
    runs = [each.result() for each in begun if each.done()]
    return [run for run in runs if run is not None]


def run_of(store: TaskStore, root_id: str) -> TreeRun | None:
    """Return the run of a tree in this process if it has started, otherwise None."""
    begun = _running.get(store, {}).get(root_id)
    return begun.result() if begun is not None and begun.done() else None


def current_task() -> Task | None:
    """Return the task whose executor runs in the current asyncio task, or None.

    This searches all runs; use it only for logs.
    """
    try:
        current = asyncio.current_task()
    except RuntimeError:  # no event loop in this thread
        return None
    for store in list(_running) if current is not None else ():
        for run in all_running(store):
            for attempt in list(run.state.running.values()):
                if attempt.waiter is current and attempt.outcome is None:
                    return attempt.task
    return None


def is_running(store: TaskStore, root_id: str) -> bool:
    """Return whether this process runs a tree."""
    return root_id in _running.get(store, {})


def running_ids(store: TaskStore) -> list[str]:
    """Return the ids of the trees that this process runs, or is about to run."""
    with _lock.lock:
        return list(_running.get(store, {}))


async def running(store: TaskStore, root_id: str) -> TreeRun | None:
    """Wait until the run of a tree in this process has started and return it; None if there is no run."""
    begun = _running.get(store, {}).get(root_id)
    return await asyncio.shield(asyncio.wrap_future(begun)) if begun is not None else None
