"""Publishes the events of trees to subscribers and observers in this process.

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
    """The recipient of published events; see `subscription`. All methods are thread-safe."""

    root_id: str

    def begin_at(self, number: int) -> None:
        """Record the last event that was published before the subscription was created."""

    def enqueue(self, *events: TaskEvent) -> None:
        """Queue events up to the capacity. Never blocks."""

    def look(self) -> None:
        """Read the events stored since the last read."""


class EventBus:
    """The subscribers of one store, by tree. The bus holds only weak references to them."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, tuple[ref[Subscriber], ...]] = {}
        # Trees that this process runs -> the number of the last stored event that was published.
        self._positions: dict[str, Callable[[], int]] = {}
        self._on_notice: dict[NoticeKind, tuple[Callable[[str], object], ...]] = {}
        self._observers: tuple[Observe, ...] = ()
        self._live_observers = 0  # how many of them need live events
        self._lock = threading.RLock()  # reentrant: a subscription may be finalized while the lock is held

    def has_subscribers(self, root_id: str) -> bool:
        """Return whether this tree has a subscriber, or the bus has an observer."""
        return bool(self._observers) or root_id in self._subscriptions

    def needs_live(self, root_id: str) -> bool:
        """Return whether a subscriber or an observer needs the live events of this tree."""
        return self._live_observers > 0 or root_id in self._subscriptions

    def subscribers(self, root_id: str) -> int:
        """Return the number of subscriptions to this tree."""
        return len(self._subscriptions.get(root_id, ()))

    def publish(self, *events: TaskEvent) -> None:
        """Publish events of one tree to its subscribers. Never blocks."""
        if not events:
            return
        for each in self._subscriptions.get(events[0].root_task_id, ()):
            subscription = each()
            if subscription is not None:
                subscription.enqueue(*events)
        for observe in self._observers:
            observe(events)

    def receive(self, notice: Notice) -> None:
        """Handle a notice from another process. May be called from any thread."""
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
        """Call `callback` with the root id of each notice of a kind. The call comes from any thread."""
        with self._lock:
            self._on_notice[kind] = (*self._on_notice.get(kind, ()), callback)
        try:
            yield
        finally:
            with self._lock:
                self._on_notice[kind] = tuple(each for each in self._on_notice[kind] if each is not callback)

    @contextmanager
    def observing(self, observe: Observe, *, needs_live: bool = True) -> Generator[None]:
        """Call `observe` with the events of every tree in this process. The run waits for the call.

        Args:
            needs_live: whether progress and logs are published because of this observer. Without it, the
                observer may receive them or not.
        """
        with self._lock:
            self._observers = (*self._observers, observe)
            self._live_observers += needs_live
        try:
            yield
        finally:
            with self._lock:
                self._observers = tuple(each for each in self._observers if each is not observe)
                self._live_observers -= needs_live

    @contextmanager
    def publishing(self, root_id: str, position: Callable[[], int]) -> Generator[None]:
        """Provide subscriptions with the number of the last published event while this process runs a tree.

        The store cannot provide it, because its newest events may not be published yet.

        Args:
            position: returns the number of the last stored event that was published or existed before the
                run. Called from any thread.
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
        """Publish to a subscription until it is garbage-collected."""
        root_id = subscription.root_id
        added = ref(subscription, lambda _: self._keep(root_id))
        with self._lock:
            self._keep(root_id, added)
            position = self._positions.get(root_id)
            if position is not None:
                subscription.begin_at(
                    position()
                )  # called after the subscription is added, so that no event is missed

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
    """Return the bus of a store, which all callers in this process share."""
    with _lock.lock:
        bus = _buses.get(store)
        if bus is None:
            bus = _buses[store] = EventBus()
            store.listen(bus.receive)
        return bus
