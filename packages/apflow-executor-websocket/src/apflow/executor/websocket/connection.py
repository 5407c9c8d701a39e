"""Opening a connection through the guard, and closing it in bounded time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from socket import socket
from typing import Any, Final
from urllib.parse import urljoin

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State
from websockets.typing import Subprotocol

from apflow.core.net.connect import open_socket
from apflow.executor.websocket.address import Address, read_address
from apflow.executor.websocket.errors import (
    WebSocketError,
    WebSocketHandshakeError,
    WebSocketInputError,
    WebSocketRedirectedError,
    WebSocketRefusedError,
    WebSocketTlsError,
    WebSocketUnauthorizedError,
)
from apflow.executor.websocket.request import WebSocketRequest
from apflow.executor.websocket.tls import tls_context

CLOSE_SECONDS: Final = 1.0  # for the closing handshake
MAX_FRAGMENTS: Final = 4096  # of one message
MAX_PINGS: Final = 4096  # to a peer that does not read the answers
WAITING_FRAMES: Final = 1  # from here on reading pauses

# The library logs every header and message, credentials included: to a logger that no configuration reaches.
SILENCE: Final = logging.Logger("silence", logging.CRITICAL + 1)  # noqa: LOG001


class Connection(ClientConnection):
    """A connection that ends soon once it has to, also where the peer keeps it open.

    websockets 17.4 waits without a limit for the peer to close, after a close frame or a breach of the
    protocol has come in; its `close_timeout` applies only to the sending side. It also queues answers to
    the pings of a peer that does not read; earlier ones, any number of small fragments of a message.
    """

    _ending: asyncio.TimerHandle | None = None
    _fragments = 0
    _pings = 0  # since the peer has last read all that was written

    def process_event(self, event: Event) -> None:
        """Take a frame, unless it is one too many."""
        if isinstance(event, Frame):
            if event.opcode in DATA_OPCODES:
                self._fragments = self._fragments + 1 if event.opcode is Opcode.CONT else 1
            elif event.opcode is Opcode.PING:
                self._pings = self._pings + 1 if self.transport.get_write_buffer_size() else 0
            if self._fragments > MAX_FRAGMENTS or self._pings > MAX_PINGS:
                self._refuse("too many fragments" if self._fragments > MAX_FRAGMENTS else "too many pings")
                return
        super().process_event(event)

    def _refuse(self, reason: str) -> None:
        if self.state is State.OPEN:
            self.protocol.fail(CloseCode.POLICY_VIOLATION, reason)
            self.send_data()

    def data_received(self, data: bytes) -> None:
        """Take what the peer says."""
        super().data_received(data)
        if self._ending is None and self.protocol.close_expected():
            self._ending = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the end of the connection."""
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)


async def open_connection(request: WebSocketRequest) -> ClientConnection:
    """Return an open connection. The caller sets the time limit, and closes it with `close_connection`.

    Raises:
        AddressRefusedError, HostNotFoundError, HostUnreachableError: see `apflow.core.net.connect`.
        WebSocketInputError: `verify` names no certificates.
        WebSocketTlsError: the certificate is not trusted, or there is no TLS.
        WebSocketHandshakeError: the server refuses, or does not speak WebSocket.
    """
    address = request.address
    tls: dict[str, Any] = {}
    if address.is_secure:
        tls = {"ssl": await tls_context(request.verify), "server_hostname": address.host.rstrip(".")}
    sock = await open_socket(address.host, address.port)
    # From here on the socket belongs to the library, which closes it whatever happens.
    opening = connect(
        address.uri,
        sock=sock,  # with it, no proxy is used and no redirect followed
        proxy=None,
        subprotocols=[Subprotocol(each) for each in request.subprotocols] or None,
        additional_headers=dict(request.headers),
        compression=None,  # its limit is per message: many small ones can unpack to gigabytes
        open_timeout=None,
        ping_interval=request.ping_interval,
        ping_timeout=request.ping_interval,
        close_timeout=CLOSE_SECONDS,
        max_size=request.max_size,
        max_queue=WAITING_FRAMES,
        logger=SILENCE,
        create_connection=Connection,
        **tls,
    )
    try:
        connection = await opening
    except BaseException as error:
        await _until_closed(sock)
        if isinstance(error, (InvalidHandshake, InvalidURI, ConnectionClosed, OSError, ValueError)):
            raise _fault_of(error, address) from error
        raise
    if request.subprotocols and connection.subprotocol is None:
        await close_connection(connection)
        raise WebSocketHandshakeError(address.shown, "the server speaks none of `subprotocols`")
    return connection


async def close_connection(connection: ClientConnection) -> None:
    """Close a connection: with the closing handshake if the peer takes part at once, else without."""
    try:
        if connection.state is not State.CLOSED:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    # What still comes in is read, or the peer's close frame would not be reached.
                    await asyncio.gather(connection.close(), drop_messages(connection))
    finally:
        connection.transport.abort()
    await connection.wait_closed()


async def drop_messages(connection: ClientConnection) -> None:
    """Read and drop what comes in, to the end of the connection."""
    with suppress(ConnectionClosed):
        while True:
            await connection.recv(decode=False)
            await asyncio.sleep(0)  # a peer that never pauses leaves others their turn


async def _until_closed(sock: socket) -> None:
    """Wait for asyncio to close the socket of a transport that was aborted: a round or two of the loop."""
    for _ in range(10):
        if sock.fileno() == -1:
            return
        await asyncio.sleep(0)


def _fault_of(error: Exception, address: Address) -> WebSocketError:
    """Return our error for one of opening a connection."""
    response = _response_in(error)
    if response is not None:
        return _refusal(response, address)
    if isinstance(error, ssl.SSLCertVerificationError):
        return WebSocketTlsError(address.shown, error.verify_message, is_untrusted=True)
    if address.is_secure and isinstance(error, OSError):
        cause = error.strerror or str(error) or "the connection was lost"
        return WebSocketTlsError(address.shown, cause, is_untrusted=False)
    if isinstance(error, (OSError, ConnectionClosed)) or isinstance(error.__cause__, EOFError):
        return WebSocketHandshakeError(address.shown, "the connection was lost during the handshake")
    return WebSocketHandshakeError(
        address.shown, f"the response is not from a WebSocket server: {str(error)[:200]}"
    )


def _response_in(error: Exception) -> Response | None:
    """Return the refusal that an error stands for. A redirect that is not followed hides it."""
    for each in (error, error.__cause__, error.__context__):
        if isinstance(each, InvalidStatus):
            return each.response
    return None


def _refusal(response: Response, address: Address) -> WebSocketRefusedError:
    status = response.status_code
    if 300 <= status < 400:
        return WebSocketRedirectedError(address.shown, status, detail=_direction(response, address))
    kind = WebSocketUnauthorizedError if status in (401, 403, 407) else WebSocketRefusedError
    return kind(address.shown, status)


def _direction(response: Response, address: Address) -> str:
    """Return where a redirect points, as far as that may be shown."""
    location = response.headers.get_all("Location")
    if len(location) != 1:
        return ""
    try:
        return f" and points to {read_address(urljoin(address.uri, location[0])).shown}"
    except (WebSocketInputError, ValueError):
        return ""
