"""A model server for tests: it speaks the protocols of OpenAI and Anthropic, and answers as a script says.

```python
from apflow.testing.modelserver import Reply, model_server

with model_server() as server:
    server.script.append(Reply(text="Paris"))
    ...  # a program that uses server.openai_url or server.anthropic_url
    assert server.requests[0].body["messages"][-1]["content"] == "Capital of France?"
```

It runs in a thread with its own event loop, on a free port of the loopback interface.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from apflow.testing.modelwire import ANTHROPIC, OPENAI, Reply, ToolCall, stream, whole

__all__ = ["ModelRequest", "ModelServer", "Reply", "ToolCall", "model_server"]

Json = Any

WAIT_SECONDS = 20.0  # that `until` waits


@dataclass(frozen=True)
class ModelRequest:
    """A request that the server has received."""

    wire: str  # "openai" or "anthropic"
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: dict[str, Json]
    at: float  # time.monotonic() of its arrival

    @property
    def api_key(self) -> str | None:
        """The key that the client sent."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        return self.headers.get("x-api-key") or bearer or None


class ModelServer:
    """A running model server.

    Attributes:
        script: the next answers, first one first. Each request takes one.
        default: the answer when the script is empty: a `Reply`, or a function of the request.
        requests: what was received, in order.
        answering: the number of requests whose answer has not ended; a stream counts until its connection
            is closed or its last event is sent.
    """

    def __init__(self) -> None:
        self.script: deque[Reply] = deque()
        self.default: Reply | Callable[[ModelRequest], Reply] = Reply()
        self.requests: list[ModelRequest] = []
        self.answering = 0
        self.port = 0
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """The address of the server, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """The base URL for clients of OpenAI's protocol."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The base URL for clients of Anthropic's protocol."""
        return self.url

    def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until a condition holds; raise `TimeoutError` after 20 seconds."""
        end = time.monotonic() + WAIT_SECONDS
        while not is_true():
            if time.monotonic() > end:
                raise TimeoutError("The condition did not become true in time.")
            time.sleep(0.01)

    def reset(self) -> None:
        """Forget the script and the requests."""
        self.script.clear()
        self.requests.clear()
        self.default = Reply()

    def _reply_to(self, request: ModelRequest) -> Reply:
        self.requests.append(request)
        if self.script:
            return self.script.popleft()
        return self.default if isinstance(self.default, Reply) else self.default(request)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        serving = cast("asyncio.Task[Any]", asyncio.current_task())
        self._open[serving] = writer
        serving.add_done_callback(self._open.pop)
        with suppress(OSError, asyncio.IncompleteReadError):
            while (request := await _read(reader)) is not None:
                reply = self._reply_to(request)
                self.answering += 1
                try:
                    is_kept = await _answer(request, reply, reader, writer)
                finally:
                    self.answering -= 1
                if not is_kept:
                    break
        writer.transport.abort()

    async def close_connections(self) -> None:
        """Close the connections that clients keep, and wait until the code that serves them has ended."""
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait(list(self._open))


@contextmanager
def model_server() -> Generator[ModelServer]:
    """Run a model server."""
    server, started = ModelServer(), threading.Event()
    stop: list[Callable[[], object]] = []

    async def run() -> None:
        loop, is_over = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(is_over.set))
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        started.set()
        await is_over.wait()
        listening.close()
        await server.close_connections()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="model-server", daemon=True)
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        stop[0]()
        thread.join()


async def _read(reader: asyncio.StreamReader) -> ModelRequest | None:
    """Read a request; return None where the client has closed the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    path = first.split(" ")[1]
    wire = ANTHROPIC if path.partition("?")[0].endswith("/messages") else OPENAI
    return ModelRequest(wire, path, headers, json.loads(body or b"{}"), time.monotonic())


async def _answer(
    request: ModelRequest, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Send a reply; return whether the connection is kept."""
    if reply.first_after and await _is_closed(reader, reply.first_after):
        return False
    model = str(request.body.get("model", ""))
    is_stream = bool(request.body.get("stream")) and reply.status < 400 and reply.body is None
    if not is_stream:
        if reply.cut_after is not None:
            return False
        if reply.hang_after is not None:
            await _is_closed(reader, None)
            return False
        body = json.dumps(whole(request.wire, reply, model)).encode() if reply.body is None else reply.body
        writer.write(_head(reply, "application/json", f"Content-Length: {len(body)}") + body)
        await writer.drain()
        return True
    options: dict[str, Json] = request.body.get("stream_options") or {}
    with_usage = bool(options.get("include_usage"))
    writer.write(_head(reply, "text/event-stream", "Transfer-Encoding: chunked"))
    return await _send(stream(request.wire, reply, model, with_usage=with_usage), reply, reader, writer)


async def _send(
    events: Iterator[bytes], reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Send the events of a stream; return whether the connection is kept."""
    for sent, event in enumerate(events):
        if reply.cut_after is not None and sent > reply.cut_after:
            return False
        if reply.hang_after is not None and sent > reply.hang_after:
            await _is_closed(reader, None)
            return False
        writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        await writer.drain()
        if reply.between and await _is_closed(reader, reply.between):
            return False
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _is_closed(reader: asyncio.StreamReader, seconds: float | None) -> bool:
    """Wait; return early, with True, if the client closes the connection."""
    try:
        async with asyncio.timeout(seconds):
            return not await reader.read(1)
    except TimeoutError:
        return False


def _head(reply: Reply, content_type: str, length: str) -> bytes:
    extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    head = f"HTTP/1.1 {reply.status} Status\r\nContent-Type: {content_type}\r\n{length}\r\n{extra}\r\n"
    return head.encode("latin-1")
