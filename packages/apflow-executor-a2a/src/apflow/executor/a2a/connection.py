"""HTTP connections to agents: guarded by the network policy, shared by tasks, and bounded in what is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import httpx

from apflow.core.concurrency.loop_local import LoopLocal
from apflow.executor.a2a.errors import A2aResponseError, A2aTooLargeError
from apflow.http import GuardedTransport

CONNECT_SECONDS: Final = 10.0
# The engine limits how many tasks run. A lower limit here would make one slow agent delay all others.
CONNECTIONS: Final = 1 << 16
# Of the answer as it is sent: characters may be escaped, and the card and the history come on top.
WIRE_FACTOR: Final = 3
WIRE_EXTRA: Final = 1 << 20  # bytes

_transports = LoopLocal(lambda: GuardedTransport(connections=CONNECTIONS), GuardedTransport.aclose)


async def close_connections() -> None:
    """Close the connections that the running loop keeps open."""
    await _transports.close()


class Meter:
    """Counts the bytes that are read for one answer, or for one update of a stream."""

    def __init__(self, where: str, limit: int) -> None:
        self._where, self._limit = where, limit
        self._most = limit * WIRE_FACTOR + WIRE_EXTRA
        self._read = 0

    @property
    def most(self) -> int:
        """How many bytes may be read until the next `reset`."""
        return self._most

    def reset(self) -> None:
        """Begin to count again, because an answer or an update is complete."""
        self._read = 0

    def add(self, count: int) -> None:
        """Count bytes. Raises `A2aTooLargeError` if they are too many."""
        self._read += count
        if self._read > self._most:
            raise A2aTooLargeError(self._where, self._limit)


async def open_client(where: str, meter: Meter) -> httpx.AsyncClient:
    """Return a client for one call. Closing it keeps the connections."""
    return httpx.AsyncClient(
        transport=_MeteredTransport(where, await _transports.get(), meter),
        headers={"Accept-Encoding": "identity"},
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        trust_env=False,
    )


class _MeteredTransport(httpx.AsyncBaseTransport):
    """Sends requests over a transport that others share, and counts what comes back."""

    def __init__(self, where: str, shared: GuardedTransport, meter: Meter) -> None:
        self._where, self._shared, self._meter = where, shared, meter

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._meter.reset()
        response = await self._shared.handle_async_request(request)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            await response.aclose()
            raise A2aResponseError(
                self._where, f"it has the encoding {encoding[:50]!r}, which was not accepted"
            )
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_MeteredStream(response, self._meter),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Do nothing: the connections belong to the event loop."""


class _MeteredStream(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, meter: Meter) -> None:
        self._response, self._meter = response, meter

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        async for chunk in stream:
            self._meter.add(len(chunk))
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()
