"""A worker: claims requested trees that have no live owner and runs them."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from time import monotonic
from weakref import WeakKeyDictionary, WeakSet

from apflow.core.concurrency.containment import shielded
from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.concurrency.supervision import Supervised
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.engine import active_runs
from apflow.core.engine.call_taker import CallTaker
from apflow.core.engine.driver import Driver
from apflow.core.engine.failure_log import logging_failures
from apflow.core.engine.placement import offering, worker_offer
from apflow.core.engine.recovery import is_left_to_parent, lacks_executors
from apflow.core.engine.retention import keep_purging
from apflow.core.engine.scheduler import Scheduler
from apflow.core.engine.waiting_trees import waiting_trees
from apflow.core.engine.worker_report import WorkerReport, reported_workers
from apflow.core.errors import ConflictError, NotFoundError
from apflow.core.events.bus import bus_of
from apflow.core.model.task import Json, Task
from apflow.core.planning.retention import RetentionRules
from apflow.core.planning.run_start import is_unstarted
from apflow.core.settings import Settings, get_settings
from apflow.core.store.base import Change, NoticeKind, TaskStore, Transition

logger = logging.getLogger(__name__)

POLL_INTERVAL_SECONDS = 1.0  # between sweeps, if no notice arrives
YIELD_SECONDS = 0.01  # seconds that a busy worker leaves new trees to idle workers
WOKEN = 3  # workers that a notice of another process wakes; one that is lost or busy is among them
MAX_REST_SECONDS = 10.0  # between sweeps while the store fails
MAX_TREES_PER_SWEEP = 50  # maximum number of trees that one sweep takes
MAX_PAUSE_SECONDS = 60.0  # maximum pause before a tree whose run failed is taken again
_workers: WeakKeyDictionary[TaskStore, WeakSet[Worker]] = WeakKeyDictionary()  # those that run

NO_OWNER = ""  # an owner id that never matches, so that trees which this process released are found, too


def has_worker(db: TaskStore) -> bool:
    """Return whether a worker of this process takes the trees that are submitted to a store."""
    return any(each.is_taking for each in list(_workers.get(db, ())))


async def workers_of(db: TaskStore) -> list[dict[str, Json]]:
    """Return what the workers of a store report of themselves, in the order of their start."""
    if db.capabilities.is_shared:
        return await reported_workers(db)
    here = [each.report.current() for each in list(_workers.get(db, ()))]
    return sorted(here, key=lambda each: (each["started_at"], each["id"]))


@dataclass(frozen=True, slots=True)
class _Lacking:
    """A tree that needs an executor which this process lacks."""

    requested_at: datetime | None  # identifies the run; a new request starts a new wait
    until: float  # monotonic time after which it runs here anyway


class Worker:
    """Takes requested trees of one store and runs them to their end, up to the limit of executor calls.

    Trees in which a task waits for people do not count.

    The worker sweeps continuously: it takes submitted trees immediately, and trees of dead owners when their
    lease has expired. Any number of workers can sweep the same store; each tree goes to only one of them. A
    submission by another process wakes few of them, so that what it costs does not grow with their number. If
    this process lacks an executor of a tree that another process had started, it leaves the tree to other
    workers. It leaves a fresh tree to them for `executor_wait` seconds if the store is shared. Then it runs
    the tree itself, and tasks without an executor fail.

    It also starts the trees of schedules, deletes trees that ended longer ago than the settings say, and
    makes calls of executors for the other processes of a shared store.

    Args:
        settings: those of this process, if None.
        scheduler: starts the trees of schedules; by default one of the store, by the clock of the machine.

    Raises:
        SettingsError: a setting for the retention of trees is invalid, or one of what the worker offers.
    """

    def __init__(
        self, db: TaskStore, settings: Settings | None = None, *, scheduler: Scheduler | None = None
    ) -> None:
        self.db = db
        self._settings = settings or get_settings()
        self._retention = RetentionRules.from_settings(self._settings)
        self._trees: dict[str, asyncio.Task[None]] = {}
        self._lacking: dict[str, _Lacking] = {}  # left to other workers, by root id
        # Failed runs: root id -> number of consecutive failures, and when the tree may be taken again.
        self._failed: dict[str, tuple[int, float]] = {}
        self._is_draining = False
        self._is_cancelled = False  # which also cancels its trees
        self._sweeping: Supervised | None = None
        self._has_more = False  # the last sweep reached its limit
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.report = WorkerReport(db, self._state)
        self._offer = worker_offer(self._settings)
        self._taker: CallTaker | None = None  # makes calls for other processes, if the store has any
        if db.call_exchange is not None:
            self._taker = CallTaker(db.call_exchange, self.report.worker_id, self._offer, self._settings)
        self._scheduler = scheduler or Scheduler(db)

    def _state(self) -> dict[str, Json]:
        return {
            "status": "draining" if self._is_draining else "running",
            "trees": len(self._trees),
            "calls": 0 if self._taker is None else self._taker.running,
            "max_concurrency": self._settings.max_concurrency,
            "resources": dict(self._offer.amounts),
            "labels": dict(self._offer.labels),
        }

    @property
    def running(self) -> int:
        """The number of trees that the worker runs now."""
        return len(self._trees)

    @property
    def is_taking(self) -> bool:
        """Whether the worker still takes trees: it runs, and does not drain."""
        return self._sweeping is not None and not self._is_draining

    @property
    def is_sweeping(self) -> bool:
        """Whether the worker searches for trees. False while a failed sweep waits for its restart."""
        return self._sweeping is not None and self._sweeping.is_running

    async def run(self) -> None:
        """Sweep and run trees until `drain()`, then wait until all trees have ended or are released.

        While the store fails, the worker repeats the sweep with increasing pauses of up to ten seconds. A
        sweep that ends for another reason is logged as an error and started again; running trees continue.
        Cancelling this coroutine cancels the trees.
        """
        self._loop = asyncio.get_running_loop()
        self._is_cancelled = False
        self._sweeping = Supervised("apflow:worker:sweep", self._sweep_until_drained)
        _workers.setdefault(self.db, WeakSet()).add(self)
        reporting = Supervised("apflow:worker:report", self.report.keep, is_owner=True)
        scheduling = Supervised("apflow:worker:schedules", self._scheduler.run, is_owner=True)
        purging = Supervised(
            "apflow:worker:retention", lambda: keep_purging(self.db, self._retention), is_owner=True
        )
        beside = [reporting, scheduling, purging]
        if self._taker is not None:
            beside.append(Supervised("apflow:worker:calls", self._taker.run, is_owner=True))
        done = [asyncio.create_task(each.run(), name=f"{each.name}:supervision") for each in beside]
        bus = bus_of(self.db)
        try:
            with (
                bus.on_notice(NoticeKind.SUBMITTED, self._heed),
                bus.on_notice(NoticeKind.REQUESTED, self._heed_others),
                logging_failures(self.db),
                offering(self.db, self._offer),
            ):
                await self._sweeping.run()
        finally:
            _workers[self.db].discard(self)
            try:
                await self._end_trees()
            finally:
                for each in beside:
                    each.end()
                with shielded():
                    await asyncio.wait(done)
                    await self.report.remove()

    async def _sweep_until_drained(self) -> None:
        faults = 0
        while not self._is_draining:
            self._wake.clear()
            try:
                await self._look_at_lacking()
                has_more = await self._sweep()
                faults = 0
            except Exception as error:  # noqa: BLE001 - a sweep that fails only delays
                has_more, faults = False, faults + 1
                logger.warning("The sweep for requested trees failed and is repeated: %s", error)
            if not has_more:
                await self._rest(min(MAX_REST_SECONDS, POLL_INTERVAL_SECONDS * 2 ** max(0, faults - 1)))
        await self._leave()

    async def _end_trees(self) -> None:
        """Cancel the running trees, because the caller of `run` was cancelled."""
        if not self._trees:
            return
        self._is_cancelled = True
        for each in self._trees.values():
            each.cancel()
        with shielded():
            await asyncio.wait(list(self._trees.values()))

    def drain(self) -> None:
        """Take no more trees, end running code within `shutdown_timeout`, and release unfinished trees."""
        self._is_draining = True
        self._scheduler.stop()
        self._wake.set()

    async def _leave(self) -> None:
        if self._taker is not None:
            await asyncio.gather(self._leave_trees(), self._taker.drain(self._settings.shutdown_timeout))
        else:
            await self._leave_trees()

    async def _leave_trees(self) -> None:
        while self._trees:
            for run in active_runs.all_running(self.db):  # repeatedly, because some are about to start
                if run.root_id in self._trees:
                    run.drain(self._settings.shutdown_timeout)
            await asyncio.wait(self._trees.values(), timeout=0.1)

    def _heed(self, _: str) -> None:
        if self._loop is not None:
            call_in_loop(self._loop, self._wake.set)

    def _heed_others(self, root_id: str) -> None:
        if self.report.is_among_first(root_id, WOKEN):
            self._heed(root_id)

    async def _rest(self, seconds: float) -> None:
        varied = seconds * random.uniform(0.75, 1.25)  # noqa: S311 - spreads sweeps
        if await wait_up_to(varied, self._wake) and self._trees and not self._is_draining:
            await asyncio.sleep(YIELD_SECONDS)

    async def _sweep(self) -> bool:
        """Take requested trees while there are free places; return whether there may be more."""
        busy = len(self._trees.keys() - waiting_trees(self.db))
        places = min(MAX_TREES_PER_SWEEP, self._settings.max_concurrency - busy)
        if places <= 0:
            self._has_more = True  # possibly; the end of a tree starts the next sweep
            return False
        now = monotonic()
        failed = [root_id for root_id, (_, again_at) in self._failed.items() if again_at > now]
        unwanted = {*self._left(), *self._trees, *failed, *active_runs.running_ids(self.db)}
        found = await self.db.reserve(NO_OWNER, places, list(unwanted))
        for root in found:
            # Not in a task group, because trees continue if the sweep fails.
            taking = asyncio.create_task(self._take(root), name=f"apflow:worker:{root.id}")
            self._trees[root.id] = taking
            taking.add_done_callback(partial(self._forget, root.id))
        self._has_more = len(found) == places
        return self._has_more and places == MAX_TREES_PER_SWEEP

    async def _look_at_lacking(self) -> None:
        """Remove trees from the list of trees left to others if they are requested again or have ended."""
        stored = await self.db.get(list(self._lacking)) if self._lacking else {}
        for root_id, lacking in list(self._lacking.items()):
            if root_id not in stored or stored[root_id].run_requested_at != lacking.requested_at:
                del self._lacking[root_id]

    def _left(self) -> list[str]:
        """Return the ids of the trees that this worker leaves to others now."""
        now = monotonic()
        return [root_id for root_id, lacking in self._lacking.items() if now < lacking.until]

    def _leaves(self, tasks: list[Task], root: Task) -> bool:
        """Return whether to leave a tree to other workers: this process lacks one of its executors."""
        if not is_unstarted(tasks, root):
            until = math.inf
        elif self.db.capabilities.is_shared:
            until = monotonic() + self._settings.executor_wait
        else:
            return False  # no other process can ever run it
        known = self._lacking.get(root.id)
        if known is not None and known.requested_at == root.run_requested_at and known.until <= monotonic():
            return False
        if not lacks_executors(self.db, tasks, root):
            return False
        self._lacking[root.id] = _Lacking(root.run_requested_at, until)
        return True

    async def _free(self, root: Task) -> None:
        """Release the reservation of a tree that is left to other workers."""
        if root.lease_until is not None:  # it was reserved
            free = Transition(root.id, root.id, {"lease_until": root.lease_until}, {"lease_until": None})
            await self.db.write(Change(moves=[free]))

    def _take_later(self, root_id: str) -> None:
        """Schedule the next attempt to run a tree whose run failed, with increasing pauses."""
        times = self._failed.get(root_id, (0, 0.0))[0] + 1
        pause = min(MAX_PAUSE_SECONDS, POLL_INTERVAL_SECONDS * 2 ** min(times - 1, 10))
        self._failed[root_id] = times, monotonic() + pause

    async def _take(self, root: Task) -> None:
        try:
            if root.spawned_by is not None and await is_left_to_parent(self.db, root.id):
                self._take_later(root.id)
                await self._free(root)
                return
            driver = Driver(self.db, patience=None)
            if await driver.run(root.id, resume_only=True, leave=self._leaves) is None:
                await self._free(root)
            self._failed.pop(root.id, None)
            if self._has_more:
                self._wake.set()
        except (ConflictError, NotFoundError) as error:
            self._failed.pop(root.id, None)
            logger.debug("Another process has taken tree %s: %s", root.id, error)
        except asyncio.CancelledError:
            if self._is_cancelled:
                raise
            logger.exception("The run of tree %s was cancelled by other code; it stays requested.", root.id)
        except (Exception, SystemExit):
            self._take_later(root.id)
            logger.exception("Tree %s could not be run to its end; it stays requested.", root.id)
        finally:
            self._trees.pop(root.id, None)

    def _forget(self, root_id: str, taking: asyncio.Task[None]) -> None:
        """Record the end of an asyncio task that was cancelled before it started."""
        if self._trees.get(root_id) is taking:
            del self._trees[root_id]
