"""Starts what schedules say, in every process that runs submitted trees.

Any number of schedulers share a store. For each schedule that is due, one of them decides what happens (see
`planning.scheduling`) by storing its decision on condition of the version that it has read. Then it creates
the trees, whose ids follow from schedule and due time. If it ends before that, another one creates them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from time import monotonic
from weakref import WeakKeyDictionary, WeakSet

from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.engine.driver import Driver, cancel
from apflow.core.engine.schedule_store import Stored, all_schedules, change_schedule, replace_schedule
from apflow.core.engine.scheduled_start import start_tree
from apflow.core.errors import (
    CapabilityRefusedError,
    InputsError,
    KeyUsedError,
    NotFoundError,
    TreeInvalidError,
)
from apflow.core.model.schedule import Schedule
from apflow.core.model.task import utc_now
from apflow.core.planning.run_start import has_unended_run
from apflow.core.planning.scheduling import decide, needs_look, with_failure, with_started
from apflow.core.store.base import TaskStore

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # between two looks at most: another process may have created a schedule
POLL_SECONDS = 1.0  # between two looks while a due time waits for the end of a tree
MIN_PAUSE_SECONDS = 0.05
TAKE_OVER_SECONDS = 5.0  # that a decision of another process stays unfinished before this one finishes it
MAX_CONCURRENCY = 16  # schedules that are worked on at once

_schedulers: WeakKeyDictionary[TaskStore, WeakSet[Scheduler]] = WeakKeyDictionary()  # those that run


def wake_schedulers(db: TaskStore) -> None:
    """Make the schedulers of this process look at once, because a schedule was changed."""
    for each in list(_schedulers.get(db, ())):
        each.wake()


class Scheduler:
    """Starts the trees of the schedules of one store until it is stopped.

    Args:
        clock: returns the present moment, in UTC.
        look_seconds: the longest time between two looks.
        take_over_seconds: how long a decision of another process may stay unfinished before this scheduler
            finishes it. On a store of one process, there is no other one.
    """

    def __init__(
        self,
        db: TaskStore,
        clock: Callable[[], datetime] = utc_now,
        *,
        look_seconds: float = LOOK_SECONDS,
        take_over_seconds: float = TAKE_OVER_SECONDS,
    ) -> None:
        self._db = db
        self._clock = clock
        self._look_seconds = look_seconds
        self._take_over_seconds = take_over_seconds if db.capabilities.is_shared else 0.0
        # Trees that must be created: schedule and due time -> since when it is known here, or has failed.
        self._unfinished: dict[tuple[str, datetime], float] = {}
        self._cancelling: dict[str, asyncio.Task[None]] = {}
        self._is_stopped = False
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Start nothing more. `run` returns when what has begun is done."""
        self._is_stopped = True
        self.wake()

    def wake(self) -> None:
        """Look at once, from any thread."""
        if self._loop is not None:
            call_in_loop(self._loop, self._wake.set)

    async def run(self) -> None:
        """Start what is due, until `stop`. While the store fails, that is repeated."""
        self._loop = asyncio.get_running_loop()
        _schedulers.setdefault(self._db, WeakSet()).add(self)
        has_failed = False
        try:
            while not self._is_stopped:
                self._wake.clear()
                try:
                    pause = await self.look()
                    has_failed = False
                except Exception as error:  # noqa: BLE001 - a look that fails only delays
                    pause = self._look_seconds
                    level = logging.DEBUG if has_failed else logging.WARNING
                    logger.log(level, "Schedules could not be read, which is repeated: %s", error)
                    has_failed = True
                await wait_up_to(pause, self._wake)
        finally:
            _schedulers[self._db].discard(self)
            for each in list(self._cancelling.values()):
                each.cancel()

    async def look(self) -> float:
        """Start what is due now; return the seconds until the next look."""
        now = self._clock()
        stored = await all_schedules(self._db)
        self._note_unfinished(stored)
        due = [each for each in stored if needs_look(each.schedule, now)]
        if due:
            random.shuffle(due)  # several schedulers begin at different ones
            running = await self._running(root for each in due for root in each.schedule.open_trees)
            places = asyncio.Semaphore(MAX_CONCURRENCY)
            await asyncio.gather(*(self._work(each, now, running, places) for each in due))
        return self._pause(stored, now, is_busy=bool(due))

    def _pause(self, stored: list[Stored], now: datetime, *, is_busy: bool) -> float:
        starts = (each.schedule.next_start for each in stored if not each.schedule.is_paused)
        waits = [(start - now).total_seconds() for start in starts if start is not None and start > now]
        longest = min(self._look_seconds, POLL_SECONDS) if is_busy else self._look_seconds
        return max(MIN_PAUSE_SECONDS, min([longest, *waits]))

    async def _running(self, root_ids: Iterable[str]) -> set[str]:
        """Return which of these trees have not ended."""
        wanted = list(dict.fromkeys(root_ids))
        found = await self._db.get(wanted) if wanted else {}
        return {root.id for root in found.values() if has_unended_run(root)}

    async def _work(
        self, stored: Stored, now: datetime, running: Collection[str], places: asyncio.Semaphore
    ) -> None:
        async with places:
            if self._is_stopped:
                return
            schedule = stored.schedule
            try:
                await self._decide(stored, now, running)
            except NotFoundError:
                return  # it was deleted meanwhile
            except Exception as error:  # noqa: BLE001 - the other schedules continue
                logger.warning("Schedule %r (%s) is looked at again: %s", schedule.name, schedule.id, error)

    async def _decide(self, stored: Stored, now: datetime, running: Collection[str]) -> None:
        schedule = stored.schedule
        decision = decide(schedule, now, running)
        claimed: tuple[datetime, ...] = ()
        if decision.schedule != schedule:
            if await replace_schedule(self._db, stored, decision.schedule) is None:
                return  # another process has decided
            claimed = decision.schedule.starting[len(schedule.starting) :]
            _log_skipped(schedule, decision.schedule)
        for root_id in decision.cancel:
            self._cancel(root_id, schedule)
        abandoned = [due for due in schedule.starting if self._is_abandoned(schedule, due)]
        for due in (*abandoned, *claimed):
            await self._start(decision.schedule, due)

    def _note_unfinished(self, stored: Iterable[Stored]) -> None:
        now, known = monotonic(), self._unfinished
        keys = [(each.schedule.id, due) for each in stored for due in each.schedule.starting]
        self._unfinished = {key: known.get(key, now) for key in keys}

    def _is_abandoned(self, schedule: Schedule, due: datetime) -> bool:
        """Return whether the process that decided on a start has not done it for long."""
        since = self._unfinished.get((schedule.id, due), float("inf"))
        return monotonic() - since >= self._take_over_seconds

    async def _start(self, schedule: Schedule, due: datetime) -> None:
        """Create the tree of a due time, and store that, or why it cannot be created."""
        try:
            root_id = await start_tree(self._db, schedule, due)
        except NotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - stored with the schedule
            self._unfinished[schedule.id, due] = monotonic()
            # Tasks that are not valid or allowed any more, and a tree of other tasks under the ids, will
            # not pass.
            is_final = isinstance(
                error, TreeInvalidError | InputsError | KeyUsedError | CapabilityRefusedError
            )
            logger.warning(
                "Schedule %r (%s) cannot start its tree for %s%s: %s",
                schedule.name,
                schedule.id,
                due.isoformat(),
                "" if is_final else " now, and tries again",
                error,
            )
            reason = f"{due.isoformat()}: {error}"
            await change_schedule(
                self._db, schedule.id, lambda each: with_failure(each, due, reason, is_final=is_final)
            )
            return
        await change_schedule(self._db, schedule.id, lambda each: with_started(each, due, root_id))

    def _cancel(self, root_id: str, schedule: Schedule) -> None:
        """Cancel a running tree, without waiting for its end."""
        if root_id not in self._cancelling:
            name = f"apflow:schedule:cancel:{root_id}"
            self._cancelling[root_id] = asyncio.create_task(self._cancelled(root_id, schedule), name=name)

    async def _cancelled(self, root_id: str, schedule: Schedule) -> None:
        message = f"The next due time of schedule {schedule.name!r} has come."
        try:
            await cancel(Driver(self._db), root_id, message, is_forced=False)
        except Exception as error:  # noqa: BLE001 - the next look repeats it
            logger.warning("Tree %s could not be cancelled, which is repeated: %s", root_id, error)
        finally:
            self._cancelling.pop(root_id, None)


def _log_skipped(before: Schedule, after: Schedule) -> None:
    count = after.skipped_count - before.skipped_count
    if count:
        logger.info(
            "Schedule %r (%s) has left out %d due times, because its last tree runs.",
            after.name,
            after.id,
            count,
        )
