"""A WebSocket server on loopback that behaves well or badly, as the path says; plain and with TLS.

It runs in a separate thread with its own event loop, so that tests of any kind can use it:

```python
with websocket_peer() as peer:
    connect(peer.url("/echo"))
```
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import ssl
import struct
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

TOKEN = "Bearer let-me-in-5f2c"
_ESTABLISHED = 1  # of tcp(7)
# Tests that search the log must not find the log of the peer.
_SILENCE = logging.Logger("silence", logging.CRITICAL + 1)  # noqa: LOG001

Options = dict[str, str]
Behaviour = Callable[[ServerConnection, Options], Awaitable[None]]


@dataclass
class WebSocketPeer:
    """Where the peer listens, and what it has seen."""

    port: int = 0
    tls_port: int = 0
    mute_port: int = 0  # accepts connections and never says a word
    garbage_port: int = 0  # answers with data that is not HTTP
    ca_file: Path = Path()
    other_ca_file: Path = Path()  # of a CA that has signed nothing here
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])  # of each handshake
    seen: Counter[str] = field(default_factory=Counter[str])  # connections so far, by path
    open: Counter[str] = field(default_factory=Counter[str])  # connections now; "/mute", "/garbage" too

    def url(self, path: str, *, tls: bool = False, host: str = "localhost") -> str:
        """Return the URL of a behaviour: `/echo`, `/several?count=3`, ..."""
        scheme, port = ("wss", self.tls_port) if tls else ("ws", self.port)
        return f"{scheme}://{host}:{port}{path}"

    def until(self, claim: Callable[[], bool], seconds: float = 30.0) -> float:
        """Wait until a claim about the peer is true; return the seconds that it took."""
        begun = time.monotonic()
        while not claim():
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"not within {seconds} s; open: {dict(self.open)}")
            time.sleep(0.005)
        return time.monotonic() - begun

    def until_gone(self, path: str, seconds: float = 30.0) -> float:
        """Wait until no connection to a path is open."""
        return self.until(lambda: not self.open[path], seconds)


@contextmanager
def websocket_peer() -> Generator[WebSocketPeer]:
    """Run a peer, with all its ports, to the end of the block."""
    peer, is_ready = WebSocketPeer(), threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        running = _Running(peer, Path(folder), is_ready)
        thread = threading.Thread(target=lambda: asyncio.run(running.run()), name="peers.websocket")
        thread.start()
        try:
            if not is_ready.wait(20):
                raise RuntimeError("the WebSocket peer has not started")
            yield peer
        finally:
            running.stop()
            thread.join(20)


class _Running:
    def __init__(self, peer: WebSocketPeer, folder: Path, is_ready: threading.Event) -> None:
        self._peer, self._folder, self._is_ready = peer, folder, is_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None

    def stop(self) -> None:
        if self._loop is not None and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)

    async def run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            self._peer.port = await self._serve(stack, None)
            self._peer.tls_port = await self._serve(stack, self._certificate())
            self._peer.mute_port = await self._serve_raw(stack, "/mute", b"")
            self._peer.garbage_port = await self._serve_raw(stack, "/garbage", b"SSH-2.0-none\r\n")
            self._is_ready.set()
            await self._end.wait()

    def _certificate(self) -> ssl.SSLContext:
        ca, other = trustme.CA(), trustme.CA()
        self._peer.ca_file, self._peer.other_ca_file = self._folder / "ca.pem", self._folder / "other.pem"
        ca.cert_pem.write_to_path(str(self._peer.ca_file))
        other.cert_pem.write_to_path(str(self._peer.other_ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = ca.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self._folder / "server.pem"))
        context.load_cert_chain(self._folder / "server.pem")
        return context

    async def _serve(self, stack: AsyncExitStack, tls: ssl.SSLContext | None) -> int:
        server = await stack.enter_async_context(
            serve(
                self._handle,
                "127.0.0.1",
                0,
                ssl=tls,
                process_request=self._answer,
                process_response=self._amend,
                select_subprotocol=lambda _, offered: next((o for o in offered if o == "chat.v2"), None),
                logger=_SILENCE,
                close_timeout=0.5,
                max_size=1 << 26,
                backlog=512,
            )
        )
        return int(server.sockets[0].getsockname()[1])

    async def _serve_raw(self, stack: AsyncExitStack, name: str, greeting: bytes) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._peer.seen[name] += 1
            self._peer.open[name] += 1
            try:
                writer.write(greeting)
                with suppress(ConnectionError):
                    while await reader.read(4096):
                        pass
            finally:
                self._peer.open[name] -= 1
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        stack.push_async_callback(server.wait_closed)
        stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        path, options = _split(request.path)
        self._peer.headers.append(dict(request.headers.raw_items()))
        if path == "/auth" and request.headers.get("Authorization") != TOKEN:
            return connection.respond(HTTPStatus.UNAUTHORIZED, "no\n")
        if path == "/redirect":
            return Response(
                302, "Found", Headers([("Location", options["to"]), ("Content-Length", "0")]), b""
            )
        if path == "/status":
            return connection.respond(HTTPStatus(int(options["code"])), "no\n")
        if path == "/die-in-handshake":
            _reset(connection)
        return None

    def _amend(self, connection: ServerConnection, request: Request, response: Response) -> None:
        del connection
        if _split(request.path)[0] == "/claims-compression":
            response.headers["Sec-WebSocket-Extensions"] = "permessage-deflate"

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        path, options = _split(connection.request.path)
        self._peer.seen[path] += 1
        self._peer.open[path] += 1
        behaving = asyncio.ensure_future(_BEHAVIOURS[path](connection, options))
        closing = asyncio.ensure_future(connection.wait_closed())
        try:
            await asyncio.wait([behaving, closing], return_when=asyncio.FIRST_COMPLETED)
            behaving.cancel()
            with suppress(ConnectionClosed, asyncio.CancelledError):
                await behaving
            await connection.close()
        finally:
            connection.transport.abort()
            self._peer.open[path] -= 1


def _split(target: str) -> tuple[str, Options]:
    parts = urlsplit(target)
    return parts.path, dict(parse_qsl(parts.query))


def _reset(connection: ServerConnection) -> None:
    """Drop a TCP connection with a reset."""
    sock = connection.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.transport.abort()


def _raw(connection: ServerConnection, data: bytes) -> None:
    """Send bytes past the library."""
    connection.transport.write(data)


async def _freeze(connection: ServerConnection) -> None:
    """Hold the connection open and read nothing, until the other side is gone."""
    connection.transport.pause_reading()
    sock = connection.transport.get_extra_info("socket")
    while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    connection.transport.abort()


async def _echo(connection: ServerConnection, options: Options) -> None:
    async for message in connection:
        await asyncio.sleep(float(options.get("after", 0)))
        await connection.send(message)


async def _json(connection: ServerConnection, options: Options) -> None:
    """Answer with what was heard, as JSON."""
    del options
    async for message in connection:
        heard = message if isinstance(message, str) else {"base64": base64.b64encode(message).decode()}
        await connection.send(json.dumps({"heard": heard}))


async def _text(connection: ServerConnection, options: Options) -> None:
    """Answer with the text or the hexadecimal bytes that the options name."""
    await connection.recv()
    hexadecimal = options.get("hex")
    await connection.send(options["say"] if hexadecimal is None else bytes.fromhex(hexadecimal))
    await connection.wait_closed()


async def _greet(connection: ServerConnection, options: Options) -> None:
    """Say something unasked."""
    del options
    await connection.send("welcome")
    await connection.wait_closed()


async def _several(connection: ServerConnection, options: Options) -> None:
    await connection.recv()
    for number in range(int(options["count"])):
        await connection.send(json.dumps({"number": number}))
    if "close" not in options:
        await connection.wait_closed()


async def _progress(connection: ServerConnection, options: Options) -> None:
    """Report on some work, in different kinds of messages, up to the one that says that it is done."""
    await connection.recv()
    await connection.send("starting")
    for percent in range(0, 100, 100 // int(options.get("steps", 4))):
        await connection.send(json.dumps({"status": "running", "percent": percent}))
    await connection.send(json.dumps({"status": "done", "percent": 100}))
    await connection.wait_closed()


async def _silent(connection: ServerConnection, options: Options) -> None:
    del options
    async for _ in connection:
        pass


async def _frozen(connection: ServerConnection, options: Options) -> None:
    """Read one message, if any is wanted, then nothing: no pings, no close frame."""
    if "first" in options:
        await connection.send(options["first"])
    await _freeze(connection)


async def _die(connection: ServerConnection, options: Options) -> None:
    await connection.recv()
    if "say" in options:
        await connection.send(options["say"])
    _reset(connection)


async def _close(connection: ServerConnection, options: Options) -> None:
    await connection.recv()
    if "say" in options:
        await connection.send(options["say"])
    await connection.close(int(options["code"]), options.get("reason", ""))


async def _half_close(connection: ServerConnection, options: Options) -> None:
    """Say goodbye and stay."""
    del options
    await connection.recv()
    _raw(connection, b"\x88\x02\x03\xe8")
    await _freeze(connection)


async def _huge(connection: ServerConnection, options: Options) -> None:
    await connection.recv()
    await connection.send("x" * int(options["bytes"]))
    if "stay" in options:
        await _freeze(connection)
    await connection.wait_closed()


async def _flood(connection: ServerConnection, options: Options) -> None:
    """Never stop talking."""
    message = "x" * int(options.get("bytes", 100))
    while True:
        await connection.send(message)


async def _fragments(connection: ServerConnection, options: Options) -> None:
    """Send one message that never ends."""

    async def parts() -> AsyncIterator[str]:
        while True:
            yield "x" * int(options.get("bytes", 100))

    await connection.send(parts())


async def _pings(connection: ServerConnection, options: Options) -> None:
    """Send pings continuously, and read no pongs."""
    del options
    connection.transport.pause_reading()
    while not connection.transport.is_closing():
        _raw(connection, (b"\x89\x7d" + b"p" * 125) * 1000)
        while connection.transport.get_write_buffer_size() > 100_000:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def _bomb(connection: ServerConnection, options: Options) -> None:
    """Send compressed messages without negotiation."""
    del options
    pack = zlib.compressobj(wbits=-15)
    data = (pack.compress(b"\0" * 1_000_000) + pack.flush(zlib.Z_SYNC_FLUSH))[:-4]
    _raw(connection, (b"\xc2\x7e" + len(data).to_bytes(2, "big") + data) * 100)
    await connection.wait_closed()


async def _broken_text(connection: ServerConnection, options: Options) -> None:
    """Send a text frame that is not UTF-8."""
    del options
    _raw(connection, b"\x81\x02\xff\xfe")
    await connection.wait_closed()


_BEHAVIOURS: dict[str, Behaviour] = {
    "/echo": _echo,
    "/auth": _echo,
    "/subprotocol": _echo,
    "/json": _json,
    "/text": _text,
    "/greet": _greet,
    "/several": _several,
    "/progress": _progress,
    "/silent": _silent,
    "/frozen": _frozen,
    "/die": _die,
    "/close": _close,
    "/half-close": _half_close,
    "/huge": _huge,
    "/flood": _flood,
    "/fragments": _fragments,
    "/pings": _pings,
    "/bomb": _bomb,
    "/broken-text": _broken_text,
    "/claims-compression": _silent,
}
