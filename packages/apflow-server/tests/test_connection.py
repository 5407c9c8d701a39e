"""Idle connections are closed; slow ones are not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from serving import Served, serving, wait_for
from trees import Steps, steps, tree
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from apflow.core.service.task_service import TaskService
from apflow.server.http import connection
from apflow.server.streaming import event_stream, websocket

HEAD = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server that looks at its connections ten times a second."""
    monkeypatch.setattr(connection, "POLL_INTERVAL_SECONDS", 0.1)
    with steps(), serving() as found:
        yield found


def test_the_protocol_classes_of_uvicorn_have_the_members_that_are_extended():
    """A new release of uvicorn may move them; the limits would then be lost without an error."""
    for protocol in (H11Protocol, WebSocketsSansIOProtocol):
        for name in ("connection_made", "connection_lost", "pause_writing", "resume_writing"):
            assert callable(getattr(protocol, name))
    names = set(H11Protocol.__init__.__code__.co_names) | set(vars(H11Protocol))
    assert {"handle_websocket_upgrade", "timeout_keep_alive_task", "cycle"} <= names


@asynccontextmanager
async def connected(served: Served) -> AsyncGenerator[Connection]:
    """A connection that takes little unless it is read."""
    host, port = served.url.removeprefix("http://").split(":")
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, condition)


def request(method: str, **params: Any) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("said", [b"", b"GET /hea", HEAD, HEAD + b"X: "], ids=repr)
async def test_who_does_not_finish_the_head_of_a_request_is_left(served: Served, said: bytes):
    async with connected(served) as (reader, writer):
        writer.write(said)
        assert await reader.read() == b""


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(served: Served):
    async with connected(served) as (reader, writer):
        reading = asyncio.create_task(reader.read())
        while not reading.done():
            writer.write(b"G")
            await asyncio.wait([reading], timeout=0.02)
        assert reading.exception() is not None or reading.result() == b""


async def test_after_an_answer_the_next_head_is_not_waited_for_either(served: Served):
    async with connected(served) as (reader, writer):
        writer.write(request("tasks.count"))
        await reader.readuntil(b"}}}")
        writer.write(HEAD)
        assert await reader.read() == b""


async def test_what_follows_a_refused_head_without_end_is_not_read_for_ever(served: Served):
    async with connected(served) as (reader, writer):
        writer.write(HEAD.replace(b"json", b"xml") + b"Content-Length: 1000000000\r\n\r\n")
        reading = asyncio.create_task(reader.read())
        while not reading.done():
            writer.write(b"x")
            await asyncio.wait([reading], timeout=0.02)
        assert reading.exception() is not None or b"415" in reading.result()


async def test_a_request_that_takes_long_and_one_that_follows_late_are_answered(served: Served):
    async with connected(served) as (reader, writer):
        writer.write(request("tasks.execute", tasks=tree("r", 2, waits=True), wait=True))
        await asyncio.sleep(0.5)  # several looks
        Steps.go_on.set()
        assert b"completed" in await reader.readuntil(b'"r.0"}}}')
        await asyncio.sleep(0.5)
        writer.write(request("tasks.count"))
        assert b"HTTP/1.1 200 OK" in await reader.readuntil(b"}}}")


async def large_answer(served: Served) -> bytes:
    """Return a request for more than the system would take on its way."""
    await TaskService(served.db).create([{"id": "large", "name": "x" * 12_000_000}])
    return request("tasks.get", id="large")


async def test_who_takes_nothing_of_an_answer_is_left(served: Served):
    asked = await large_answer(served)
    async with connected(served) as (_, writer):
        writer.write(asked)
        await until(lambda: open_connections(served) == 1)
        await until(lambda: open_connections(served) == 0)


async def test_who_takes_an_answer_slowly_gets_all_of_it(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "LEAST", 1)
    asked = await large_answer(served)
    async with connected(served) as (reader, writer):
        writer.write(asked)
        taken = 0
        while taken < 12_000_000:
            taken += len(await reader.read(200_000))
            await asyncio.sleep(0.01)  # in all it takes more than MAX_SLOW_CHECKS checks


async def test_a_websocket_that_takes_nothing_leaves_nothing_behind(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(websocket, "SEND_TIMEOUT", 0.3)
    await with_large_results(served)
    async with connected(served) as (reader, writer):
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        said = json.dumps({"action": "watch", "task_id": "r", "after": 0}).encode()
        writer.write(b"\x81" + bytes([0x80 | len(said)]) + b"\0\0\0\0" + said)  # the mask changes nothing
        await until(lambda: served.app.state.streams.open["websocket"] == 1)
        await until(lambda: served.app.state.streams.open["websocket"] == 0)
        await until(lambda: open_connections(served) == 0)


async def test_a_stream_that_takes_nothing_leaves_no_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(event_stream, "SEND_TIMEOUT", 0.3)
    await with_large_results(served)
    async with connected(served) as (_, writer):
        writer.write(b"GET /tasks/r/events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: served.app.state.streams.open["sse"] == 1)
        await until(lambda: open_connections(served) == 0)


async def with_large_results(served: Served) -> None:
    """Have a tree whose events are more than the system would take on their way."""
    tasks = tree("r", 300)
    for each in tasks[1:]:
        each["inputs"] = {"n": "x" * 50_000}
    await TaskService(served.db, is_served=True).submit(tasks)


def open_connections(served: Served) -> int:
    return len(served.server.server_state.connections)
