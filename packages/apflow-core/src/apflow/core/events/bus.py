"""Publishing what happens to a tree to the subscribers and observers in this process.

A subscriber never blocks a run: its queue is bounded (see `subscription`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakKeyDictionary, ref

from apflow.core.model.event import TaskEvent
from apflow.core.process.identity import ForkLock
from apflow.core.store.base import Notice, NoticeKind, TaskStore

Observe = Callable[[tuple[TaskEvent, ...]], object]


class Subscriber(Protocol):
    """What events are published to; see `subscription`. Every method may be called from any thread."""

    root_id: str

    def begin_at(self, number: int) -> None:
        """Record the last event that was published before the subscription was made."""

    def enqueue(self, *events: TaskEvent) -> None:
        """Take events as far as there is room. Never waits."""

    def look(self) -> None:
        """Read what has been stored since."""


class EventBus:
    """The subscribers of one store, by tree. It keeps none of them alive."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, tuple[ref[Subscriber], ...]] = {}
        # Trees that this process runs -> the number of the last stored event that was published.
        self._positions: dict[str, Callable[[], int]] = {}
        self._on_notice: dict[NoticeKind, tuple[Callable[[str], object], ...]] = {}
        self._observers: tuple[Observe, ...] = ()
        self._lock = threading.RLock()  # the end of a subscription may be noticed in the middle of anything

    def has_subscribers(self, root_id: str) -> bool:
        """Whether an event of this tree would reach a subscriber or an observer."""
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
        """Pass on a notice of what another process did. From any thread."""
        if notice.event is not None:
            self.publish(notice.event)
        elif notice.kind is NoticeKind.EVENTS:
            for each in self._subscriptions.get(notice.root_id, ()):
                subscription = each()
                if subscription is not None:
                    subscription.look()
        for callback in self._on_notice.get(notice.kind, ()):
            callback(notice.root_id)

    @contextmanager
    def on_notice(self, kind: NoticeKind, callback: Callable[[str], object]) -> Generator[None]:
        """Call `callback`, from any thread, with the root's id of each notice of a kind."""
        with self._lock:
            self._on_notice[kind] = (*self._on_notice.get(kind, ()), callback)
        try:
            yield
        finally:
            with self._lock:
                self._on_notice[kind] = tuple(each for each in self._on_notice[kind] if each is not callback)

    @contextmanager
    def observing(self, observe: Observe) -> Generator[None]:
        """Call `observe` with the events of every tree in this process. The run waits for it: be quick."""
        with self._lock:
            self._observers = (*self._observers, observe)
        try:
            yield
        finally:
            with self._lock:
                self._observers = tuple(each for each in self._observers if each is not observe)

    @contextmanager
    def publishing(self, root_id: str, position: Callable[[], int]) -> Generator[None]:
        """Give subscriptions the number of the last published event, for as long as this process runs a tree.

        The store cannot give it: its newest events may not be published yet.

        Args:
            position: returns the number of the last stored event that was published, or is older than the
                run. From any thread.
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

    def subscribe(self, subscription: Subscriber) -> None:
        """Publish to a subscription for as long as it is referenced."""
        root_id = subscription.root_id
        added = ref(subscription, lambda _: self._keep(root_id))
        with self._lock:
            self._keep(root_id, added)
            position = self._positions.get(root_id)
            if position is not None:
                subscription.begin_at(position())  # asked for after it is added, so that no event is missed

    def unsubscribe(self, subscription: Subscriber) -> None:
        """Stop publishing to a subscription."""
        self._keep(subscription.root_id, without=subscription)

    def _keep(self, root_id: str, *added: ref[Subscriber], without: Subscriber | None = None) -> None:
        with self._lock:
            known = self._subscriptions.get(root_id, ())
            kept = (*(each for each in known if each() not in (None, without)), *added)
            if kept:
                self._subscriptions[root_id] = kept
            else:
                self._subscriptions.pop(root_id, None)


_lock = ForkLock()  # guards the line below
_buses: WeakKeyDictionary[TaskStore, EventBus] = WeakKeyDictionary()


def bus_of(store: TaskStore) -> EventBus:
    """Return the bus of a store: the same one for every caller in this process."""
    with _lock:
        bus = _buses.get(store)
        if bus is None:
            bus = _buses[store] = EventBus()
            store.listen(bus.receive)
        return bus
