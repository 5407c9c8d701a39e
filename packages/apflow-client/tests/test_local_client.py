"""The client of a process that holds a database, when that process is not well."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from apflow.client.local_client import LocalClient
from apflow.core.errors import HolderGoneError
from apflow.core.process.server_file import describe_this_server
from apflow.core.service.local_protocol import ACCEPTED
from apflow.core.service.local_server import GREETING

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets")


@dataclass
class StrangeHolder:
    """A socket at which a test takes the place of a holder."""

    bound: socket.socket
    client: LocalClient

    async def accept(self) -> socket.socket:
        connection, _ = await asyncio.to_thread(self.bound.accept)
        return connection

    async def wait_for_connection(self) -> None:
        """Wait until a client has connected, and do not accept the connection."""
        await asyncio.to_thread(select.select, [self.bound], [], [], 30)


@pytest.fixture
def holder() -> Iterator[StrangeHolder]:
    with tempfile.TemporaryDirectory(prefix="apflow-") as folder, socket.socket(socket.AF_UNIX) as bound:
        path = Path(folder).resolve() / "held.duckdb.sock"
        bound.bind(str(path))
        bound.listen()
        info = describe_this_server(path.with_suffix(""), socket=str(path))
        yield StrangeHolder(bound, LocalClient(info))


async def test_a_connection_that_is_reset_before_the_greeting_means_that_the_holder_is_gone(
    holder: StrangeHolder,
):
    async with asyncio.TaskGroup() as group:
        calling = group.create_task(raised(holder.client))
        await holder.wait_for_connection()
        holder.bound.close()
    assert not calling.result().was_sent


@pytest.mark.parametrize("sent", [GREETING, GREETING + ACCEPTED[:-1], GREETING + ACCEPTED])
async def test_a_request_may_have_been_executed_only_if_it_was_accepted(holder: StrangeHolder, sent: bytes):
    async with asyncio.TaskGroup() as group:
        calling = group.create_task(raised(holder.client))
        with await holder.accept() as connection:
            connection.sendall(sent)
            assert await asyncio.to_thread(connection.recv, 1)
    assert calling.result().was_sent == sent.endswith(ACCEPTED)


async def raised(client: LocalClient) -> HolderGoneError:
    with pytest.raises(HolderGoneError) as gone:
        await client.call("tasks.list")
    return gone.value


def test_a_cancelled_call_leaves_no_open_connection(holder: StrangeHolder):
    """Also if the holder has not read all of a large request."""
    tasks = [{"name": "a", "inputs": {"text": "x" * 300_000}}]

    async def cancelled() -> socket.socket:
        calling = asyncio.create_task(holder.client.call("tasks.create", {"tasks": tasks}))
        connection = await holder.accept()
        connection.sendall(GREETING)
        await asyncio.to_thread(select.select, [connection], [], [], 30)
        calling.cancel()
        await asyncio.wait({calling})
        assert calling.cancelled()
        return connection

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(cancelled()).close()
        gc.collect()
    assert [str(each.message) for each in warned] == []
