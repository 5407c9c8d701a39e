"""What both clients need of httpx."""

from __future__ import annotations

import httpx

from apflow.client.errors import ServerError, ServerUnreachableError

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class LentTransport(httpx.AsyncBaseTransport):
    """A transport that others may use, too: whoever lent it closes it."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        return await self._transport.handle_async_request(request)


class LentSyncTransport(httpx.BaseTransport):
    """The same, without asyncio."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        return self._transport.handle_request(request)


def unreachable(url: str, error: httpx.RequestError) -> ServerUnreachableError:
    """Return what a fault of the network means."""
    cause = str(error).rstrip(".") or type(error).__name__
    return ServerUnreachableError(url, cause, was_sent=not isinstance(error, _NOT_SENT))


def too_large(status: int, most: int) -> ServerError:
    """Return what is raised where an answer has no end."""
    return ServerError(f"The answer is larger than the {most} bytes that are taken. Ask for less.", status)
