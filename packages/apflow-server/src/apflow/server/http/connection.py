"""Connections of uvicorn with time limits: peers that do not send or do not read are disconnected.

uvicorn (0.54) waits indefinitely for the head of a request, and buffers data for a reader that does not read
until it disconnects. An attacker needs only a socket for either. uvicorn has no public setting for these
limits, so this module extends its protocol classes, and apflow-server requires a version of uvicorn that is
tested with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

POLL_INTERVAL_SECONDS: Final = 20.0  # seconds between two looks at a connection
LEAST: Final = 16 << 10  # bytes that a reader takes between two looks, where more than that waits for it
MAX_SLOW_CHECKS: Final = 3  # looks in a row at which it may have taken less


class _Watched(asyncio.Protocol):
    """The state of a connection that its watch reads."""

    _watch: StallWatchdog | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_watch()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._watch is not None:
            self._watch.is_full = True

    def resume_writing(self) -> None:
        if self._watch is not None:
            self._watch.is_full = False
        super().resume_writing()

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.end()
            self._watch = None


class HttpConnection(_Watched, H11Protocol):
    """A connection of HTTP. A request begins within two looks, and what is sent is taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch = StallWatchdog(transport, self._awaited)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._end_watch()  # what the connection is from now on has its own
        super().handle_websocket_upgrade(event)

    def _awaited(self) -> object | None:
        """Return what the next request follows, while it is waited for; None where uvicorn limits the wait.

        The same object in two checks means that no request has begun between them.
        """
        if self.timeout_keep_alive_task is not None:
            return None
        if self.cycle is None:  # pyright: ignore[reportUnnecessaryComparison] - before the first request
            return self
        return self.cycle if self.cycle.response_complete else None


class WebSocketConnection(_Watched, WebSocketsSansIOProtocol):
    """A connection of a WebSocket. What is sent is taken."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._watch = StallWatchdog(cast("asyncio.Transport", transport), lambda: None)


class StallWatchdog:
    """Checks a connection periodically, and closes it if it makes no progress.

    Args:
        transport: the connection.
        awaited: what the other side should have followed by a request long ago, if anything.
    """

    def __init__(self, transport: asyncio.Transport, awaited: Callable[[], object | None]) -> None:
        self.is_full = False  # more waits to be sent than is good
        self._transport = transport
        self._awaited = awaited
        self._last: object | None = None
        self._waits_to_be_taken: int | None = None  # bytes, at the last look
        self._idle_looks = 0
        self._schedule()

    def end(self) -> None:
        """Stop the checks."""
        self._timer.cancel()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(POLL_INTERVAL_SECONDS, self._look)

    def _look(self) -> None:
        awaited = self._awaited()
        if self._takes_nothing():
            self._transport.abort()
            return
        if awaited is not None and awaited is self._last:
            self._transport.close()  # with what was sent and not taken yet
        self._last = awaited
        self._schedule()

    def _takes_nothing(self) -> bool:
        """Return whether the reader has read too little of the buffered data for too long."""
        if not self.is_full and not self._transport.is_closing():
            self._waits_to_be_taken, self._idle_looks = None, 0
            return False
        before, now = self._waits_to_be_taken, self._transport.get_write_buffer_size()
        if before is None or before - now >= LEAST:
            self._waits_to_be_taken, self._idle_looks = now, 0
        else:
            self._idle_looks += 1
        return self._idle_looks >= MAX_SLOW_CHECKS
