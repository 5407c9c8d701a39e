"""A2A: many clients at once, and clients that read slowly or not at all."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from a2a_clients import COMPLETED, agent, last_state, replies, tree
from serving import Served, serving
from trees import Steps, steps
from trees import tree as array_of

from apflow.core.settings import Settings

MAX_BLOCKS = 900  # of memory for one stream that has ended: its tree has 450, one that is left 1000 more


@pytest.fixture
def served() -> Iterator[Served]:
    with steps(), serving(Settings(rate_limit=1_000_000)) as found:
        Steps.go_on.set()
        yield found


@pytest.mark.parametrize(
    "clients", [40, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
async def test_many_clients_stream_at_once_and_nothing_is_left(served: Served, clients: int):
    await stream_all(served, "first", 20)
    before = allocated()
    await stream_all(served, "then", clients)
    assert (allocated() - before) / clients < MAX_BLOCKS


async def stream_all(served: Served, name: str, clients: int) -> None:
    """Have clients run trees of 10 tasks at once, each over a connection, until nothing of them is open."""
    async with agent(served.url) as client:

        async def one(number: int) -> int | None:
            return last_state(await replies(client.send_message(tree(*array_of(f"{name}.{number}", 10)))))

        async with asyncio.timeout(10 + 6 * clients):
            assert set(await asyncio.gather(*map(one, range(clients)))) == {COMPLETED}
    async with asyncio.timeout(200):
        while served.app.state.streams.open["a2a"]:
            await asyncio.sleep(0.05)


def allocated() -> int:
    """Return how many blocks of memory are allocated."""
    for _ in range(2):
        gc.collect()
    return sys.getallocatedblocks()


async def test_a_client_that_stops_reading_delays_nobody(served: Served):
    size = 400
    text = "x" * 20_000
    first = {"id": "big", "name": "group"}
    tasks = [
        {"id": f"big.{at}", "name": Steps.id, "parent_id": "big", "inputs": {"n": text}} for at in range(size)
    ]
    params = {
        "message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"data": {"tasks": [first, *tasks]}}]}
    }
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": params}
    ).encode()
    parts = urlsplit(served.url)
    with socket.create_connection((parts.hostname, parts.port)) as stuck:
        head = "POST / HTTP/1.1\r\nHost: localhost\r\nA2A-Version: 1.0\r\nContent-Type: application/json\r\n"
        stuck.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        stuck.recv(10)  # and never again
        async with agent(served.url) as client, asyncio.timeout(300):
            assert last_state(await replies(client.send_message(tree(*array_of("other", 10))))) == COMPLETED
            while (await served.db.get(["big"]))["big"].run_ended_at is None:
                await asyncio.sleep(0.05)
