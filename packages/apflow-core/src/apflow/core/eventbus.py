"""Telling subscribers of this process what happens to a tree.

A subscriber never blocks a run: its queue is bounded. What it missed of the stored events it reads from
the store; of the live ones it is told how many there were.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from weakref import WeakKeyDictionary

from apflow.core.events import FINAL, LIVE, EventType, TaskEvent
from apflow.core.store import TaskStore
from apflow.core.task import Json, Task, utc_now
from apflow.core.tree import TaskTreeNode


class EventBus:
    """The subscribers of one store, by tree."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._lock = threading.Lock()

    def has_subscribers(self, root_id: str) -> bool:
        """Whether anybody would hear an event of this tree."""
        return root_id in self._subscriptions

    def publish(self, event: TaskEvent) -> None:
        """Offer an event to every subscriber of its tree. Never waits."""
        for subscription in self._subscriptions.get(event.root_task_id, ()):
            subscription.offer(event)

    def add(self, subscription: Subscription) -> None:
        """Let a subscription hear."""
        with self._lock:
            known = self._subscriptions.get(subscription.root_id, [])
            self._subscriptions[subscription.root_id] = [*known, subscription]

    def remove(self, subscription: Subscription) -> None:
        """Let a subscription hear no more."""
        with self._lock:
            left = [
                each for each in self._subscriptions.get(subscription.root_id, []) if each is not subscription
            ]
            if left:
                self._subscriptions[subscription.root_id] = left
            else:
                self._subscriptions.pop(subscription.root_id, None)


class Subscription:
    """The events of one tree, in order, ending with the final one. Iterate over it once.

    Args:
        after: number of the last event that the subscriber knows. None: `snapshot()` tells the state, and
            events follow from there.
        size: how many events may wait to be taken.
    """

    def __init__(
        self, bus: EventBus, store: TaskStore, root_id: str, *, after: int | None = None, size: int = 1000
    ) -> None:
        self.root_id = root_id
        self._bus = bus
        self._store = store
        self._after = after
        self._queue: deque[TaskEvent] = deque()
        self._size = size
        self._missed = 0
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        bus.add(self)

    def offer(self, event: TaskEvent) -> None:
        """Take an event if there is room. May be called from any thread."""
        if len(self._queue) < self._size:
            self._queue.append(event)
        elif event.type in LIVE:
            self._missed += 1
        self._loop.call_soon_threadsafe(self._wake.set)

    async def snapshot(self) -> dict[str, Json]:
        """Return the tree as it is, nested, with `last_event`; the events that follow continue from there.

        Raises:
            NotFoundError: there is no such tree.
        """
        tasks = await self._store.tree(self.root_id)
        shown = TaskTreeNode.build(tasks, self.root_id).to_dict()
        self._after = shown["last_event"] = await self._last_number()
        return shown

    async def __aiter__(self) -> AsyncIterator[TaskEvent]:
        try:
            newest = await self._last_number()
            if self._after is None or self._after > newest:
                self._after = newest
            last = self._after or 0
            async for event in self._stored(last):
                last = event.sequence
                yield event
            if await self._has_ended(last):
                return
            async for event in self._live(last):
                yield event
        finally:
            self._bus.remove(self)

    async def _live(self, last: int) -> AsyncIterator[TaskEvent]:
        while True:
            while self._queue:
                event = self._queue.popleft()
                if event.type in LIVE:
                    yield event
                elif event.sequence > last:
                    if event.sequence > last + 1:
                        async for stored in self._stored(last, before=event.sequence):
                            yield stored
                    last = event.sequence
                    yield event
                    if event.type in FINAL and not self._queue and await self._has_ended(last):
                        return
            if self._missed:
                missed, self._missed = self._missed, 0
                yield self._missing(missed, last)
            self._wake.clear()
            if not self._queue:
                await self._wake.wait()

    async def _stored(self, after: int, before: int | None = None) -> AsyncIterator[TaskEvent]:
        while page := await self._store.events(self.root_id, after, self._size):
            for event in page:
                if before is not None and event.sequence >= before:
                    return
                yield event
            after = page[-1].sequence

    async def _last_number(self) -> int:
        root = await self._root()
        newest = await self._store.events(self.root_id, root.last_event if root else 0)
        return newest[-1].sequence if newest else root.last_event if root else 0

    async def _has_ended(self, last: int) -> bool:
        """Whether the event of that number is a final one that no unended run follows."""
        root = await self._root()
        if root is None:
            return True
        if root.run_requested_at is not None and root.run_ended_at is None:
            return False
        newest = await self._store.events(self.root_id, max(0, last - 1))
        return bool(newest) and newest[-1].sequence <= last and newest[-1].type in FINAL

    async def _root(self) -> Task | None:
        return (await self._store.get([self.root_id])).get(self.root_id)

    def _missing(self, count: int, last: int) -> TaskEvent:
        return TaskEvent(
            type=EventType.LOG,
            task_id=self.root_id,
            root_task_id=self.root_id,
            timestamp=utc_now(),
            message=f"{count} progress and log events were missed: the subscriber was too slow.",
            data={"missed": count},
            sequence=last,
        )


_buses: WeakKeyDictionary[TaskStore, EventBus] = WeakKeyDictionary()


def bus_of(store: TaskStore) -> EventBus:
    """Return the bus of a store: the same one for everybody in this process."""
    return _buses.setdefault(store, EventBus())
