"""Telling this process what happens to a tree: its subscribers above all.

A subscriber never blocks a run: its queue is bounded. What it missed of the stored events it reads from
the store; of the live ones it is told how many there were.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from weakref import WeakKeyDictionary, ref

from apflow.core.errors import NotFoundError
from apflow.core.model.event import FINAL, LIVE, EventType, TaskEvent
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.model.tree import TaskTreeNode
from apflow.core.payload.json_value import size_of
from apflow.core.process.identity import ForkLock
from apflow.core.store.base import Notice, NoticeKind, TaskStore

Observe = Callable[[tuple[TaskEvent, ...]], object]

FIRST_PAGE = 20  # stored events that are read at once, until it is known how large they are
LARGE_PAGE = 2 << 20  # bytes of results in one page: whoever reads slowly holds that much
LOOK_EVERY = 1.0  # seconds between looks for events of other processes: a notice may be lost


class EventBus:
    """The subscribers of one store, by tree. It keeps none of them alive."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, tuple[ref[Subscription], ...]] = {}
        # Trees that this process runs -> asks for the number of the last stored event that was told.
        self._positions: dict[str, Callable[[], int]] = {}
        self._heeded: dict[NoticeKind, tuple[Callable[[str], object], ...]] = {}
        self._observers: tuple[Observe, ...] = ()
        self._lock = threading.RLock()  # the end of a subscription may be noticed in the middle of anything

    def has_subscribers(self, root_id: str) -> bool:
        """Whether anybody would hear an event of this tree."""
        return bool(self._observers) or root_id in self._subscriptions

    def subscribers(self, root_id: str) -> int:
        """How many subscriptions to this tree there are."""
        return len(self._subscriptions.get(root_id, ()))

    def publish(self, *events: TaskEvent) -> None:
        """Offer events of one tree to every subscriber of it. Never waits."""
        if not events:
            return
        for each in self._subscriptions.get(events[0].root_task_id, ()):
            subscription = each()
            if subscription is not None:
                subscription.enqueue(*events)
        for observe in self._observers:
            observe(events)

    def receive(self, notice: Notice) -> None:
        """Pass on what another process did. From any thread."""
        if notice.event is not None:
            self.publish(notice.event)
        elif notice.kind is NoticeKind.EVENTS:
            for each in self._subscriptions.get(notice.root_id, ()):
                subscription = each()
                if subscription is not None:
                    subscription.look()
        for heed in self._heeded.get(notice.kind, ()):
            heed(notice.root_id)

    @contextmanager
    def on_notice(self, kind: NoticeKind, heed: Callable[[str], object]) -> Generator[None]:
        """Call `heed`, from any thread, with the root's id of each notice of a kind."""
        with self._lock:
            self._heeded[kind] = (*self._heeded.get(kind, ()), heed)
        try:
            yield
        finally:
            with self._lock:
                self._heeded[kind] = tuple(each for each in self._heeded[kind] if each is not heed)

    @contextmanager
    def observing(self, observe: Observe) -> Generator[None]:
        """Call `observe` with what this process tells of any tree. The run waits for it: be quick."""
        with self._lock:
            self._observers = (*self._observers, observe)
        try:
            yield
        finally:
            with self._lock:
                self._observers = tuple(each for each in self._observers if each is not observe)

    @contextmanager
    def publishing(self, root_id: str, position: Callable[[], int]) -> Generator[None]:
        """Tell subscriptions where "now" is, for as long as a tree is run here.

        The store cannot say it: what it has by now may not be told yet.

        Args:
            position: returns the number of the last stored event that was told, or is known to be older
                than the run. From any thread.
        """
        with self._lock:
            self._positions[root_id] = position
            for each in self._subscriptions.get(root_id, ()):
                subscription = each()
                if subscription is not None:
                    subscription.begin_at(position())
        try:
            yield
        finally:
            with self._lock:
                self._positions.pop(root_id, None)

    def subscribe(self, subscription: Subscription) -> None:
        """Let a subscription hear, as long as somebody holds it."""
        root_id = subscription.root_id
        added = ref(subscription, lambda _: self._keep(root_id))
        with self._lock:
            self._keep(root_id, added)
            position = self._positions.get(root_id)
            if position is not None:
                subscription.begin_at(position())  # asked for when nothing can be told without it any more

    def unsubscribe(self, subscription: Subscription) -> None:
        """Let a subscription hear no more."""
        self._keep(subscription.root_id, without=subscription)

    def _keep(self, root_id: str, *added: ref[Subscription], without: Subscription | None = None) -> None:
        with self._lock:
            known = self._subscriptions.get(root_id, ())
            kept = (*(each for each in known if each() not in (None, without)), *added)
            if kept:
                self._subscriptions[root_id] = kept
            else:
                self._subscriptions.pop(root_id, None)


class Subscription:
    """The events of one tree, in order, ending with the final one of a run. Iterate over it once.

    Live events that are older than a stored one that was told already are left out.

    Args:
        after: number of the last event that the subscriber knows. None: `begin()` tells the state, and
            events follow from there. Without `begin()` they follow from what was told when the subscription
            was made, if the tree is run by this process, and else from what is stored at the first look.
            The final event of a run that has ended is told in that case, too.
        size: how many events may wait to be taken.
        until_stopped: go on from run to run, until `stop()`.
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
        self.is_over = False  # by `begin()`: the run has ended, and `after` names its last event
        self._bus = bus
        self._store = store
        self._after = after
        self._made_at: int | None = None  # number of the last one that was told when this was made
        self._last = 0  # number of the last stored event that was told, or is known
        self._has_begun = False
        self._may_have_ended = True  # the last run, by what is known so far
        self._queue: deque[TaskEvent] = deque()
        self._size = size
        self._page = FIRST_PAGE
        self._has_gap = True  # the store may have events that are not in the queue
        # Counted by who publishes and by who listens, perhaps in two threads: neither changes the other's.
        self._missed = 0
        self._told_missed = 0
        self._until_stopped = until_stopped
        self._is_stopping = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        bus.subscribe(self)

    def begin_at(self, number: int) -> None:
        """Take note what the last event was when the subscription was made. Only the first word counts."""
        if self._made_at is None:
            self._made_at = number

    def enqueue(self, *events: TaskEvent) -> None:
        """Take events as far as there is room. May be called from any thread."""
        for event in events:
            if len(self._queue) < self._size:
                self._queue.append(event)
            elif event.type in LIVE:
                self._missed += 1
            else:
                self._has_gap = True
        self._wake_up()

    def look(self) -> None:
        """Read what has been stored since. From any thread."""
        self._has_gap = True
        self._wake_up()

    def stop(self) -> None:
        """End the iteration once everything that is stored by now has been told."""
        self._is_stopping = True
        self._wake_up()

    @property
    def position(self) -> int:
        """The number of the last stored event that was told, or that is known from the beginning."""
        return self._last

    async def begin(self) -> dict[str, Json] | None:
        """Return the tree as it is where that is what the subscriber needs, else None. Optional.

        It does where it named no event, one that is higher than the last, or one whose successors are no
        longer kept. The snapshot is nested and has `last_event`; the events that follow continue from there.

        Raises:
            NotFoundError: there is no such tree.
        """
        root, after = await self._root(), self._after
        if after is not None and after <= root.last_event:
            follows = await self._store.events(self.root_id, after, 1)
            if follows[0].sequence == after + 1 if follows else after == root.last_event:
                self._last, self._has_begun = after, True
                self.is_over = self._may_have_ended and after == root.last_event
                return None
        tasks = await self._store.existing_tree(self.root_id)
        shown = TaskTreeNode.build(tasks, self.root_id).to_dict()
        root = self._noted(next(task for task in tasks if task.id == self.root_id))
        shown["last_event"] = root.last_event
        self._last, self._has_begun = await self._now(root), True
        return shown

    async def __aiter__(self) -> AsyncGenerator[TaskEvent, None]:
        async with aclosing(self.batches()) as batches:
            async for events in batches:
                for event in events:
                    yield event

    async def batches(self) -> AsyncGenerator[list[TaskEvent], None]:
        """Iterate over the same events, as many at a time as are there."""
        try:
            if not self._has_begun:
                self._last = await self._begin_silently()
            while True:
                self._wake.clear()
                is_stopping = self._is_stopping
                self._has_gap |= is_stopping
                while events := await self._take():
                    for event in events:
                        self._may_have_ended |= event.type in FINAL
                        self._may_have_ended &= event.type is not EventType.TREE_STARTED
                    yield events
                if is_stopping:
                    return
                if self._until_stopped or not self._may_have_ended:
                    await self._wait()
                elif await self._knows_all():
                    return
                else:
                    self._has_gap = True
        finally:
            self._bus.unsubscribe(self)

    async def _wait(self) -> None:
        """Wait until there is something to tell; where others may store events, look from time to time."""
        if not self._store.capabilities.is_shared:
            await self._wake.wait()
            return
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._wake.wait()
        except TimeoutError:
            self._has_gap = True

    async def _begin_silently(self) -> int:
        root = await self._root()
        if self._after is not None and self._after <= root.last_event:
            return self._after
        now = await self._now(root)
        return now if self._made_at is None else min(now, self._made_at)

    async def _take(self) -> list[TaskEvent]:
        """Return what is to be told next, in order; nothing where nothing waits."""
        told: list[TaskEvent] = []
        while self._queue:
            event = self._queue[0]
            is_live = event.type in LIVE
            before = event.sequence if is_live else event.sequence - 1
            if before > self._last and (told or (told := await self._stored(before))):
                return told
            self._queue.popleft()
            if event.sequence > self._last or (is_live and event.sequence == self._last):
                self._last = event.sequence
                told.append(event)
        if told:
            return told
        missed = self._missed - self._told_missed
        if missed and not self._may_have_ended:  # as live events, it does not follow a final one
            self._told_missed += missed
            return [self._missing(missed)]
        if self._has_gap:
            self._has_gap = False
            if stored := await self._stored():
                self._has_gap = True  # there may be more than one page
                return stored
        return []

    async def _stored(self, until: int | None = None) -> list[TaskEvent]:
        """Read the next stored events, some at a time: many of small ones, few of large ones."""
        limit = min(self._size, self._page)
        limit = limit if until is None else min(limit, until - self._last)
        events = await self._store.events(self.root_id, self._last, limit)
        if events:
            self._last = events[-1].sequence
            weight = 1 + sum(size_of(event.result) for event in events if event.result is not None)
            self._page = max(1, min(self._size, 8 * self._page, LARGE_PAGE * len(events) // weight))
        return events

    async def _now(self, root: Task) -> int:
        """Return the last number, or the one before the final event of a run that has ended."""
        for count in (1, 1000, root.last_event) if root.run_ended_at is not None else ():
            for event in reversed(await self._store.events(self.root_id, max(0, root.last_event - count))):
                if event.type in FINAL:
                    return event.sequence - 1
        return root.last_event

    async def _knows_all(self) -> bool:
        """Whether all that is stored was told.

        Where the last run that is known has ended, no other was requested then: it would have stored its
        start. The root, which may hold the results of a hundred thousand tasks, need not be read for it.
        """
        return not await self._store.events(self.root_id, self._last, 1)

    async def _root(self) -> Task:
        root = (await self._store.get([self.root_id])).get(self.root_id)
        if root is None:
            raise NotFoundError(self.root_id)
        return self._noted(root)

    def _noted(self, root: Task) -> Task:
        self._may_have_ended = root.run_ended_at is not None
        return root

    def _wake_up(self) -> None:
        if self._wake.is_set():
            return  # it is cleared before what waits is taken
        try:
            if asyncio.get_running_loop() is self._loop:
                self._wake.set()
                return
        except RuntimeError:
            pass  # a thread without an event loop
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the event loop is closed: nobody listens any more
            self._bus.unsubscribe(self)

    def _missing(self, count: int) -> TaskEvent:
        return TaskEvent(
            type=EventType.LOG,
            task_id=self.root_id,
            root_task_id=self.root_id,
            timestamp=utc_now(),
            message=f"{count} progress and log events were missed: the subscriber was too slow.",
            data={"missed": count},
            sequence=self._last,
        )


_lock = ForkLock()  # guards the line below
_buses: WeakKeyDictionary[TaskStore, EventBus] = WeakKeyDictionary()


def bus_of(store: TaskStore) -> EventBus:
    """Return the bus of a store: the same one for everybody in this process."""
    with _lock:
        bus = _buses.get(store)
        if bus is None:
            bus = _buses[store] = EventBus()
            store.listen(bus.receive)
        return bus
