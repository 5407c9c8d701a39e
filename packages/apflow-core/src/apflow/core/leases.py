"""Leases: on a store of several processes, a process keeps the trees that it runs, or stops running them.

A lease is renewed three times in its length, from a thread of its own, however busy the event loop of the
runs is. Where two thirds of it pass without a renewal, another process may own the tree before long: the run
ends its code and writes nothing more. The fence of its changes holds in any case.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from weakref import WeakKeyDictionary, ref

from apflow.core.store import TaskStore
from apflow.core.treerun import TreeRun

logger = logging.getLogger(__name__)


class Keeper:
    """What renews the leases of one store's runs in this process, while there are any."""

    def __init__(self, store: TaskStore, owner: str, seconds: float) -> None:
        self._url = store.url
        self._store = ref(store)
        self._owner = owner
        self._seconds = seconds
        self._renewed_at: dict[TreeRun, float] = {}  # by the monotonic clock, before the store was asked
        self._lock = threading.Lock()  # guards the two below
        self._thread: threading.Thread | None = None
        self._is_empty = threading.Event()

    def keep(self, run: TreeRun) -> None:
        """Renew the lease of a run that is about to be requested."""
        with self._lock:
            self._renewed_at[run] = monotonic()
            self._is_empty.clear()
            if self._thread is None:
                name = f"apflow leases {self._url}"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()

    def release(self, run: TreeRun) -> None:
        """Renew its lease no more."""
        with self._lock:
            self._renewed_at.pop(run, None)
            if not self._renewed_at:
                self._is_empty.set()

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            while self._goes_on():
                runner.run(self._renew())

    def _goes_on(self) -> bool:
        """Wait until the next renewal; False where nothing has been left to renew."""
        if self._is_empty.wait(self._seconds / 3):
            with self._lock:
                if not self._renewed_at:
                    self._thread = None
                    return False
        return True

    async def _renew(self) -> None:
        asked_at = monotonic()
        runs = {run.root_id: run for run in list(self._renewed_at) if run.has_begun}
        store = self._store()
        if not runs or store is None:
            return
        try:
            async with asyncio.timeout(self._seconds / 4):
                kept = await store.renew(self._owner, list(runs))
        except Exception as error:  # noqa: BLE001 - tried again; what that comes to is decided below
            logger.warning("The leases of %d trees could not be renewed: %s", len(runs), error or "timeout")
        else:
            self._take(runs, kept, asked_at)
        for run in runs.values():
            if monotonic() - self._renewed_at.get(run, asked_at) > self._seconds * 2 / 3:
                _lose(run, "The lease of tree %s was not renewed in time: its work ends here.")

    def _take(self, runs: dict[str, TreeRun], kept: dict[str, bool], asked_at: float) -> None:
        for root_id, run in runs.items():
            with self._lock:
                if run not in self._renewed_at:
                    continue  # it has ended meanwhile
                self._renewed_at[run] = asked_at
            if root_id not in kept:
                _lose(run, "Tree %s belongs to another process: its work ends here.")
            elif kept[root_id]:
                run.look()


def _lose(run: TreeRun, message: str) -> None:
    if not run.is_ending:  # else nobody owns the tree by now, or its last change is refused
        logger.error(message, run.root_id)
        run.lose()


_keepers: WeakKeyDictionary[TaskStore, Keeper] = WeakKeyDictionary()


@contextmanager
def kept(store: TaskStore, run: TreeRun, owner: str, seconds: float) -> Generator[None]:
    """Keep the lease of a run for as long as the context lasts, where the store knows leases."""
    if not store.capabilities.is_shared:
        yield
        return
    keeper = _keepers.setdefault(store, Keeper(store, owner, seconds))
    keeper.keep(run)
    try:
        yield
    finally:
        keeper.release(run)
