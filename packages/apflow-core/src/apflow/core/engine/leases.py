"""Renews the leases of trees on a store that several processes share.

A separate thread renews each lease three times per lease duration, even if the event loop of the runs is
busy. If two thirds of the duration pass without a renewal, another process may soon own the tree, so the run
ends its code and writes nothing more. The fence of its changes protects the tree in any case.

Code that holds the interpreter (a C call that does not release the GIL) also stops this thread. When the
thread continues, it renews immediately and logs the task that held the interpreter. If another process has
taken the tree meanwhile, see `late_results`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from weakref import WeakKeyDictionary, WeakSet, ref

from apflow.core.engine.late_results import Hold
from apflow.core.engine.suspects import interpreter_holders
from apflow.core.engine.tree_run import TreeRun
from apflow.core.store.base import TaskStore

logger = logging.getLogger(__name__)

HELD = 0.5  # part of the lease without a beat; the thread runs at least every third of the lease


class LeaseRenewer:
    """Renews the leases of one store's runs in this process while there are any."""

    def __init__(self, store: TaskStore, owner: str, seconds: float) -> None:
        self._url = store.url
        self._store = ref(store)
        self._owner = owner
        self._seconds = seconds
        self._renewed_at: dict[TreeRun, float] = {}  # monotonic time before the request to the store
        self._beat_at = monotonic()  # when the thread last ran
        self._held: WeakSet[TreeRun] = WeakSet()  # runs during which code held the interpreter too long
        self._lock = threading.Lock()  # guards the two below
        self._thread: threading.Thread | None = None
        self._is_empty = threading.Event()

    def keep(self, run: TreeRun) -> None:
        """Start renewing the lease of a run that is about to be requested."""
        with self._lock:
            self._renewed_at[run] = monotonic()
            self._is_empty.clear()
            run.hold = Hold(lambda: self._was_held(run), self._is_held, self._seconds / 3)
            if self._thread is None:
                self._beat_at = monotonic()
                name = f"apflow leases {self._url}"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()

    def release(self, run: TreeRun) -> None:
        """Stop renewing the lease of a run that has ended."""
        if self._is_held():
            self._beat()  # the run ended before the thread ran again: report it now
        with self._lock:
            self._renewed_at.pop(run, None)
            if not self._renewed_at:
                self._is_empty.set()

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            while self._goes_on():
                self._beat()
                runner.run(self._renew())
                self._beat()

    def _goes_on(self) -> bool:
        """Wait until the next renewal; return False if there are no more leases to renew."""
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
        is_renewed = await self._ask(store, runs)
        if not is_renewed and self._beat():
            await self._ask(store, runs)  # the interpreter was held during the request to the store
        for run in runs.values():
            if monotonic() - self._renewed_at.get(run, asked_at) > self._seconds * 2 / 3:
                _lose(run, "The lease of tree %s was not renewed in time: its work ends here.")

    async def _ask(self, store: TaskStore, runs: dict[str, TreeRun]) -> bool:
        """Renew the leases of runs; return whether the store responded."""
        asked_at = monotonic()
        try:
            async with asyncio.timeout(self._seconds / 4):
                kept = await store.renew(self._owner, list(runs))
        # A store that is being closed cancels what it does. The caller decides what a failure means.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            logger.warning("The leases of %d trees could not be renewed: %s", len(runs), error or "timeout")
            return False
        self._take(runs, kept, asked_at)
        return True

    def _beat(self) -> bool:
        """Record that the thread runs; return whether it was blocked for half a lease."""
        before, self._beat_at = self._beat_at, monotonic()
        seconds = self._beat_at - before
        if seconds <= self._seconds * HELD:
            return False
        runs = list(self._renewed_at)
        self._held.update(runs)
        logger.warning(
            "No other thread of this process ran for %.1f s: the process was stopped, or %s. Leases are not "
            "renewed meanwhile. Make such code release the GIL, or run it in a separate process.",
            seconds,
            interpreter_holders(runs),
        )
        return True

    def _is_held(self) -> bool:
        return monotonic() - self._beat_at > self._seconds * HELD

    def _was_held(self, run: TreeRun) -> bool:
        return run in self._held or self._is_held()

    def _take(self, runs: dict[str, TreeRun], kept: dict[str, bool], asked_at: float) -> None:
        for root_id, run in runs.items():
            with self._lock:
                if run not in self._renewed_at:
                    continue  # it has ended meanwhile
                if root_id in kept:
                    self._renewed_at[run] = asked_at
            if root_id not in kept:
                _lose(run, "Tree %s belongs to another process: its work ends here.")
            elif kept[root_id]:
                run.look()


def _lose(run: TreeRun, message: str) -> None:
    if not run.is_ending:  # otherwise no process owns the tree, or its last change is rejected
        logger.error(message, run.root_id)
        run.lose()


_keepers: WeakKeyDictionary[TaskStore, LeaseRenewer] = WeakKeyDictionary()


@contextmanager
def holding_lease(store: TaskStore, run: TreeRun, owner: str, seconds: float) -> Generator[None]:
    """Keep the lease of a run within the context, if the store supports leases."""
    if not store.capabilities.is_shared:
        yield
        return
    keeper = _keepers.setdefault(store, LeaseRenewer(store, owner, seconds))
    keeper.keep(run)
    try:
        yield
    finally:
        keeper.release(run)
