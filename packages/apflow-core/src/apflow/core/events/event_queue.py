"""The queue between the publishers of events and one subscription."""

from __future__ import annotations

import asyncio
from collections import deque

from apflow.core.concurrency.loop_call import set_in_loop
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.model.event import LIVE, TaskEvent


class EventQueue:
    """A bounded queue of events. Any thread may put; only the event loop that created the queue may take.

    A full queue drops events. Dropped stored events leave a gap, which the subscription fills from the store;
    dropped live events are counted.
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
        """Add events up to the capacity; return False if the event loop is closed. Thread-safe."""
        for event in events:
            if len(self.events) < self.size:
                self.events.append(event)
            elif event.type in LIVE:
                self._missed += 1
            else:
                self.has_gap = True
        return self.wake()

    def mark_gap(self) -> bool:
        """Record that the store has new events; return False if the event loop is closed. Thread-safe."""
        self.has_gap = True
        return self.wake()

    def close(self) -> bool:
        """Close the queue: the subscriber reads only the events that are stored by now."""
        self.is_closed = True
        return self.wake()

    def take_missed(self) -> int:
        """Return how many live events were dropped since the last call."""
        missed = self._missed - self._reported
        self._reported += missed
        return missed

    def begin_turn(self) -> None:
        """Make the next `wait` sleep until something happens after this call."""
        self._wake.clear()

    async def wait(self, seconds: float | None) -> None:
        """Wait until something has happened since the turn began; after a timeout there may be a gap."""
        if not await wait_up_to(seconds, self._wake):
            self.has_gap = True

    def wake(self) -> bool:
        """Wake the subscriber; return False if its event loop is closed."""
        if self._wake.is_set():
            return True  # the event is cleared before the queue is emptied
        return set_in_loop(self._loop, self._wake)
