"""Clients that lose their connection and continue with `Last-Event-ID` (streamable HTTP, with sessions)."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from mcp.types import JSONRPCNotification
from serving import Served, serving, wait_for
from test_mcp import Waiter, waiter
from test_mcp_endpoint import ACCEPT, INITIALIZE

from apflow.core.settings import Settings
from apflow.server.mcp.events import OVERHEAD_BYTES, Bounds, SessionEvents

assert waiter  # a fixture
REVISION = {"Mcp-Protocol-Version": "2025-11-25"}


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Settings(mcp_tools=("all",), rate_limit=1_000_000)) as found:
        yield found


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers=ACCEPT, timeout=30) as found:
        yield found


def session(client: httpx.Client) -> dict[str, str]:
    """Begin a session; return the headers of its requests."""
    initialize = INITIALIZE | {"params": INITIALIZE["params"] | {"protocolVersion": "2025-11-25"}}
    answer = client.post("/mcp", json=initialize)
    headers = REVISION | {"Mcp-Session-Id": answer.headers["mcp-session-id"]}
    client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
    return headers


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a stream: the ID, and the message, which the first one does not have."""
    event_id = ""
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif name.rstrip(":") == "data":
            yield event_id, json.loads(value) if value.strip() else {}


def lost_call(client: httpx.Client, headers: dict[str, str], waiter: type[Waiter]) -> str:
    """Call a tool and lose the connection after the first event; return its ID."""
    call = {"name": "run_mcp_waiter", "arguments": {"waits": True, "n": 5}}
    request = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call}
    with client.stream("POST", "/mcp", json=request, headers=headers) as answer:
        event_id, _ = next(events(answer))
        assert waiter.has_started.wait(20)
    return event_id


def test_a_client_that_connects_again_gets_the_result(client: httpx.Client, waiter: type[Waiter]):
    headers = session(client)
    event_id = lost_call(client, headers, waiter)
    waiter.released.set()
    wait_for(lambda: client.post("/call/tasks.list", json={}).json()[0]["status"] == "completed")
    with client.stream("GET", "/mcp", headers=headers | {"Last-Event-ID": event_id}) as answer:
        found = next(message for _, message in events(answer) if "id" in message)
    assert found["id"] == 7
    assert found["result"]["structuredContent"]["result"]["n"] == 5


def test_a_client_that_connects_before_the_result_waits_for_it(client: httpx.Client, waiter: type[Waiter]):
    headers = session(client)
    event_id = lost_call(client, headers, waiter)
    with client.stream("GET", "/mcp", headers=headers | {"Last-Event-ID": event_id}) as answer:
        waiting = events(answer)
        next(waiting)  # the stream is connected to the call again
        waiter.released.set()
        found = next(message for _, message in waiting if "id" in message)
    assert found["result"]["structuredContent"]["result"]["n"] == 5


def test_another_session_gets_nothing_of_it(client: httpx.Client, waiter: type[Waiter]):
    event_id = lost_call(client, session(client), waiter)
    waiter.released.set()
    wait_for(lambda: client.post("/call/tasks.list", json={}).json()[0]["status"] == "completed")
    with client.stream("GET", "/mcp", headers=session(client) | {"Last-Event-ID": event_id}) as answer:
        assert answer.read() == b""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def message(text: str) -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method="x", params={"text": text})


def bounds(clock: Clock | None = None, **limits: Any) -> Bounds:
    return Bounds(lambda found, event_id: found.params["text"], lambda _: False, clock or Clock(), **limits)


async def replayed(session: SessionEvents, event_id: str) -> list[str]:
    found: list[str] = []

    async def note(each: str) -> None:
        found.append(each)

    await session.replay_events_after(event_id, note)
    return found


async def test_events_are_replayed_in_order_and_of_one_stream():
    session = bounds().new_session()
    first = await session.store_event("a\n/ä", None)
    assert first.isascii()
    assert first.isprintable()
    for number in range(3):
        await session.store_event("a\n/ä", message(f"a{number}"))
        await session.store_event("b", message(f"b{number}"))
    assert await replayed(session, first) == ["a0", "a1", "a2"]
    for unknown in ("", "x", "99-b", "-b", "1", f"{'9' * 5000}-b"):
        assert await replayed(session, unknown) == []


async def test_the_events_of_a_session_are_bounded():
    clock = Clock()
    session = bounds(clock, max_events=3, max_bytes=3000, max_seconds=10).new_session()
    first = await session.store_event("a", None)
    for number in range(5):
        await session.store_event("a", message(str(number)))
    assert await replayed(session, first) == ["2", "3", "4"]
    await session.store_event("a", message("x" * 1500))
    assert session.kept.size <= 3000
    assert len(session.kept.events) == 2
    clock.now = 11
    assert await replayed(session, first) == []


async def test_the_events_of_all_sessions_are_bounded_and_go_with_them():
    clock = Clock()
    limits = bounds(clock, max_total_bytes=10 * OVERHEAD_BYTES)
    sessions = [limits.new_session() for _ in range(4)]
    for each in sessions * 5:
        clock.now += 1
        await each.store_event("a", message("x"))
        assert limits.total_bytes <= 10 * OVERHEAD_BYTES
    kept = [len(each.kept.events) for each in sessions]
    assert max(kept) - min(kept) <= 1  # the oldest went first
    sessions.clear()
    del each
    gc.collect()
    assert limits.total_bytes == 0
