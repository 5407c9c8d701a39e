"""The amounts of resources that this process offers, and the parts of them that its calls use.

They count where no other process can make a call: on a store that one process uses alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache

from apflow.core.concurrency.loop_call import set_in_loop
from apflow.core.errors import ResourceError
from apflow.core.model.resources import Needs, Offer, read_amounts, read_labels
from apflow.core.settings import Settings


class _Waiting:
    """A call that waits for amounts, in some event loop."""

    def __init__(self, task_id: str, needs: Needs) -> None:
        self.task_id, self.needs = task_id, needs
        self.loop = asyncio.get_running_loop()
        self.has_them = asyncio.Event()


class ResourcePool:
    """What this process offers. Calls get amounts in the order in which they ask. Thread-safe."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self._free = dict(offer.amounts)
        self._line: list[_Waiting] = []
        self._lock = threading.Lock()  # guards the two above

    @asynccontextmanager
    async def using(self, task_id: str, needs: Needs) -> AsyncGenerator[None]:
        """Hold the amounts that a call needs, once they are free.

        Raises:
            ResourceError: this process does not have them, or lacks a label.
        """
        lacking = self.offer.lacks(needs)
        if lacking:
            raise ResourceError(str(needs), lacking)
        waiting = _Waiting(task_id, needs)
        with self._lock:
            self._line.append(waiting)
            self._grant()
        try:
            await waiting.has_them.wait()
            yield
        finally:
            with self._lock:
                if waiting in self._line:
                    self._line.remove(waiting)
                else:
                    for name, amount in needs.amounts.items():
                        self._free[name] += amount
                self._grant()

    def awaited(self, task_id: str) -> Needs | None:
        """Return what the call of a task waits for; None if it does not wait."""
        with self._lock:
            return next((each.needs for each in self._line if each.task_id == task_id), None)

    def _grant(self) -> None:
        """Give the first ones in the line what they wait for. The lock is held."""
        while self._line:
            first = self._line[0]
            needed = first.needs.amounts.items()
            if any(self._free[name] < amount for name, amount in needed):
                return
            for name, amount in needed:
                self._free[name] -= amount
            del self._line[0]
            set_in_loop(first.loop, first.has_them)


def own_offer(settings: Settings) -> Offer:
    """Return the amounts and labels that the settings of a process offer.

    Raises:
        SettingsError: one of them is invalid.
    """
    amounts = read_amounts(settings.worker_resources, "APFLOW_WORKER_RESOURCES")
    return Offer(amounts, read_labels(settings.worker_labels, "APFLOW_WORKER_LABELS"))


def pool_of(settings: Settings) -> ResourcePool:
    """Return the pool of this process with these settings."""
    offer = own_offer(settings)
    return _pool(tuple(sorted(offer.amounts.items())), tuple(sorted(offer.labels.items())))


@cache
def _pool(amounts: tuple[tuple[str, float], ...], labels: tuple[tuple[str, str], ...]) -> ResourcePool:
    return ResourcePool(Offer(dict(amounts), dict(labels)))
