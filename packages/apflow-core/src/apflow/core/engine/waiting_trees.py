"""The trees of this process in which a task waits for people. They use no place of a worker meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Set
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from apflow.core.process.identity import ForkLock
from apflow.core.store.base import TaskStore

_lock = ForkLock()  # guards the line below
_waiting: WeakKeyDictionary[TaskStore, Counter[str]] = WeakKeyDictionary()


@contextmanager
def waiting_in(store: TaskStore, root_id: str) -> Generator[None]:
    """Count a task of a tree as one that waits, as long as the context lasts."""
    with _lock.lock:
        tasks = _waiting.setdefault(store, Counter())
        tasks[root_id] += 1
    try:
        yield
    finally:
        with _lock.lock:
            tasks[root_id] -= 1
            if not tasks[root_id]:
                del tasks[root_id]


def waiting_trees(store: TaskStore) -> Set[str]:
    """Return the root IDs of the trees in which a task waits."""
    with _lock.lock:
        return set(_waiting.get(store, ()))
