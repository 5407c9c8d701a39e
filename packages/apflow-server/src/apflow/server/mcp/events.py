"""What sessions over HTTP have sent, so that a client which lost its connection gets what it has missed.

Each session has separate events: the IDs of another session mean nothing there. They are kept in memory, as
sessions are, within bounds of each session and of all of them together.
"""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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


@dataclass(slots=True, eq=False)
class Kept:
    """The events of one session that are kept, oldest first."""

    events: deque[Event] = field(default_factory=deque[Event])
    size: int = 0


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
        self._total = 0
        self._order: OrderedDict[tuple[Kept, int], None] = OrderedDict()  # of all events, oldest first
        self._ended: deque[Kept] = deque()  # of sessions that are gone

    def new_session(self) -> SessionEvents:
        """Return the events of a new session. They are dropped with the session."""
        session = SessionEvents(self)
        # A finalizer may run in the middle of any other code: it changes only this.
        weakref.finalize(session, self._ended.append, session.kept)
        return session

    @property
    def total_bytes(self) -> int:
        """The size of all events that are kept."""
        self._drop_ended()
        return self._total

    def keep(self, kept: Kept, event: Event) -> None:
        """Keep one more event, and drop others until the session and all sessions are within their bounds."""
        kept.events.append(event)
        kept.size += event.size
        self._total += event.size
        self._order[kept, event.number] = None
        self._drop_ended()
        self.drop_expired(kept)
        while len(kept.events) > self.max_events or kept.size > self.max_bytes:
            self._drop_first(kept)
        while self._total > self.max_total_bytes:
            self._drop_first(next(iter(self._order))[0])

    def drop_expired(self, kept: Kept) -> None:
        """Drop the events of a session that are kept too long."""
        now = self.clock()
        while kept.events and now - kept.events[0].at > self.max_seconds:
            self._drop_first(kept)

    def _drop_first(self, kept: Kept) -> None:
        dropped = kept.events.popleft()
        kept.size -= dropped.size
        self._total -= dropped.size
        del self._order[kept, dropped.number]

    def _drop_ended(self) -> None:
        while self._ended:
            kept = self._ended.popleft()
            while kept.events:
                self._drop_first(kept)


class SessionEvents:
    """The events of one session: an event store of the SDK."""

    def __init__(self, bounds: Bounds) -> None:
        self.kept = Kept()
        self._bounds, self._count = bounds, 0

    async def store_event(self, stream_id: str, message: Any) -> str:
        """Keep a message and return the ID of its event."""
        size = OVERHEAD_BYTES + (0 if message is None else len(message.model_dump_json()))
        self._count += 1
        event = Event(self._count, stream_id, message, size, self._bounds.clock())
        self._bounds.keep(self.kept, event)
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
        self._bounds.drop_expired(self.kept)
        followed = [each for each in self.kept.events if each.stream == stream and each.number > int(number)]
        for event in followed:
            if event.message is not None:
                await send_callback(self._bounds.make(event.message, _id_of(event)))
                if self._bounds.is_last(event.message):
                    return None
        return stream


def _id_of(event: Event) -> str:
    return f"{event.number}-{quote(event.stream, safe='')}"
