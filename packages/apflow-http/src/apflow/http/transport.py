"""A transport for httpx that asks the network policy where a connection is made, and keeps connections.

`apflow.core.net.connect` resolves a name and checks its addresses, and the connection goes to the address
that was checked: the name is not resolved again. TLS still verifies the name. Proxies of the environment are
not used, because they would resolve the name themselves.

The pool is not httpcore's, which scans all connections for each request and takes milliseconds where fifty
are open; see https://github.com/encode/httpcore/pull/1035. Nor is it aiohttp's, for these reasons (3.14.5):

- It takes a response that the server sent before the request as the answer to that request
  (https://github.com/aio-libs/aiohttp/issues/13656).
- It repeats idempotent requests, also on a new connection, and no option turns this off
  (https://github.com/aio-libs/aiohttp/issues/10790). It does not report whether the head was written.
- It has no write timeout (https://github.com/aio-libs/aiohttp/issues/5546), no limit on idle connections, and
  no way to close idle connections while others are in use.
- It refuses an answer to HEAD that has a body (https://github.com/aio-libs/aiohttp/issues/10322), drops the
  `?` of an empty query and the first of two headers whose names differ in case only.
- httpx-aiohttp 0.2.0 also reports a lost connection as `ConnectTimeout`, so that a request that the server
  has received looks as if it was never sent, and joins repeated headers.

A transport over aiohttp that replaces `ClientRequest.send` to work around most of this has 303 lines of code,
still without a limit on idle connections; this package has 363. On loopback both take 0.4 ms of processor
time for a small request, with and without TLS; an answer of 1 MB takes 1.8 ms here and 1.1 ms there. With
httpcore's pool, a small request takes 5.6 ms where fifty are sent at once. Importing aiohttp adds 0.3 s to
the 0.4 s of httpx.

A server may close a kept connection at any moment. A request that fails on one is sent again, on a new
connection, if none of its bytes were written, or if its method is idempotent. An `Idempotency-Key` header
permits nothing: the server may not know that header.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpcore
import httpx

from apflow.core.errors import HostUnreachableError
from apflow.core.net.connect import connect, net_policy, resolve
from apflow.core.net.policy import NetPolicy
from apflow.core.permissions.origin import check_host
from apflow.http.idle import IdleConnections
from apflow.http.stream import Stream

Verify = bool | str  # the system's CAs, no verification, or the CAs of a file

CONNECTIONS = 100  # of one transport, in use at once
KEPT = 64  # of one transport, idle
KEEP_ALIVE = 15.0  # seconds that an idle connection is kept
PORTS = {"http": 80, "https": 443}
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})  # RFC 9110, section 9.2.2
SENDING = "apflow.sending"  # the extension of a request that holds its `Sending`


@dataclass
class Sending:
    """What the sender of a request permits, and what the transport reports: an extension of a request."""

    is_once: bool = False  # never send a request again of which a byte was written, whatever its method
    bytes_written: int = 0  # of all requests that share this object; 0: the server has received nothing


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests over connections to judged addresses. For one event loop; close it with `aclose()`.

    A connection that was made under one policy is never used under another.

    Args:
        policy: what may be connected to; the one that is set at the moment of a request, if None.
        verify: whose certificates are trusted: True the system's CAs, a path those in that file, False any;
            or a TLS context that says so.
        connections: how many are in use at once, over all hosts.
    """

    def __init__(
        self,
        policy: NetPolicy | None = None,
        *,
        verify: Verify | ssl.SSLContext = True,
        connections: int = CONNECTIONS,
    ) -> None:
        self._policy = policy
        self._context = verify if isinstance(verify, ssl.SSLContext) else ssl_context(verify)
        self._places = asyncio.Semaphore(connections)
        self._idle = IdleConnections(KEPT)
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the answer, whose body is read from its stream.

        Raises:
            AddressRefusedError, HostNotFoundError, SecretHostRefusedError: see `apflow.core.net.connect`.
            httpx.TransportError: no answer came.
        """
        await self._places.acquire()
        try:
            return await self._send(request)
        except BaseException:
            self._places.release()
            raise

    async def aclose(self) -> None:
        """Close idle connections now, and those in use when they become idle."""
        self._is_closed = True
        await self._idle.close()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        url, policy = request.url, self._policy or net_policy()
        check_host(url.host, url.port or PORTS.get(url.scheme))  # a kept connection resolves nothing
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        wanted = policy, target.scheme, target.host, target.origin.port
        kept = await self._idle.take(wanted)
        connection = kept or _Connection(target.origin, self._context, policy)
        try:
            try:
                response = await connection.send(request, target)
            except (httpcore.NetworkError, httpcore.RemoteProtocolError):
                if kept is None or not _may_repeat(request, connection):
                    raise
                await connection.aclose()
                connection = _Connection(target.origin, self._context, policy)
                response = await connection.send(request, target)
        except BaseException as error:
            await connection.aclose()
            if isinstance(error, _ERRORS):
                raise _as_httpx(error, request) from error
            raise
        body = _Body(response.stream, request, partial(self._release, wanted, connection))
        more = cast("Any", response).extensions
        return httpx.Response(response.status, headers=response.headers, stream=body, extensions=more)

    async def _release(self, wanted: tuple[Any, ...], connection: _Connection) -> None:
        self._places.release()
        if connection.is_idle() and not self._is_closed:
            await self._idle.keep(wanted, connection)
        else:
            await connection.aclose()


def ssl_context(verify: Verify) -> ssl.SSLContext:
    """Return the TLS context for what is trusted.

    Raises:
        OSError: the file cannot be read, or holds no certificate (`ssl.SSLError`).
        ValueError: it is not a valid path.
    """
    if verify is True:
        return ssl.create_default_context()
    if verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=Path(verify).expanduser())


class _Connection(httpcore.AsyncHTTPConnection):
    """A connection that counts the bytes of its last request."""

    def __init__(self, origin: httpcore.Origin, context: ssl.SSLContext, policy: NetPolicy) -> None:
        self._backend = _GuardedBackend(policy)
        super().__init__(
            origin,
            ssl_context=context,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=self._backend,
        )
        self.bytes_written = 0  # of the last request

    async def send(self, request: httpx.Request, target: httpcore.URL) -> httpcore.Response:
        """Send a request; add the bytes that were written to its `Sending`, also where it fails."""
        before = self._backend.bytes_written
        try:
            return await self.handle_async_request(_as_httpcore(request, target))
        finally:
            self.bytes_written = self._backend.bytes_written - before
            sending = request.extensions.get(SENDING)
            if isinstance(sending, Sending):
                sending.bytes_written += self.bytes_written


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to an address that a policy permits."""

    def __init__(self, policy: NetPolicy) -> None:
        self._policy = policy
        self._stream: Stream | None = None

    @property
    def bytes_written(self) -> int:
        """Return how many bytes of requests were written to the connection."""
        return 0 if self._stream is None else self._stream.bytes_written

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        del local_address, socket_options  # httpcore passes these, but no caller sets them
        try:
            async with asyncio.timeout(timeout):
                endpoints = await resolve(host, port, self._policy)
                self._stream = await Stream.over(await connect(host, port, endpoints))
                return self._stream
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except HostUnreachableError as error:
            cause = error.__cause__
            raise httpcore.ConnectError(getattr(cause, "strerror", None) or str(cause)) from error


class _Body(httpx.AsyncByteStream):
    """The body of an answer. The connection goes back when it is closed."""

    def __init__(self, stream: Any, request: httpx.Request, release: Callable[[], Awaitable[None]]) -> None:
        self._stream, self._request, self._release = stream, request, release
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except _ERRORS as error:
            raise _as_httpx(error, self._request) from error

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._stream.aclose()
        finally:
            await self._release()


_ERRORS = (
    httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol
)  # fmt: skip


def _as_httpx(error: Exception, request: httpx.Request) -> httpx.TransportError:
    """Return the error of httpx for one of httpcore: they have the same names."""
    kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
    return kind(str(error), request=request)


def _as_httpcore(request: httpx.Request, target: httpcore.URL) -> httpcore.Request:
    return httpcore.Request(
        request.method,
        target,
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


def _may_repeat(request: httpx.Request, connection: _Connection) -> bool:
    """Return whether a request that failed on a kept connection may be sent again."""
    if not connection.bytes_written:
        return True  # httpcore reads the body only after the head was written
    sending = request.extensions.get(SENDING)
    if isinstance(sending, Sending) and sending.is_once:
        return False
    return request.method.upper() in IDEMPOTENT and isinstance(request.stream, httpx.ByteStream)


def _tells_no_headers(record: logging.LogRecord) -> bool:
    """Leave out what a server answered in its headers: it may repeat a credential."""
    return not str(record.msg).startswith("receive_response_headers.complete")


logging.getLogger("httpcore.http11").addFilter(_tells_no_headers)
