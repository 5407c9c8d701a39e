"""Where the calls of a run are made: in this process, by a runner, or by a worker of the same store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary

from apflow.core.engine.call_desk import desk_of
from apflow.core.engine.resource_pool import own_offer
from apflow.core.errors import SettingsError, StoreError
from apflow.core.extensions.registry import (
    ExecutorEntry,
    executor_ids,
    executor_is_known,
)
from apflow.core.extensions.runner import WORKERS, Runner
from apflow.core.model.resources import Needs, Offer, unmet
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore
from apflow.core.store.calls import LiveWorker

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 2.0  # for which the list of workers is believed

_offers: WeakKeyDictionary[TaskStore, list[Offer]] = WeakKeyDictionary()  # of the workers of this process


class Workers:
    """The workers of one store that make calls for other processes, as they were a moment ago."""

    def __init__(self) -> None:
        self.live: list[LiveWorker] = []
        self._read_at = float("-inf")

    async def look(self, store: TaskStore) -> None:
        """Read the list again, if it is not fresh. Without an answer, it stays as it was."""
        if store.call_exchange is None or monotonic() - self._read_at < FRESH_SECONDS:
            return
        try:
            self.live = await store.call_exchange.workers()
            self._read_at = monotonic()
        except StoreError as error:
            logger.debug("The workers of the store could not be read: %s", error)

    def have(self, executor_id: str) -> bool:
        """Return whether one of them has an executor."""
        return any(executor_id in each.offer.executors for each in self.live)


_workers: WeakKeyDictionary[TaskStore, Workers] = WeakKeyDictionary()


def workers_seen(store: TaskStore) -> Workers:
    """Return what this process knows of the workers of a store."""
    return _workers.setdefault(store, Workers())


def is_known_for(store: TaskStore) -> Callable[[str], bool]:
    """Return what says whether an executor is known here, or to a worker of a store."""
    if store.call_exchange is None:
        return executor_is_known
    seen = workers_seen(store)
    return lambda executor_id: executor_is_known(executor_id) or seen.have(executor_id)


class Placement:
    """Decides where the calls of one run are made. For a store whose workers make calls for each other."""

    def __init__(self, store: TaskStore, settings: Settings) -> None:
        self._store = store
        self._is_everywhere = settings.runner == WORKERS
        self._seen = workers_seen(store)

    @property
    def runner(self) -> Runner:
        """Brings calls to workers."""
        return desk_of(self._store)

    def is_elsewhere(self, entry: ExecutorEntry | None, needs: Needs) -> bool:
        """Return whether a worker makes a call, which may be one of this process.

        What uses amounts is always given to a worker: only workers count them.

        Args:
            entry: the executor; None: this process does not have it.
        """
        if entry is None or needs.amounts:
            return True
        if self._is_everywhere and entry.may_run_elsewhere:
            return True
        return bool(needs.labels) and all(each.lacks(needs) for each in _offers.get(self._store, ()))

    def has(self, executor_id: str) -> bool:
        """Return whether a worker has an executor, as far as this process knows."""
        return self._seen.have(executor_id)


def placement_of(store: TaskStore, settings: Settings) -> Placement | None:
    """Return what decides where calls are made; None: all in this process, or by the runner of a plugin.

    Raises:
        SettingsError: the runner is `workers`, but the store has no other processes.
    """
    if store.call_exchange is not None:
        return Placement(store, settings)
    if settings.runner == WORKERS:
        raise SettingsError(
            f"APFLOW_RUNNER is {WORKERS!r}, but {store.url} is used by one process alone: there are no "
            "workers that could make its calls. Use a PostgreSQL database, or unset APFLOW_RUNNER."
        )
    return None


@contextmanager
def offering(store: TaskStore, offer: Offer) -> Generator[None]:
    """Make known that a worker of this process offers something to the calls of a store."""
    offers = _offers.setdefault(store, [])
    offers.append(offer)
    try:
        yield
    finally:
        offers.remove(offer)


def worker_offer(settings: Settings) -> Offer:
    """Return what a worker of this process offers.

    Raises:
        SettingsError: a setting of it is invalid, or names an executor that this process does not have.
    """
    own = own_offer(settings)
    known = executor_ids()
    chosen = settings.worker_executors
    missing = [each for each in chosen if each not in known]
    if missing:
        raise SettingsError(
            f"APFLOW_WORKER_EXECUTORS names {', '.join(missing)}, which this process does not have. "
            "`apflow executors list` shows what it has."
        )
    return Offer(
        own.amounts,
        own.labels,
        frozenset(chosen or known),
        not chosen,
        settings.worker_calls,
    )


async def why_not_made(store: TaskStore, task_id: str) -> str | None:
    """Return a sentence about a call that waits for a worker; None if the task has no such call."""
    exchange = store.call_exchange
    if exchange is None:
        return None
    call = await exchange.waiting(task_id)
    if call is None:
        return None
    if call.worker is not None:
        return f"It is running on worker {call.worker}."
    offers = [each.offer for each in await exchange.workers()]
    reason = unmet(call.executor_id, call.needs, offers, is_importable=call.is_importable)
    needs = "" if call.needs.is_empty else f" with {call.needs}"
    return f"Its call waits for a worker{needs}. {reason or 'Those that can make it have no room now.'}"
