"""The queue between the publishers of events and one subscription."""

from __future__ import annotations

import asyncio
from collections import deque

from apflow.core.model.event import LIVE, TaskEvent


class EventQueue:
    """A bounded queue of events. Any thread puts; one event loop, in which the queue is made, takes.

    A full queue drops events. Dropped stored events leave a gap, which is filled from the store; dropped
    live events are counted.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.events: deque[TaskEvent] = deque()
        self.has_gap = True  # the store may have events that are not in the queue
        self.is_closed = False  # the subscriber has asked to stop
        # Publisher and subscriber may be in two threads: each changes only its own counter.
        self._missed = 0
        self._reported = 0
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def put(self, *events: TaskEvent) -> bool:
        """Add events as far as there is room; False where the event loop is closed. From any thread."""
        for event in events:
            if len(self.events) < self.size:
                self.events.append(event)
            elif event.type in LIVE:
                self._missed += 1
            else:
                self.has_gap = True
        return self.wake()

    def mark_gap(self) -> bool:
        """Record that the store has new events; False where the event loop is closed. From any thread."""
        self.has_gap = True
        return self.wake()

    def close(self) -> bool:
        """Record that the subscriber wants no more than what is stored by now."""
        self.is_closed = True
        return self.wake()

    def take_missed(self) -> int:
        """Return how many live events were dropped since the last call."""
        missed = self._missed - self._reported
        self._reported += missed
        return missed

    def begin_turn(self) -> None:
        """Sleep at the next `wait`, unless something happens until then."""
        self._wake.clear()

    async def wait(self, seconds: float | None) -> None:
        """Wait until something has happened since the turn began; after a timeout there may be a gap."""
        if seconds is None:
            await self._wake.wait()
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            self.has_gap = True

    def wake(self) -> bool:
        """Wake the subscriber; False where its event loop is closed."""
        if self._wake.is_set():
            return True  # it is cleared before what waits is taken
        try:
            if asyncio.get_running_loop() is self._loop:
                self._wake.set()
                return True
        except RuntimeError:
            pass  # a thread without an event loop
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:
            return False
        return True
