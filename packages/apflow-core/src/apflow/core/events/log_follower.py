"""Follows what the tasks of one tree log: reads stored lines whenever there may be new ones.

Nothing is missed, however slow the reader is, because the lines come from the store; events only say when to
look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Final

from apflow.core.concurrency.loop_call import set_in_loop
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.events.bus import EventBus
from apflow.core.model.event import LIVE, TaskEvent
from apflow.core.model.log import LogLine, LogQuery
from apflow.core.model.status import TaskStatus
from apflow.core.store.base import TaskStore

PAGE: Final = 1000  # lines that are read at once
POLL_INTERVAL_SECONDS: Final = 1.0  # between reads of lines of other processes, because a notice may be lost


class LogFollower:
    """The stored lines that match a query, and those that follow, to the end of the run.

    Of one task without descendants, to the end of that task. Create it in the event loop that iterates.

    Args:
        query: which lines; its `limit` is ignored.
    """

    def __init__(self, bus: EventBus, store: TaskStore, query: LogQuery) -> None:
        self.root_id = query.root_task_id
        self._bus, self._store = bus, store
        # Levels are compared here, so that lines of a lower level are not read again and again.
        self._query = replace(query, limit=PAGE, min_level=0)
        self._min_level = query.min_level
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._may_be_over = True  # the run may have ended since the last look
        bus.subscribe(self)

    def begin_at(self, number: int) -> None:
        """See `Subscriber`."""
        del number

    def enqueue(self, *events: TaskEvent) -> None:
        """Look for new lines. Thread-safe."""
        if any(event.type not in LIVE for event in events):
            self._may_be_over = True
        self._notify()

    def look(self) -> None:
        """Look for new lines, and whether the run has ended. Thread-safe."""
        self._may_be_over = True
        self._notify()

    async def batches(self) -> AsyncGenerator[list[LogLine]]:
        """Yield lines in batches of all available ones."""
        try:
            while True:
                self._wake.clear()
                is_over = await self._is_over()  # before the lines are read: those are stored before the end
                while lines := await self._store.logs(self._query):
                    self._query = replace(self._query, after=lines[-1].number)
                    wanted = [line for line in lines if line.entry.level >= self._min_level]
                    if wanted:
                        yield wanted
                if is_over:
                    return
                await self._wait()
        finally:
            self._bus.unsubscribe(self)

    async def _wait(self) -> None:
        seconds = POLL_INTERVAL_SECONDS if self._store.capabilities.is_shared else None
        if not await wait_up_to(seconds, self._wake):
            self._may_be_over = True

    async def _is_over(self) -> bool:
        if not self._may_be_over:
            return False
        self._may_be_over = False
        named: Sequence[str] = self._query.task_ids or ()
        stored = await self._store.get([self.root_id, *named[:1]])
        root = stored.get(self.root_id)
        if root is None or root.run_ended_at is not None:
            return True
        if root.run_requested_at is None and TaskStatus.is_terminal(root.status):
            return True  # it ended without a run
        task = stored.get(named[0]) if len(named) == 1 else None
        return task is not None and TaskStatus.is_terminal(task.status)

    def _notify(self) -> None:
        if not set_in_loop(self._loop, self._wake):
            self._bus.unsubscribe(self)
