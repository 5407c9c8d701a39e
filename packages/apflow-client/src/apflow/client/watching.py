"""Follow a tree over several connections: where to resume, and when to stop. Pure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Final, cast

import httpx
from httpx_sse import ServerSentEvent

from apflow.client.errors import ServerError
from apflow.client.repetition import may_pass, wait_after
from apflow.core.model.event import FINAL, LIVE
from apflow.core.model.task import Json


class Watching:
    """The position of a reader of events.

    Args:
        after: number of the last event that the reader has; None: start with the state of the tree.
        reconnect_for: how many seconds the server may be unreachable.
    """

    def __init__(self, after: int | None, reconnect_for: float) -> None:
        self.is_over = False
        self._last = after
        self._has_ended = False  # by the last stored event
        self._reconnect_for = reconnect_for
        self._lost_at: float | None = None
        self._attempts = 0  # without an event in between

    @property
    def headers(self) -> dict[str, str]:
        """The request headers that resume after the last event."""
        resume = {} if self._last is None else {"Last-Event-ID": str(self._last)}
        return {"Accept": "text/event-stream", "Cache-Control": "no-store"} | resume

    def take(self, sent: ServerSentEvent) -> dict[str, Json] | None:
        """Return the event of a message; None for a heartbeat.

        Raises:
            ServerError: the message is not an event.
        """
        self._lost_at = None
        if not sent.data:
            return None
        try:
            event = json.loads(sent.data)
            kind, number = str(event["type"]), int(event["sequence"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ServerError("The server sent something that is not an event of a tree.", 200) from error
        self._attempts = 0
        if kind not in LIVE:
            self._last = number
            self._has_ended = kind in FINAL
        return cast("dict[str, Json]", event)

    def note_end(self) -> None:
        """Record that the server closed the stream: after the final event, or because it shuts down."""
        self.is_over = self._has_ended

    def note_nothing_follows(self) -> None:
        """Record that the run has ended and that no events follow."""
        self.is_over = True

    def wait_after(self, error: Exception | None, now: float) -> float:
        """Return the seconds until the next attempt to resume the stream.

        Raises:
            Exception: the error, if it is not temporary or has lasted too long.
        """
        if error is not None and not may_pass(error):
            raise error
        if self._lost_at is None:
            self._lost_at = now
        self._attempts += 1
        wait = wait_after(error, self._attempts)
        if error is not None and now + wait - self._lost_at >= self._reconnect_for:
            raise error
        return wait


class LogWatching(Watching):
    """The position of a reader of log lines.

    Args:
        after: number of the last line that the reader has.
        reconnect_for: how many seconds the server may be unreachable.
    """

    def __init__(self, after: int, reconnect_for: float) -> None:
        super().__init__(after, reconnect_for)

    def take(self, sent: ServerSentEvent) -> dict[str, Json] | None:
        """Return the line of a message; None for the end and for a heartbeat.

        Raises:
            ServerError: the message is not a log line.
        """
        self._lost_at = None
        if sent.event == "end":
            self._has_ended = True
        if not sent.data or sent.event == "end":
            return None
        try:
            line = json.loads(sent.data)
            self._last = int(line["number"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ServerError("The server sent something that is not a log line.", 200) from error
        self._attempts = 0
        return cast("dict[str, Json]", line)


class BoundedStream(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A stream that fails at an event that is larger than the limit."""

    END: Final = b"\n\n"

    def __init__(self, stream: httpx.AsyncByteStream | httpx.SyncByteStream, most: int) -> None:
        self._stream, self._most = stream, most
        self._held = 0  # bytes since the last event ended

    def __iter__(self) -> Iterator[bytes]:
        for piece in cast("httpx.SyncByteStream", self._stream):
            self._count(piece)
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in cast("httpx.AsyncByteStream", self._stream):
            self._count(piece)
            yield piece

    def close(self) -> None:
        """Close the stream."""
        cast("httpx.SyncByteStream", self._stream).close()

    async def aclose(self) -> None:
        """Close the stream."""
        await cast("httpx.AsyncByteStream", self._stream).aclose()

    def _count(self, piece: bytes) -> None:
        end = piece.rfind(self.END)
        self._held = self._held + len(piece) if end < 0 else len(piece) - end
        if self._held > self._most:
            raise ServerError(f"An event is larger than the limit of {self._most} bytes.", 200)
