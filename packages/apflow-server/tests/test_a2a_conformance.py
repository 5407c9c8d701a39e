"""The agent for the A2A compatibility kit answers its scenarios on each transport."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from a2a.types import TaskState
from a2a_clients import COMPLETED, TRANSPORTS, agent, last_state, message, replies
from a2a_conformance import SCENARIOS, make_app, settings_of
from peers.ports import free_socket, port_of
from serving import wait_for

from apflow.server.process.lifecycle import configuration


@contextmanager
def two_free_ports() -> Iterator[int]:
    """Reserve a port and the next one, and give the first."""
    while True:
        with free_socket() as first, socket.socket() as second:
            second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                second.bind(("127.0.0.1", port_of(first) + 1))
            except OSError:
                continue
            yield port_of(first)
            return


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with two_free_ports() as port:
        app = make_app(settings_of(port, has_legacy=False))
        config = configuration(app)
        config.host, config.port = "127.0.0.1", port
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="agent of the kit")
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive())
            assert server.started
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("prefix", SCENARIOS)
async def test_a_scenario_is_answered(url: str, transport: str, prefix: str):
    async with agent(url, transport=transport) as client:
        request = message(text="of the kit")
        request.message.message_id = f"{prefix}-1"
        if prefix == "tck-reject-task":
            with pytest.raises(Exception, match=r"rejected|500"):
                await replies(client.send_message(request))
            return
        found = await replies(client.send_message(request))
        if prefix == "tck-message-response":
            assert [each.WhichOneof("payload") for each in found] == ["message"]
        elif prefix == "tck-input-required":
            assert last_state(found) == TaskState.TASK_STATE_INPUT_REQUIRED
            request.message.message_id = "tck-complete-task-2"
            request.message.task_id = found[0].task.id
            assert last_state(await replies(client.send_message(request))) == COMPLETED
        else:
            assert last_state(found) == COMPLETED
