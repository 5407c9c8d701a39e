"""A TCP connection on asyncio, with or without TLS, as a network stream of httpcore.

The stream of httpcore 1.0.9 cannot wrap a socket that is already connected. anyio can (4.10 and newer), but
its `TLSStream.wrap` (4.16) leaves the connection open when it is cancelled during the handshake, and so does
httpcore's `start_tls` on top of it; https://github.com/encode/httpcore/pull/443 describes the leak.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import struct
from typing import Any, cast

import httpcore

BUFFER_BYTES = 1 << 18  # bytes that are received before they are read
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: drop what is not sent yet


class Stream(httpcore.AsyncNetworkStream):
    """A connection. It is used by one request at a time."""

    def __init__(self, transport: asyncio.Transport, wire: Wire) -> None:
        self._transport = self._plain = transport
        self._wire = wire
        self.bytes_written = 0  # by requests, before TLS

    @classmethod
    async def over(cls, sock: socket.socket) -> Stream:
        """Return the stream over a connected socket, which is the stream's from now on."""
        try:
            transport, wire = await asyncio.get_running_loop().create_connection(Wire, sock=sock)
        except BaseException:
            sock.close()
            raise
        return cls(transport, wire)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has been received, at least a byte; nothing where the peer has ended."""
        try:
            async with asyncio.timeout(timeout):
                return await self._wire.take(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(_text(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send, and wait while too much has not been sent yet."""
        if not buffer:
            return
        try:
            async with asyncio.timeout(timeout):
                self._wire.check()
                self.bytes_written += len(buffer)  # from here on the peer may receive it
                self._transport.write(buffer)
                await self._wire.has_room.wait()
                self._wire.check()
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(_text(error)) from error

    async def aclose(self) -> None:
        """Close the connection immediately, without waiting for the peer."""
        if self._plain.get_write_buffer_size() and not self._wire.is_lost:
            # A peer that does not read would not see the end of the stream behind unread data.
            sock = self._plain.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._plain.abort()
        await asyncio.sleep(0)  # asyncio closes the socket in its next round

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Perform the TLS handshake."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                secure = await loop.start_tls(
                    self._transport, self._wire, ssl_context, server_hostname=server_hostname
                )
        except BaseException as error:
            await self.aclose()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout(str(error)) from error
            if isinstance(error, OSError):  # SSLError is one
                raise httpcore.ConnectError(_text(error)) from error
            raise
        self._transport = self._wire.transport = cast("asyncio.Transport", secure)
        return self

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore and httpx ask for."""
        match info:
            case "is_readable":
                return self._wire.has_something or _is_readable(self._plain.get_extra_info("socket"))
            case "client_addr":
                return self._transport.get_extra_info("sockname")
            case "server_addr":
                return self._transport.get_extra_info("peername")
            case _:
                return self._transport.get_extra_info(info)


class Wire(asyncio.Protocol):
    """What has been received and not been read, and whether more can be sent."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = bytearray()
        self._is_over = False
        self._is_paused = False
        self._fault: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self.is_lost = False
        self.has_room = asyncio.Event()
        self.has_room.set()

    @property
    def has_something(self) -> bool:
        """Whether there is something to read, were it the end."""
        return bool(self._received) or self._is_over

    async def take(self, most: int) -> bytes:
        """Return what has been received, up to `most` bytes; nothing at the end. Raises `OSError`."""
        if not self.has_something:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if not self._received and self._fault is not None:
            raise self._fault
        taken = bytes(self._received[:most])
        del self._received[:most]
        if self._is_paused and len(self._received) < BUFFER_BYTES and not self._is_over:
            self._is_paused = False
            self.transport.resume_reading()
        return taken

    def check(self) -> None:
        """Raise `OSError` unless the connection is there."""
        if self.is_lost:
            raise self._fault or BrokenPipeError("the peer has closed the connection")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember by what to hold the peer up."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep what was received; hold the peer up where it is much."""
        self._received += data
        if len(self._received) >= BUFFER_BYTES and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Record that the peer has closed its side. The transport then closes itself."""
        self._is_over = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone, and by what."""
        self._is_over = self.is_lost = True
        if isinstance(exc, OSError):
            self._fault = exc
        elif exc is not None:
            self._fault = OSError(str(exc))
        self.has_room.set()
        self._wake()

    def pause_writing(self) -> None:
        """Let who sends wait."""
        self.has_room.clear()

    def resume_writing(self) -> None:
        """Resume senders that wait for room in the buffer."""
        self.has_room.set()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _is_readable(sock: Any) -> bool:
    """Return whether the socket has unread data, which is usually the end of the stream."""
    if sock is None or sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _text(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
