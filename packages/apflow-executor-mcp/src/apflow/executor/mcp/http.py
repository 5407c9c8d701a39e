"""The transport to a server at an address: through the network policy, with bounds, reporting each failure.

Line 1 of the `mcp` library leaves a request without an answer when a response cannot be read, or ends too
early. Therefore each failure of a request is recorded here, where the requests are sent.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final, cast

import httpx

from apflow.core.errors import ApflowError
from apflow.core.permissions.file_policy import read_certificates
from apflow.executor.mcp.errors import (
    UNAVAILABLE_STATUSES,
    McpConnectError,
    McpError,
    McpHttpError,
    McpInputError,
    McpLostError,
    McpProtocolError,
    McpSessionEndedError,
)
from apflow.executor.mcp.link import MAX_MESSAGE_BYTES, Link
from apflow.executor.mcp.oauth import AccessToken
from apflow.executor.mcp.request import HttpTarget
from apflow.executor.mcp.sdk import Streams, http_streams
from apflow.http import GuardedTransport, ssl_context

SHOWN_BODY: Final = 300  # characters of an error response
MAX_ERROR_BYTES: Final = 1 << 16  # read of an error response
CANCEL_SECONDS: Final = 1.0  # for the server to accept that requests were cancelled
POLL_INTERVAL_SECONDS: Final = 0.02
KINDS: Final = ("application/json", "text/event-stream")
CREDENTIAL_STATUSES: Final = (401, 403, 407)
PROBE: Final = "server/discover"  # a refusal means that the server needs a handshake
SESSION_ID: Final = "mcp-session-id"


@asynccontextmanager
async def open_http(target: HttpTarget, link: Link) -> AsyncGenerator[Streams]:
    """Yield the streams of a connection to an address.

    Raises:
        McpInputError: `verify` names no certificates.
        FileRefusedError: the file policy does not permit that file.
    """
    guarded = GuardedTransport(verify=await _trust(target.verify))
    transport = _Reporting(guarded, link, target)
    try:
        async with http_streams(target.url, dict(target.headers), transport, is_sse=target.is_sse) as streams:
            try:
                yield streams
            finally:
                await _until_cancelled(link)
    finally:
        await guarded.aclose()


async def _trust(verify: bool | str) -> bool | ssl.SSLContext:
    if verify is True:
        return await asyncio.to_thread(_system_context)
    if verify is False:
        return verify
    try:
        certificates = await read_certificates(verify)
        return await asyncio.to_thread(ssl.create_default_context, cadata=certificates)
    except (OSError, ValueError) as error:
        raise McpInputError("verify", f"names {verify!r}, which holds no certificates: {error}") from error


@cache
def _system_context() -> ssl.SSLContext:
    """Return the context that trusts the CAs of this system. Reading them takes a while."""
    return ssl_context(True)


async def _until_cancelled(link: Link) -> None:
    """Wait until the server has accepted that abandoned requests are cancelled, within a limit."""
    for _ in range(int(CANCEL_SECONDS / POLL_INTERVAL_SECONDS)):
        if link.cancellations_sent >= link.abandoned:
            return
        await asyncio.sleep(POLL_INTERVAL_SECONDS)


class _Reporting(httpx.AsyncBaseTransport):
    """Sends requests, and ends the connection when one of them fails."""

    def __init__(self, transport: GuardedTransport, link: Link, target: HttpTarget) -> None:
        self._transport, self._link, self._target = transport, link, target
        credentials = target.credentials
        self._token = None if credentials is None else AccessToken(credentials, target.url, transport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the response, whose body is bounded."""
        number, method = _message_of(request)
        needs_response = number is not None or (self._target.is_sse and request.method == "GET")
        if needs_response and self._link.failure is not None:  # the library continues after a failed probe
            raise httpx.ConnectError(str(self._link.failure))
        try:
            response = await self._authorized(request)
        except (httpx.HTTPError, ApflowError, OSError) as error:
            if needs_response:
                self._link.fail(_connect_error(self._link.shown, error))
            raise
        is_refusable = method == PROBE and response.status_code not in UNAVAILABLE_STATUSES
        is_essential = needs_response and not is_refusable
        if method == "notifications/cancelled":
            self._link.cancellations_sent += 1
        if is_essential and not response.is_success:
            return await self._refused(request, response, number)
        # Over HTTP+SSE, the response to a request comes in the stream of events.
        fault = (
            _fault_of(response) if is_essential and not (self._target.is_sse and number is not None) else None
        )
        if fault is not None:
            self._link.fail(McpProtocolError(self._link.shown, fault))
        stream = cast("httpx.AsyncByteStream", response.stream)
        response.stream = _Bounded(stream, self._link, response, is_essential=is_essential)
        return response

    async def aclose(self) -> None:
        """Do nothing: the transport is closed by its owner."""

    async def _authorized(self, request: httpx.Request) -> httpx.Response:
        """Send a request, with an access token if there are credentials; a refused one is replaced once.

        Where it is not known where tokens are issued, the refusal of a request without one leads there.
        """
        has_endpoint = self._token is not None and self._token.has_endpoint
        token = await self._token.get() if self._token is not None and has_endpoint else None
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        response = await self._transport.handle_async_request(request)
        if response.status_code == 401 and self._token is not None:
            challenge = ", ".join(response.headers.get_list("www-authenticate"))
            await response.aclose()
            fresh = await self._token.get(refused=token, challenge=challenge)
            request.headers["Authorization"] = f"Bearer {fresh}"
            response = await self._transport.handle_async_request(request)
        return response

    async def _refused(
        self, request: httpx.Request, response: httpx.Response, number: object
    ) -> httpx.Response:
        """Return a JSON-RPC error as a successful response; end the connection for any other refusal."""
        link, status = self._link, response.status_code
        body = await _beginning(response)
        await response.aclose()
        if response.has_redirect_location:
            return httpx.Response(status, headers=response.headers, request=request)
        error = _rpc_error_in(body)
        if status == 404 and SESSION_ID in request.headers:
            link.fail(McpSessionEndedError(link.shown))
        elif error is None or status in CREDENTIAL_STATUSES or number is None:
            shown = " ".join(body.decode("utf-8", "replace").split())[:SHOWN_BODY]
            link.fail(McpHttpError(link.shown, status, shown))
        else:
            return httpx.Response(200, json={"jsonrpc": "2.0", "id": number, "error": error}, request=request)
        return httpx.Response(status, request=request)


class _Bounded(httpx.AsyncByteStream):
    """The body of a response: counted, with a limit for each message, and its failure reported."""

    def __init__(
        self, stream: httpx.AsyncByteStream, link: Link, response: httpx.Response, *, is_essential: bool
    ) -> None:
        self._stream, self._link, self._is_essential = stream, link, is_essential
        self._is_event_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        self._has_id = False  # the library asks for what follows an event with an id
        self._size = 0  # of the message that is being received

    async def __aiter__(self) -> AsyncIterator[bytes]:
        how = "the server closed the response before it was complete"
        try:
            async for chunk in self._stream:
                self._take(chunk)
                yield chunk
        except httpx.HTTPError as error:
            how = str(error) or type(error).__name__
            self._report(how)
            raise
        if self._is_event_stream:  # the library closes a stream that contains the response
            self._report(how)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _take(self, chunk: bytes) -> None:
        self._link.count(len(chunk))
        self._has_id = self._has_id or b"id:" in chunk
        boundary = max(chunk.rfind(b"\n\n"), chunk.rfind(b"\r\n\r\n")) if self._is_event_stream else -1
        self._size = self._size + len(chunk) if boundary < 0 else len(chunk) - boundary
        if self._size > MAX_MESSAGE_BYTES:
            self._link.refuse_message()
        if self._link.failure is not None:
            raise httpx.ReadError(str(self._link.failure))

    def _report(self, how: str) -> None:
        if self._is_essential and not (self._is_event_stream and self._has_id):
            self._link.fail(McpLostError(self._link.shown, how))


def _fault_of(response: httpx.Response) -> str | None:
    """Return why the response to a request cannot contain a message; None if it can."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        return f"its response has the content encoding {encoding!r}, which was not accepted"
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status_code == 202:
        return "it accepts a request (HTTP 202) without a response"
    if kind not in KINDS:
        return f"its response has the content type {kind!r}, not JSON or an event stream"
    return None


def _message_of(request: httpx.Request) -> tuple[object, str]:
    """Return the id and the method of the message in a request; the id is None unless it needs a response."""
    if request.method != "POST":
        return None, ""
    try:
        message: Any = json.loads(request.content)
    except (ValueError, httpx.RequestNotRead):
        return None, ""
    if not isinstance(message, dict):
        return None, ""
    found = cast("dict[str, Any]", message)
    method = found.get("method")
    return (None, "") if method is None else (found.get("id"), str(method))


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in cast("httpx.AsyncByteStream", response.stream):
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    return body


def _rpc_error_in(body: bytes) -> dict[str, Any] | None:
    try:
        message: Any = json.loads(body)
    except ValueError:
        return None
    error = cast("dict[str, Any]", message).get("error") if isinstance(message, dict) else None
    return cast("dict[str, Any]", error) if isinstance(error, dict) and "code" in error else None


def _connect_error(where: str, error: Exception) -> McpError | ApflowError:
    if isinstance(error, ApflowError):
        return error
    return McpConnectError(where, (str(error) or type(error).__name__).rstrip("."))
