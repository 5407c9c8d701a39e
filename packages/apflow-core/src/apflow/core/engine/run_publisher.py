"""Publishes the events of one run: stored ones, live ones, and that the run waits for its store."""

from __future__ import annotations

from apflow.core.engine.attempt import Attempt
from apflow.core.engine.store_retry import Stall
from apflow.core.events.bus import EventBus
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.task import utc_now
from apflow.core.planning.run_state import RunState
from apflow.core.store.base import TaskStore, TransitionResult


class RunPublisher:
    """Publishes the events of one run to this process, and live ones to other processes, too."""

    def __init__(self, state: RunState[Attempt], bus: EventBus, store: TaskStore) -> None:
        self._state = state
        self._bus = bus
        self._store = store

    def publish_stored(self, result: TransitionResult) -> None:
        """Publish the events of a durable change."""
        state = self._state
        for events in reversed(result):
            if events:
                state.last_number = max(state.last_number, events[-1].sequence)
                break
        if self._bus.has_subscribers(state.root_id):
            self._bus.publish(*(event for events in result for event in events or ()))

    def publish_live(self, event: TaskEvent) -> None:
        """Publish an event that is not stored."""
        event.sequence = self._state.last_number
        self._bus.publish(event)
        self._store.announce(event)

    def publish_stall(self, stall: Stall) -> None:
        """Notify subscribers that the run waits for the store."""
        state = self._state
        message = f"The run waits: {stall.reason}. It continues when the database can be written again."
        self.publish_live(
            TaskEvent(
                type=EventType.LOG,
                task_id=state.root_id,
                key=state.by_id[state.root_id].key,
                root_task_id=state.root_id,
                timestamp=utc_now(),
                message=message,
                data={"store": "unavailable", "reason": stall.reason, "seconds": round(stall.seconds, 1)},
            )
        )
