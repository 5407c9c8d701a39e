"""Follows the events of one tree: merges published and stored events in order.

A subscription is `NEW` until it knows its first event. Then it is `FOLLOWING` a run, or the run has `ENDED`;
events of the start and the end of runs switch between the two. The subscription is over when the run has
ended and all stored events were delivered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import Enum

from apflow.core.errors import NotFoundError
from apflow.core.events.bus import EventBus
from apflow.core.events.event_queue import EventQueue
from apflow.core.model.event import FINAL, LIVE, EventType, TaskEvent
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.model.tree import TaskTreeNode
from apflow.core.payload.json_value import size_of
from apflow.core.store.base import TaskStore

FIRST_PAGE = 20  # stored events in the first read, before their size is known
LARGE_PAGE = 2 << 20  # bytes of results in one page, which a slow reader keeps in memory
POLL_INTERVAL_SECONDS = 1.0  # between reads of events of other processes, because a notice may be lost


class SubscriptionPhase(Enum):
    """The phase of a subscription."""

    NEW = "new"  # the tree is not read yet
    FOLLOWING = "following"  # a run is active or expected
    ENDED = "ended"  # the last known run has ended


NEW, FOLLOWING, ENDED = SubscriptionPhase


class Subscription:
    """The events of one tree, in order, ending with the final one of a run. Iterate over it once.

    Live events that are older than a delivered stored event are omitted.

    Args:
        after: number of the last event that the subscriber knows. None: `begin()` returns the state, and the
            iteration yields the events that follow it. Without `begin()`, the iteration starts after the last
            event published before the subscription was created, if this process runs the tree; otherwise,
            after the events stored at the first read. In that case, the final event of an ended run is
            delivered, too.
        size: capacity of the queue.
        until_stopped: continue with the next run after the end of a run, until `stop()`.
    """

    def __init__(
        self,
        bus: EventBus,
        store: TaskStore,
        root_id: str,
        *,
        after: int | None = None,
        size: int = 1000,
        until_stopped: bool = False,
    ) -> None:
        self.root_id = root_id
        self.is_over = False  # set by `begin()` if the run has ended and `after` is its last event
        self._bus = bus
        self._store = store
        self._after = after
        self._made_at: int | None = (
            None  # number of the last event published before the subscription was created
        )
        self._root_key = root_id  # until the root has been read
        self._last = 0  # number of the last stored event that was delivered or is known
        self._page = FIRST_PAGE
        self._phase = NEW
        self._until_stopped = until_stopped
        self._queue = EventQueue(size)
        bus.subscribe(self)

    def begin_at(self, number: int) -> None:
        """Record the last event before the subscription was created. Only the first call has an effect."""
        if self._made_at is None:
            self._made_at = number

    def enqueue(self, *events: TaskEvent) -> None:
        """Queue events up to the capacity. May be called from any thread."""
        self._check_loop(self._queue.put(*events))

    def look(self) -> None:
        """Read the events stored since the last read. May be called from any thread."""
        self._check_loop(self._queue.mark_gap())

    def stop(self) -> None:
        """End the iteration when all events that are stored by now have been delivered."""
        self._check_loop(self._queue.close())

    @property
    def position(self) -> int:
        """The number of the last stored event that was delivered, or was known at the start."""
        return self._last

    async def begin(self) -> dict[str, Json] | None:
        """Return a snapshot of the tree if the subscriber needs one, otherwise None. The call is optional.

        The subscriber needs a snapshot if `after` is None, is higher than the last event, or if the events
        after it are no longer stored. The snapshot is nested and has `last_event`; the iteration continues
        from it.

        Raises:
            NotFoundError: the tree does not exist.
        """
        root, after = await self._root(), self._after
        if after is not None and after <= root.last_event:
            follows = await self._store.events(self.root_id, after, 1)
            if follows[0].sequence == after + 1 if follows else after == root.last_event:
                self._begin(root, after)
                self.is_over = self._phase is ENDED and after == root.last_event
                return None
        tasks = await self._store.existing_tree(self.root_id)
        shown = TaskTreeNode.build(tasks, self.root_id).to_dict()
        root = next(task for task in tasks if task.id == self.root_id)
        shown["last_event"] = root.last_event
        self._begin(root, await self._now(root))
        return shown

    async def __aiter__(self) -> AsyncGenerator[TaskEvent, None]:
        async with aclosing(self.batches()) as batches:
            async for events in batches:
                for event in events:
                    yield event

    async def batches(self) -> AsyncGenerator[list[TaskEvent], None]:
        """Iterate over the same events in batches of all available ones.

        Raises:
            NotFoundError: there is no such tree, or it is deleted meanwhile.
        """
        queue = self._queue
        try:
            if self._phase is NEW:
                await self._begin_silently()
            while True:
                queue.begin_turn()
                is_stopping = queue.is_closed
                queue.has_gap |= is_stopping
                while events := await self._take():
                    for event in events:
                        self._follow(event)
                    yield events
                if is_stopping:
                    return
                if self._until_stopped or self._phase is FOLLOWING:
                    await queue.wait(POLL_INTERVAL_SECONDS if self._store.capabilities.is_shared else None)
                elif await self._knows_all():
                    return
                else:
                    queue.has_gap = True
        finally:
            self._bus.unsubscribe(self)

    def _begin(self, root: Task, last: int) -> None:
        self._root_key = root.key
        self._phase = ENDED if root.run_ended_at is not None else FOLLOWING
        self._last = last

    def _follow(self, event: TaskEvent) -> None:
        if event.type in FINAL:
            self._phase = ENDED
        elif event.type is EventType.TREE_STARTED:
            self._phase = FOLLOWING

    async def _begin_silently(self) -> None:
        root = await self._root()
        if self._after is not None and self._after <= root.last_event:
            self._begin(root, self._after)
            return
        now = await self._now(root)
        self._begin(root, now if self._made_at is None else min(now, self._made_at))

    async def _take(self) -> list[TaskEvent]:
        """Return the next events in order; an empty list if there are none."""
        taken: list[TaskEvent] = []
        events = self._queue.events
        while events:
            event = events[0]
            is_live = event.type in LIVE
            before = event.sequence if is_live else event.sequence - 1
            if before > self._last and (taken or (taken := await self._stored(before))):
                return taken
            events.popleft()
            if event.sequence > self._last or (is_live and event.sequence == self._last):
                self._last = event.sequence
                taken.append(event)
        if taken:
            return taken
        # Like live events, a report of missed events is not sent after a final event.
        if self._phase is FOLLOWING and (missed := self._queue.take_missed()):
            return [self._missing(missed)]
        if self._queue.has_gap:
            self._queue.has_gap = False
            if stored := await self._stored():
                self._queue.has_gap = True  # there may be more than one page
                return stored
        return []

    async def _stored(self, until: int | None = None) -> list[TaskEvent]:
        """Read the next page of stored events. The number depends on the size of the events."""
        limit = min(self._queue.size, self._page)
        limit = limit if until is None else min(limit, until - self._last)
        events = await self._store.events(self.root_id, self._last, limit)
        if events:
            self._last = events[-1].sequence
            weight = 1 + sum(size_of(event.result) for event in events if event.result is not None)
            self._page = max(1, min(self._queue.size, 8 * self._page, LARGE_PAGE * len(events) // weight))
        return events

    async def _now(self, root: Task) -> int:
        """Return the number of the last event, or of the one before the final event of an ended run."""
        for count in (1, 1000, root.last_event) if root.run_ended_at is not None else ():
            for event in reversed(await self._store.events(self.root_id, max(0, root.last_event - count))):
                if event.type in FINAL:
                    return event.sequence - 1
        return root.last_event

    async def _knows_all(self) -> bool:
        """Return whether all stored events were delivered.

        If the last known run has ended, no other run was requested, because its start would be stored. So the
        root, which may contain the results of a hundred thousand tasks, does not have to be read.
        """
        return not await self._store.events(self.root_id, self._last, 1)

    async def _root(self) -> Task:
        root = (await self._store.get([self.root_id])).get(self.root_id)
        if root is None:
            raise NotFoundError(self.root_id)
        return root

    def _check_loop(self, is_open: bool) -> None:
        if not is_open:  # the event loop is closed: the subscriber reads no more
            self._bus.unsubscribe(self)

    def _missing(self, count: int) -> TaskEvent:
        return TaskEvent(
            type=EventType.LOG,
            task_id=self.root_id,
            key=self._root_key,
            root_task_id=self.root_id,
            timestamp=utc_now(),
            message=f"{count} progress and log events were missed: the subscriber was too slow.",
            data={"missed": count},
            sequence=self._last,
        )
