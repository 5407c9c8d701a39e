"""What both clients need of httpx."""

from __future__ import annotations

import httpx

from apflow.client.errors import ServerError, ServerUnreachableError
from apflow.client.target import Target

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


def async_transport(target: Target, lent: httpx.AsyncBaseTransport | None) -> httpx.AsyncBaseTransport | None:
    """Return what sends requests to a server; None: httpx's own, by way of the environment's proxies."""
    if lent is not None:
        return LentTransport(lent)
    return httpx.AsyncHTTPTransport() if target.is_local else None


def sync_transport(target: Target, lent: httpx.BaseTransport | None) -> httpx.BaseTransport | None:
    """Return the same, without asyncio."""
    if lent is not None:
        return LentSyncTransport(lent)
    return httpx.HTTPTransport() if target.is_local else None


def unreachable(url: str, error: httpx.RequestError) -> ServerUnreachableError:
    """Return what a fault of the network means."""
    cause = str(error).rstrip(".") or type(error).__name__
    return ServerUnreachableError(url, cause, was_sent=not isinstance(error, _NOT_SENT))


def too_large(status: int, most: int) -> ServerError:
    """Return what is raised where an answer has no end."""
    return ServerError(f"The answer is larger than the {most} bytes that are taken. Ask for less.", status)
