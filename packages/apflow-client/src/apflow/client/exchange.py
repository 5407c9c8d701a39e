"""What both clients use of httpx."""

from __future__ import annotations

import httpx

from apflow.client.errors import ServerError, ServerUnreachableError
from apflow.client.target import Target

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class LentTransport(httpx.AsyncBaseTransport):
    """A transport of the caller, which the client does not close."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        return await self._transport.handle_async_request(request)


class LentSyncTransport(httpx.BaseTransport):
    """A transport of the caller without asyncio, which the client does not close."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        return self._transport.handle_request(request)


def async_transport(target: Target, lent: httpx.AsyncBaseTransport | None) -> httpx.AsyncBaseTransport | None:
    """Return the transport to a server; None: that of httpx, which uses the proxies of the environment."""
    if lent is not None:
        return LentTransport(lent)
    return httpx.AsyncHTTPTransport() if target.is_local else None


def sync_transport(target: Target, lent: httpx.BaseTransport | None) -> httpx.BaseTransport | None:
    """Return the transport to a server, without asyncio."""
    if lent is not None:
        return LentSyncTransport(lent)
    return httpx.HTTPTransport() if target.is_local else None


def unreachable(url: str, error: httpx.RequestError) -> ServerUnreachableError:
    """Return the error for a failed exchange."""
    cause = str(error).rstrip(".") or type(error).__name__
    return ServerUnreachableError(url, cause, was_sent=not isinstance(error, _NOT_SENT))


def too_large(status: int, most: int) -> ServerError:
    """Return the error for an answer that exceeds the limit."""
    return ServerError(f"The answer is larger than the limit of {most} bytes. Request less.", status)
