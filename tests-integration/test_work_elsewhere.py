"""Work that another system does for a task outlives the process here: it is followed, and not begun again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from peers.a2aagent import BINDINGS, VERSIONS, a2a_agent
from peers.apflowserver import ApflowServer, apflow_server, wait_for
from peers.mcphttp import McpPeer, mcp_peer

ENVIRONMENT = {
    "APFLOW_LEASE_SECONDS": "1", "APFLOW_SHUTDOWN_TIMEOUT": "0.5", "APFLOW_RATE_LIMIT": "1000000",
}  # fmt: skip


def call(server: ApflowServer, method: str, **params: Any) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = httpx.post(f"{server.url}/tasks", json=request, timeout=30).json()
    return answer["result"]


@contextmanager
def server_in(folder: Path) -> Iterator[ApflowServer]:
    folder.mkdir()
    with apflow_server(folder, is_durable=True, environment=ENVIRONMENT) as server:
        yield server


def until_saved(server: ApflowServer) -> None:
    """Wait for progress of the task, which reports it after it has saved the ID of the work."""
    with httpx.stream("GET", f"{server.url}/tasks/t/events", timeout=60) as stream:
        assert "event: progress" in stream.iter_lines()


def restart(server: ApflowServer, how: str) -> None:
    until_saved(server)
    if how == "killed":
        server.kill()
    else:
        assert server.end() == 0
    server.start()


def ended(server: ApflowServer) -> dict[str, Any]:
    wait_for(lambda: call(server, "tasks.get", task_id="t")["status"] in ("completed", "failed"), 60)
    task: dict[str, Any] = call(server, "tasks.get", task_id="t")
    return task


@pytest.mark.parametrize(
    ("binding", "version", "how"),
    [("JSONRPC", "1.0", "killed"), ("HTTP+JSON", "1.0", "killed"), ("GRPC", "0.3", "terminated")],
)
def test_the_task_of_an_agent_is_followed_by_the_next_process(
    binding: str, version: str, how: str, tmp_path: Path
):
    with a2a_agent([binding], version) as agent, server_in(tmp_path / "here") as server:
        inputs = {"agent": agent.url, "message": "hold", "poll_interval": 0.05}
        call(server, "tasks.execute", tasks=[{"id": "t", "name": "a2a_executor", "inputs": inputs}])
        restart(server, how)
        assert len(agent.working) == 1
        agent.release.set()
        task = ended(server)
        assert task["status"] == "completed", task["error"]
        assert task["result"]["text"] == "released"
        assert len(agent.messages) == 1
        assert agent.cancelled == []


# Each transport of each version has its own error for a task that the agent does not know.
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("binding", BINDINGS)
def test_an_agent_that_has_lost_its_task_gets_the_message_again(binding: str, version: str, tmp_path: Path):
    with server_in(tmp_path / "here") as server:
        with a2a_agent([binding], version) as agent:
            ports = (agent.port, agent.grpc_port)
            inputs = {"agent": agent.url, "message": "hold", "poll_interval": 0.05}
            call(server, "tasks.execute", tasks=[{"id": "t", "name": "a2a_executor", "inputs": inputs}])
            until_saved(server)
            [first] = agent.messages
            server.kill()
        with a2a_agent([binding], version, ports=ports) as agent:
            agent.release.set()
            server.start()
            assert ended(server)["status"] == "completed"
            assert [each.message_id for each in agent.messages] == [first.message_id]


WORKING = {"status": "working", "statusMessage": "half of it"}
DONE = {"status": "completed", "result": {"content": [{"type": "text", "text": "done"}]}}


def calling(peer: McpPeer) -> dict[str, Any]:
    call = {"operation": "call_tool", "tool_name": "slow", "arguments": {"states": [WORKING]}}
    inputs = {"transport": "http", "url": peer.url("/tasks"), "timeout": 600, **call}
    return {"id": "t", "name": "mcp_executor", "inputs": inputs}


@pytest.mark.skipif(find_spec("mcp_types") is None, reason="takes mcp 2")
@pytest.mark.parametrize("how", ["killed", "terminated"])
def test_the_task_of_an_mcp_server_is_followed_by_the_next_process(how: str, tmp_path: Path):
    with mcp_peer() as peer, server_in(tmp_path / "here") as server:
        call(server, "tasks.execute", tasks=[calling(peer)])
        restart(server, how)
        peer.tasks["t-1"] = [DONE]
        task = ended(server)
        assert task["status"] == "completed", task["error"]
        assert task["result"]["result"]["content"] == DONE["result"]["content"]
        assert peer.methods("/tasks").count("tools/call") == 1
        assert "tasks/cancel" not in peer.methods("/tasks")


@pytest.mark.skipif(find_spec("mcp_types") is None, reason="takes mcp 2")
def test_an_mcp_server_that_has_lost_its_task_is_called_again(tmp_path: Path):
    with mcp_peer() as peer, server_in(tmp_path / "here") as server:
        call(server, "tasks.execute", tasks=[calling(peer)])
        until_saved(server)
        server.kill()
        peer.tasks.clear()
        server.start()
        wait_for(lambda: peer.methods("/tasks").count("tools/call") == 2)
        peer.tasks["t-1"] = [DONE]
        assert ended(server)["status"] == "completed"
