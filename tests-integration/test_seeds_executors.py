"""The tasks for installed executors that the custom tasks guide prints, each run against a peer on loopback.

Each is completed by a name, and what names a place outside is replaced: `FRAMES` says how.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from peers.engine import Engine, docker_engine
from peers.ports import free_socket, port_of
from peers.seedservers import greeter
from peers.sshd import an_sshd
from peers.websocket import websocket_peer
from seedprograms import PRINTED
from serving import SECRET, bearer, serving

from apflow.core import MemoryStore, TaskCreator, TaskExecutor
from apflow.core.errors import TreeInvalidError
from apflow.core.settings import Settings, reset_settings
from apflow.executor.llm.connection import close_connections
from apflow.testing.modelserver import Reply, model_server

__all__ = ["docker_engine"]

MCP_SERVER = str(Path(__file__).parent / "peers" / "seedservers.py")


def printed(name: str) -> dict[str, Any]:
    """Return what the guide prints: JSON with comments, or a literal of Python."""
    text = (PRINTED / "custom_tasks" / "executors" / f"{name}.txt").read_text()
    return ast.literal_eval(re.sub(r"\btrue\b", "True", text))


async def run(name: str, **replaced: Any) -> dict[str, Any]:
    """Run a printed task with a name, and some of its inputs replaced."""
    task = printed(name) | {"id": "of_the_guide", "name": "Of the guide"}
    assert {each for each in replaced if each not in ("port", "known_hosts", "pull")} <= task["inputs"].keys()
    task["inputs"] = task["inputs"] | replaced
    outcome = await TaskExecutor().execute_tasks([task], db_session=MemoryStore())
    assert outcome["status"] == "completed", outcome["error"]
    return outcome["result"]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", sys.executable)
    monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.1")  # a server with tokens in this process allows none
    reset_settings()
    yield
    reset_settings()


async def test_rest(server: str):
    result = await run("rest", url=f"{server}/users")
    assert result["json"] == {"path": "/users", "asked": None}


async def test_ssh():
    with an_sshd() as sshd:
        found = {name: sshd.inputs[name] for name in ("host", "port", "username", "key_file", "known_hosts")}
        result = await run("ssh", **found)
    assert result["return_code"] == 0
    assert "total" in result["stdout"]


async def test_docker(docker_engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
    monkeypatch.setenv("APFLOW_DOCKER_VOLUME_ROOTS", str(tmp_path))
    reset_settings()
    command = printed("docker")["inputs"]["command"]
    assert command == "python -c 'print(\"Hello\")'"  # the image has a shell and no Python
    result = await run(
        "docker",
        image=docker_engine.image,
        command="sh -c 'echo Hello'",
        volumes={str(tmp_path): "/container/path"},
        pull="never",
    )
    assert (result["exit_code"], result["stdout"]) == (0, "Hello\n")


async def test_grpc():
    with greeter() as address:
        result = await run("grpc", server=address)
    assert result["response"] == {"message": "Hello World"}


async def test_websocket():
    with websocket_peer() as peer:
        result = await run("websocket", url=peer.url("/echo"))
    assert "Hello" in json.dumps(result)


async def test_apflow_api():
    with serving(Settings(jwt_secret=SECRET)) as served:
        task = {"id": "task-123", "name": "system_info_executor", "user_id": "ann"}
        await TaskCreator(served.db).create_task_tree_from_array([task])
        token = bearer("ann")["Authorization"].removeprefix("Bearer ")
        await run("apflow_api", base_url=served.url, auth_token=token)
        assert (await served.db.get(["task-123"]))["task-123"].status == "completed"


async def test_mcp_stdio():
    command = [sys.executable, "-P", MCP_SERVER, "stdio"]  # -P: modules of libraries are beside it
    listed = await run("mcp_stdio_list", command=command)
    assert [tool["name"] for tool in listed["result"]["tools"]] == ["search_web"]
    called = await run("mcp_stdio_call", command=command)
    assert "found: Python async programming" in json.dumps(called)
    read = await run("mcp_stdio_read", command=command)
    assert "the content" in json.dumps(read)


@pytest.fixture
def mcp_url(tmp_path: Path) -> Iterator[str]:
    with free_socket() as reserved, (tmp_path / "log").open("wb") as log:
        url = f"http://127.0.0.1:{port_of(reserved)}/mcp"
        command = [sys.executable, "-P", MCP_SERVER, "http", str(port_of(reserved))]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not answers(url):
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield url
        finally:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=5, trust_env=False)
    except httpx.TransportError:
        return False
    return True


async def test_mcp_http(mcp_url: str):
    listed = await run("mcp_http_list", url=mcp_url)
    assert [tool["name"] for tool in listed["result"]["tools"]] == ["search_web"]
    called = await run("mcp_http_call", url=mcp_url)
    assert "found: Python async" in json.dumps(called)


async def test_generate(monkeypatch: pytest.MonkeyPatch):
    tasks = [{"id": "all", "name": "system_info_executor"}]
    with model_server() as model:
        monkeypatch.setenv("OPENAI_API_BASE", model.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "of-tests")
        model.default = Reply(json.dumps({"tasks": tasks}))
        result = await run("generate")
        [request] = model.requests
        await close_connections()  # before the server stops
    assert result["tasks"] == [{**tasks[0], "user_id": "user123"}]
    assert (request.body["model"], request.body["temperature"], request.body["max_tokens"]) == (
        "gpt-4",
        0.7,
        4000,
    )


async def test_generate_output():
    """The array that the guide prints depends on an id that no task has: it is refused, and named."""
    answer = printed("generate_output")
    assert answer["count"] == len(answer["tasks"])
    with pytest.raises(TreeInvalidError, match="task_1"):
        await TaskCreator(MemoryStore()).create_task_tree_from_array(answer["tasks"])
    first, second = answer["tasks"]
    with_ids = [{**first, "id": "task_1"}, {**second, "id": "task_2"}]
    node = await TaskCreator(MemoryStore()).create_task_tree_from_array(with_ids)
    assert len([*node.walk()]) == 2
