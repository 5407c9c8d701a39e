"""What an executor says while it runs, on its way to subscribers and to the task's row.

Progress and log events are coalesced to one per interval and kind; the last one is always sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from apflow.core.events import EventType, TaskEvent
from apflow.core.task import Json, Task, utc_now


class ProgressQueue:
    """The `event_queue` of one executor call.

    Args:
        publish: hears what is let through.
        note: is told the fraction done, for the task's row.
        redact: takes secrets out of what the executor says.
        interval: seconds between two events of one kind.
    """

    def __init__(
        self,
        task: Task,
        publish: Callable[[TaskEvent], None],
        note: Callable[[str, float], None],
        redact: Callable[[Json], Json],
        interval: float,
    ) -> None:
        self._task = task
        self._publish = publish
        self._note = note
        self._redact = redact
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._sent_at: dict[EventType, float] = {}
        self._held: dict[EventType, TaskEvent] = {}
        self._timers: dict[EventType, asyncio.TimerHandle] = {}
        self._is_closed = False

    async def put(self, event: dict[str, Json], /) -> None:
        """Send one event; see `put_nowait`. Gives the event loop a turn."""
        self.put_nowait(event)
        await asyncio.sleep(0)

    def put_nowait(self, event: dict[str, Json], /) -> None:
        """Send one event: `type` ("progress" or "log"), `progress` (0.0 to 1.0), `message`, `data`."""
        if self._is_closed:
            return
        made = self._read(event)
        wait = self._sent_at.get(made.type, float("-inf")) + self._interval - self._loop.time()
        if wait <= 0 and made.type not in self._held:
            self._send(made)
            return
        if made.type not in self._held:
            self._timers[made.type] = self._loop.call_later(max(0.0, wait), self._flush, made.type)
        self._held[made.type] = made

    def close(self) -> None:
        """Send what is held back, and take nothing more."""
        self._is_closed = True
        for kind in list(self._held):
            self._timers.pop(kind).cancel()
            self._send(self._held.pop(kind))

    def _flush(self, kind: EventType) -> None:
        self._timers.pop(kind, None)
        held = self._held.pop(kind, None)
        if held is not None:
            self._send(held)

    def _send(self, event: TaskEvent) -> None:
        self._sent_at[event.type] = self._loop.time()
        if event.progress is not None:
            self._note(event.task_id, event.progress)
        self._publish(event)

    def _read(self, event: dict[str, Json]) -> TaskEvent:
        event = self._redact(dict(event))
        data = event.get("data")
        fraction = event.get("progress")
        if fraction is None and isinstance(data, dict):
            fraction = cast("dict[str, Json]", data).get("progress")
        if isinstance(fraction, bool) or not isinstance(fraction, int | float):
            fraction = None
        message = event.get("message")
        return TaskEvent(
            type=EventType.LOG if event.get("type") == EventType.LOG else EventType.PROGRESS,
            task_id=self._task.id,
            root_task_id=self._task.root_id,
            timestamp=utc_now(),
            status=self._task.status,
            progress=None if fraction is None else min(1.0, max(0.0, float(fraction))),
            message=None if message is None else str(message),
            data=data,
        )
