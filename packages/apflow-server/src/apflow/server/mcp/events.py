"""What sessions over HTTP have sent, so that a client which lost its connection gets what it has missed.

Each session has separate events: the IDs of another session mean nothing there. They are kept in memory, as
sessions are, within bounds of each session and of all of them together.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

MAX_EVENTS: Final = 1000  # of a session
MAX_BYTES: Final = 4 << 20  # of a session
MAX_SECONDS: Final = 300.0
MAX_TOTAL_BYTES: Final = 64 << 20  # of all sessions
MAX_DIGITS: Final = 20  # of the number of an event: Python refuses to read thousands of them
OVERHEAD_BYTES: Final = 500  # counted for each event beside its message

Send = Callable[[Any], Awaitable[None]]


class Event(NamedTuple):
    """A message that was sent. None: only the ID was sent, by which the client can continue."""

    number: int
    stream: str  # a response, or the stream of the session, whatever connection carries it
    message: Any
    size: int
    at: float


@dataclass
class Bounds:
    """What the events of all sessions of a server share.

    Args:
        make: returns what the SDK sends, for a message and the ID of its event.
        is_last: returns whether a message is the last one of its stream.
        clock: returns seconds.
    """

    make: Callable[[Any, str], Any]
    is_last: Callable[[Any], bool]
    clock: Callable[[], float] = time.monotonic
    max_events: int = MAX_EVENTS
    max_bytes: int = MAX_BYTES
    max_seconds: float = MAX_SECONDS
    max_total_bytes: int = MAX_TOTAL_BYTES

    def __post_init__(self) -> None:
        self._sessions: weakref.WeakSet[SessionEvents] = weakref.WeakSet()

    def new_session(self) -> SessionEvents:
        """Return the events of a new session. They are dropped with the session."""
        session = SessionEvents(self)
        self._sessions.add(session)
        return session

    @property
    def total_bytes(self) -> int:
        """The size of all events that are kept."""
        return sum(each.size for each in self._sessions)

    def make_room(self) -> None:
        """Drop the oldest events until all sessions together are within the bound."""
        total = self.total_bytes
        while total > self.max_total_bytes:
            holding = [each for each in self._sessions if each.events]
            total -= min(holding, key=lambda each: each.events[0].at).drop_first()


class SessionEvents:
    """The events of one session: an event store of the SDK."""

    def __init__(self, bounds: Bounds) -> None:
        self.events: deque[Event] = deque()
        self.size = 0
        self._bounds, self._count = bounds, 0

    async def store_event(self, stream_id: str, message: Any) -> str:
        """Keep a message and return the ID of its event."""
        bounds, now = self._bounds, self._bounds.clock()
        size = OVERHEAD_BYTES + (0 if message is None else len(message.model_dump_json()))
        self._count += 1
        event = Event(self._count, stream_id, message, size, now)
        self.events.append(event)
        self.size += size
        self._drop_expired(now)
        while len(self.events) > bounds.max_events or self.size > bounds.max_bytes:
            self.drop_first()
        bounds.make_room()
        return _id_of(event)

    async def replay_events_after(self, last_event_id: str, send_callback: Send) -> str | None:
        """Send what followed an event in its stream, as far as it is kept.

        Returns:
            the stream, if more may follow; None if its last message was sent, or the ID is of no event.
        """
        number, _, stream = last_event_id.partition("-")
        stream = unquote(stream)
        if not (number.isascii() and number.isdigit() and len(number) < MAX_DIGITS):
            return None
        if int(number) > self._count:
            return None
        self._drop_expired(self._bounds.clock())
        followed = [each for each in self.events if each.stream == stream and each.number > int(number)]
        for event in followed:
            if event.message is not None:
                await send_callback(self._bounds.make(event.message, _id_of(event)))
                if self._bounds.is_last(event.message):
                    return None
        return stream

    def drop_first(self) -> int:
        """Drop the oldest event and return its size."""
        dropped = self.events.popleft()
        self.size -= dropped.size
        return dropped.size

    def _drop_expired(self, now: float) -> None:
        while self.events and now - self.events[0].at > self._bounds.max_seconds:
            self.drop_first()


def _id_of(event: Event) -> str:
    return f"{event.number}-{quote(event.stream, safe='')}"
