"""A web server on loopback that behaves well or badly, as the path says; plain and with TLS.

It runs in a separate thread with its own event loop, so that tests of any kind can use it:

```python
with http_peer() as peer:
    get(peer.url("/echo"))
```
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import ssl
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

TOKEN = "let-me-in-5f2c81"
BOMB = 1 << 30  # bytes that a bomb unpacks to


@dataclass
class HttpPeer:
    """Where the peer listens, and what it has seen."""

    port: int = 0
    other_port: int = 0  # the same, of another origin
    tls_port: int = 0
    mute_port: int = 0  # accepts connections and never says a word
    garbage_port: int = 0  # answers with data that is not HTTP
    ca_file: Path = Path()
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    seen: Counter[str] = field(default_factory=Counter[str])  # requests so far, by path
    connections: set[int] = field(default_factory=set[int])  # ports that requests came from
    waiting: Counter[str] = field(default_factory=Counter[str])  # requests that are being answered, by path

    def url(self, path: str, *, tls: bool = False, host: str = "localhost", other: bool = False) -> str:
        """Return the URL of a behaviour: `/echo`, `/status/503`, ..."""
        scheme, port = ("https", self.tls_port) if tls else ("http", self.other_port if other else self.port)
        return f"{scheme}://{host}:{port}{path}"

    def until(self, claim: Callable[[], bool], seconds: float = 30.0) -> float:
        """Wait until a claim about the peer is true; return the seconds that it took."""
        begun = time.monotonic()
        while not claim():
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"not within {seconds} s; waiting: {dict(self.waiting)}")
            time.sleep(0.005)
        return time.monotonic() - begun


@contextmanager
def http_peer() -> Generator[HttpPeer]:
    """Run the server in a thread, and stop it with all its connections."""
    with tempfile.TemporaryDirectory(prefix="apflow-http-") as folder:
        running = _Running(Path(folder))
        thread = threading.Thread(target=running.run, name="http peer", daemon=True)
        thread.start()
        running.is_ready.wait(20)
        try:
            yield running.peer
        finally:
            running.stop()
            thread.join(20)


class _Running:
    def __init__(self, folder: Path) -> None:
        self.peer = HttpPeer()
        self.is_ready = threading.Event()
        authority = trustme.CA()
        self.peer.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.peer.ca_file)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(self._tls)
        self._end: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        asyncio.run(self._serve())

    def stop(self) -> None:
        if self._loop is not None and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        peer, runner = (
            self.peer,
            web.AppRunner(_app(self.peer), handler_cancellation=True, access_log=None, shutdown_timeout=0.1),
        )
        await runner.setup()
        sites = [
            web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context) for context in (None, None, self._tls)
        ]
        for site in sites:
            await site.start()
        peer.port, peer.other_port, peer.tls_port = (_port(site._server) for site in sites)
        raw = [
            await asyncio.start_server(_says(said, self._end), "127.0.0.1", 0)
            for said in (b"", b"SSH-2.0-none\r\n\r\n")
        ]
        peer.mute_port, peer.garbage_port = map(_port, raw)
        self.is_ready.set()
        await self._end.wait()
        for server in raw:
            server.close()
        await runner.cleanup()


def _port(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])


def _says(text: bytes, end: asyncio.Event) -> Callable[..., Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        with suppress(OSError):
            while not end.is_set() and (not text or not writer.is_closing()) and await reader.read(1 << 16):
                if text:
                    break
        writer.transport.abort()

    return serve


def _app(peer: HttpPeer) -> web.Application:
    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        peer.seen[request.path] += 1
        if request.transport is not None:
            peer.connections.add(request.transport.get_extra_info("peername")[1])
        peer.requests.append(
            {"path": request.path, "method": request.method, "headers": dict(request.headers)}
        )
        peer.waiting[request.path] += 1
        try:
            return await handler(request)  # type: ignore[no-any-return]
        finally:
            peer.waiting[request.path] -= 1

    app = web.Application(middlewares=[note], client_max_size=1 << 24)
    for path, behaviour in {
        "/echo": _echo, "/status/{code}": _status, "/hang": _hang, "/drip": _drip, "/die": _die, "/big": _big,
        "/endless": _endless, "/bomb/{kind}": _bomb, "/packed/{kind}": _packed, "/redirect": _redirect,
        "/loop": _loop, "/auth": _auth, "/basic": _basic, "/apikey": _apikey, "/cookie": _cookie,
        "/no-json": _no_json, "/say": _say, "/latin": _latin, "/bytes": _bytes, "/empty": _empty,
    }.items():  # fmt: skip
        app.router.add_route("*", path, behaviour)
    flaky = _Flaky(peer)
    app.router.add_route("*", "/flaky", flaky.answer)
    return app


class _Flaky:
    """Answers `times` requests of a `key` with a status, and then well."""

    def __init__(self, peer: HttpPeer) -> None:
        self._peer = peer
        self._counts: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        key, times = request.query["key"], int(request.query.get("times", "1"))
        self._counts[key] += 1
        if self._counts[key] > times:
            return web.json_response({"calls": self._counts[key]})
        if request.query.get("how") == "drop":
            assert request.transport is not None
            request.transport.abort()
            raise web.HTTPInternalServerError
        headers = {}
        after = request.query.get("after")
        if after == "date":
            headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
        elif after is not None:
            headers["Retry-After"] = after
        return web.Response(status=int(request.query.get("status", "503")), headers=headers)


async def _echo(request: web.Request) -> web.StreamResponse:
    kind = request.content_type
    is_form = kind in ("multipart/form-data", "application/x-www-form-urlencoded")
    content = b"" if is_form else await request.read()
    seen: dict[str, Any] = {
        "method": request.method,
        "query": [[name, value] for name, value in request.query.items()],
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "body": base64.b64encode(content).decode(),
    }
    if kind == "application/json" and content:
        seen["json"] = json.loads(content)
    elif is_form:
        form = await request.post()
        seen["form"] = [
            [name, value if isinstance(value, str) else
             {"filename": value.filename, "type": value.content_type, "content": value.file.read().decode()}]
            for name, value in form.items()
        ]  # fmt: skip
    return web.json_response(seen)


async def _status(request: web.Request) -> web.StreamResponse:
    return web.Response(status=int(request.match_info["code"]), text=request.query.get("say", "as you wish"))


async def _hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise web.HTTPOk


async def _drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b".")
        await asyncio.sleep(0.05)


async def _die(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"the beginning of")
    assert request.transport is not None
    request.transport.abort()
    return response


async def _big(request: web.Request) -> web.StreamResponse:
    return web.Response(text="x" * int(request.query["size"]))


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(1 << 16))


async def _bomb(request: web.Request) -> web.StreamResponse:
    kind = request.match_info["kind"]
    packed = zlib.compressobj(9, wbits=31 if kind != "deflate" else 15)
    response = web.StreamResponse(headers={"Content-Encoding": "gzip, gzip" if kind == "twice" else kind})
    outer = zlib.compressobj(9, wbits=31) if kind == "twice" else None
    await response.prepare(request)
    block = bytes(1 << 20)
    for _ in range(BOMB >> 20):
        part = packed.compress(block)
        if outer and part:  # sent at once: packed twice, nearly all of it would be held back
            part = outer.compress(part) + outer.flush(zlib.Z_SYNC_FLUSH)
        await response.write(part)
    last = packed.flush()
    await response.write(outer.compress(last) + outer.flush() if outer else last)
    return response


async def _packed(request: web.Request) -> web.StreamResponse:
    kind, text = request.match_info["kind"], b'{"packed": true}'
    raw = zlib.compressobj(wbits=-15)
    content = {
        "gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "raw-deflate": raw.compress(text) + raw.flush(),
        "br": text,
        "broken": b"this is not packed",
    }[kind]
    named = {"raw-deflate": "deflate", "broken": "gzip"}.get(kind, kind)
    return web.Response(body=content, headers={"Content-Encoding": named}, content_type="application/json")


async def _redirect(request: web.Request) -> web.StreamResponse:
    return web.Response(
        status=int(request.query.get("status", "302")),
        headers={"Location": request.query["to"], "Set-Cookie": "hop=one; Path=/"},
    )


async def _loop(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "/loop"})


async def _auth(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Authorization") != f"Bearer {TOKEN}":
        return web.json_response({"said": request.headers.get("Authorization")}, status=401)
    return web.json_response({"ok": True})


async def _basic(request: web.Request) -> web.StreamResponse:
    wanted = base64.b64encode(f"ann:{TOKEN}".encode()).decode()
    is_right = request.headers.get("Authorization") == f"Basic {wanted}"
    return web.json_response({"ok": is_right}, status=200 if is_right else 401)


async def _apikey(request: web.Request) -> web.StreamResponse:
    given = request.headers.get("X-API-Key") or request.query.get("key")
    return web.json_response({"ok": given == TOKEN}, status=200 if given == TOKEN else 403)


async def _cookie(request: web.Request) -> web.StreamResponse:
    response = web.json_response({"cookies": dict(request.cookies)})
    response.set_cookie("session", "of-somebody")
    return response


async def _no_json(_: web.Request) -> web.StreamResponse:
    return web.Response(text="{not json", content_type="application/json")


async def _say(request: web.Request) -> web.StreamResponse:
    """Answer with the bytes, the type and the encoding that the query names."""
    named = {"type": "Content-Type", "encoding": "Content-Encoding"}
    headers = {header: request.query[name] for name, header in named.items() if name in request.query}
    return web.Response(body=await request.read(), headers=headers)


async def _latin(_: web.Request) -> web.StreamResponse:
    return web.Response(
        body="grün".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"}
    )


async def _bytes(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\x00\xff\xfe", content_type="image/png")


async def _empty(_: web.Request) -> web.StreamResponse:
    return web.Response(status=204)
