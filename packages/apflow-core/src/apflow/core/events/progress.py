"""Forwards progress and log events of running executors to subscribers and to the task's row.

Progress and log events of a task are coalesced to one per interval. The last event of each kind is always
sent, after the interval or at the end of the call.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import cast

from apflow.core.capture.task_log import EVENT, TaskLog
from apflow.core.errors import InvalidInputError
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.payload.json_value import clean_text, storable

logger = logging.getLogger(__name__)


class ProgressQueue:
    """The `event_queue` of one executor call. May be used from any thread.

    Args:
        publish: called with each event to send.
        note: called with the fraction done, to store it in the task's row.
        redact: removes secrets from messages and data.
        interval: seconds between two events.
        loop: the event loop in which the queue is created.
        log: the log of the attempt, to which messages of log events are added.
    """

    __slots__ = (
        "_held", "_interval", "_is_closed", "_log", "_loop", "_note", "_publish", "_redact", "_sent_at",
        "_task", "_thread", "_timer",
    )  # fmt: skip

    def __init__(
        self,
        task: Task,
        publish: Callable[[TaskEvent], None],
        note: Callable[[str, float], None],
        redact: Callable[[Json], Json],
        interval: float,
        loop: asyncio.AbstractEventLoop,
        log: TaskLog | None = None,
    ) -> None:
        self._task = task
        self._publish = publish
        self._note = note
        self._redact = redact
        self._interval = interval
        self._loop = loop
        self._log = log
        self._thread = threading.get_ident()
        self._sent_at = float("-inf")
        self._held: dict[EventType, TaskEvent] = {}  # the last event of each kind, in the order of sending
        self._timer: asyncio.TimerHandle | None = None  # set while events are held
        self._is_closed = False

    async def put(self, event: Mapping[str, Json], /) -> None:
        """Send one event, as `put_nowait` does, and yield to the event loop."""
        self.put_nowait(event)
        await asyncio.sleep(0)

    def put_nowait(self, event: Mapping[str, Json], /) -> None:
        """Send one event: `type` ("progress" or "log"), `progress` (0.0 to 1.0), `message`, `data`.

        The fraction may also be in `data`. Any other type is handled as progress. `data` that is not JSON is
        omitted. Events after the end of the call are ignored.
        """
        if self._is_closed:
            return
        made = self._read(event)
        if made.type is EventType.LOG and made.message is not None and self._log is not None:
            self._log.add(made.message, source=EVENT)
        if threading.get_ident() == self._thread:
            self._take(made)
        else:
            self._loop.call_soon_threadsafe(self._take, made)

    def close(self) -> None:
        """Send the held events, and ignore later ones."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        held, self._held = self._held, {}
        for event in held.values():
            self._send(event)

    def _take(self, event: TaskEvent) -> None:
        if self._is_closed:
            return
        wait = self._sent_at + self._interval - self._loop.time()
        if wait <= 0 and not self._held:
            self._send(event)
            return
        self._held[event.type] = event
        if self._timer is None:
            self._timer = self._loop.call_later(wait, self._send_held)

    def _send_held(self) -> None:
        self._send(self._held.pop(next(iter(self._held))))
        self._timer = self._loop.call_later(self._interval, self._send_held) if self._held else None

    def _send(self, event: TaskEvent) -> None:
        self._sent_at = self._loop.time()
        if event.progress is not None:
            self._note(event.task_id, event.progress)
        self._publish(event)

    def _read(self, event: Mapping[str, Json]) -> TaskEvent:
        data, message, fraction = self._data(event.get("data")), event.get("message"), event.get("progress")
        if fraction is None and isinstance(data, dict):
            fraction = cast("dict[str, Json]", data).get("progress")
        return TaskEvent(
            type=EventType.LOG if event.get("type") == EventType.LOG else EventType.PROGRESS,
            task_id=self._task.id,
            key=self._task.key,
            root_task_id=self._task.root_id,
            timestamp=utc_now(),
            status=self._task.status,
            progress=_fraction(fraction),
            message=None if message is None else self._redact(clean_text(str(message))),
            data=data,
        )

    def _data(self, data: Json) -> Json:
        """Return a copy of the data, because the executor may change its object later."""
        try:
            return self._redact(storable(data, "data"))
        except InvalidInputError as error:
            logger.warning("An event of task %s is sent without its data: %s", self._task.id, error)
            return None


def _fraction(value: Json) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(min(1.0, max(0.0, value))) if is_number else None
