"""What happens to the trees that run here, for those who count and record it, away from the runs themselves.

A run only leaves its events in a queue; they are looked at a moment later, some at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from apflow.core.engine import active_runs
from apflow.core.events.bus import bus_of
from apflow.core.model.event import LIVE, TaskEvent
from apflow.core.model.task import Task
from apflow.core.store.base import TaskStore

logger = logging.getLogger(__name__)

EVERY: Final = 0.25  # seconds between two looks
BATCH_SIZE: Final = 500  # of what waits, until others have a turn
MAX_WAITING: Final = 100_000  # that wait; what is older is left out


@dataclass(frozen=True, slots=True)
class Seen:
    """An event of a tree that runs here, and what is known of its task."""

    event: TaskEvent
    task: Task | None  # None: this process does not own the tree
    root: Task | None
    requested_at: datetime | None  # when the run was requested; identifies it among the runs of the tree


Take = Callable[[Seen], object]
_Noted = tuple[tuple[TaskEvent, ...], "dict[str, Task] | None", "datetime | None"]


class Observation:
    """Observes one store, for the listeners that it is given; without any it costs nothing."""

    def __init__(self, db: TaskStore, listeners: Sequence[Take]) -> None:
        self._db = db
        self._listeners = listeners
        self._waiting: deque[_Noted] = deque(maxlen=MAX_WAITING)

    async def run(self) -> None:
        """Observe until cancelled."""
        if not self._listeners:
            return
        with bus_of(self._db).observing(self._note):
            try:
                while True:
                    has_more = self._take_some()
                    await asyncio.sleep(0 if has_more else EVERY)
            finally:
                while self._take_some():
                    pass

    def _note(self, events: tuple[TaskEvent, ...]) -> None:
        """Record the events of a run with its tasks. Called in the run's thread, so it must be fast."""
        run = active_runs.run_of(self._db, events[0].root_task_id)
        if run is None:
            self._waiting.append((events, None, None))
        else:
            self._waiting.append((events, run.by_id, run.requested_at))

    def _take_some(self) -> bool:
        """Look at some of what waits, and say whether more does."""
        for _ in range(BATCH_SIZE):
            if not self._waiting:
                return False
            events, tasks, requested_at = self._waiting.popleft()
            for event in events:
                if event.type not in LIVE:
                    self._pass_on(event, tasks or {}, requested_at)
        return True

    def _pass_on(self, event: TaskEvent, tasks: dict[str, Task], requested_at: datetime | None) -> None:
        seen = Seen(event, tasks.get(event.task_id), tasks.get(event.root_task_id), requested_at)
        for take in self._listeners:
            try:
                take(seen)
            except Exception:
                logger.exception("An event of tree %s could not be recorded.", event.root_task_id)
