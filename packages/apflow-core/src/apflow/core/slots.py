"""How many executor calls may run at once: in this process, over all its trees, and per executor."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Slots:
    """A count of free places, shared by runs on any event loop and thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def take(self, wanted: int) -> int:
        """Take up to `wanted` places and return how many were free."""
        with self._lock:
            taken = max(0, min(wanted, self.limit - self._used))
            self._used += taken
            return taken

    def give_back(self, count: int = 1) -> None:
        """Give places back and wake whoever waits for one."""
        with self._lock:
            self._used -= count
            woken = list(self._waiting)
            self._waiting.clear()
        for wake in woken:
            wake()

    def call_when_free(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when a place is given back. It may be called from any thread."""
        with self._lock:
            if wake not in self._waiting:
                self._waiting.append(wake)


_process: dict[str, Slots] = {}
_lock = threading.Lock()


def process_slots(limit: int) -> Slots:
    """Return the places of this process, `limit` of them."""
    return _named("", limit)


def executor_slots(executor_id: str, limit: int) -> Slots:
    """Return the places of one executor in this process."""
    return _named(executor_id, limit)


def _named(name: str, limit: int) -> Slots:
    with _lock:
        slots = _process.setdefault(name, Slots(limit))
        slots.limit = limit
        return slots
