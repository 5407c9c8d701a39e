"""A server behind nginx, under a sub-path: JSON, event streams, WebSockets, the client and commands."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from peers.nginx import nginx_before, program
from peers.ports import free_socket, port_of
from reading import client_of, follow, read
from serving import serve_process

from apflow.client import Client
from apflow.core.model.task import Json

MODULE = '''
import asyncio
from pathlib import Path

from apflow.core import BaseTask, executor_register


@executor_register()
class Gate(BaseTask):
    """Waits until a file exists."""

    id = "gate"

    async def execute(self, inputs):
        while not Path(inputs.get("file", ".")).exists():
            await asyncio.sleep(0.01)
        return {"size": len(inputs.get("text", ""))}
'''


@dataclass
class Site:
    """A server, and its URL behind nginx."""

    url: str
    folder: Path

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `apflow` with the URL in the settings."""
        return subprocess.run(
            [sys.executable, "-m", "apflow.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, "APFLOW_API_URL": self.url},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    program()
    folder = tmp_path_factory.mktemp("site")
    (folder / "gates.py").write_text(textwrap.dedent(MODULE))
    with free_socket() as reserved:
        port = port_of(reserved)
        public = {"APFLOW_PUBLIC_URL": f"http://127.0.0.1:{port}/apflow", "PYTHONPATH": str(folder)}
        with (
            serve_process(folder, "--import", "gates", environment=public) as server,
            nginx_before(folder, server.url, port) as url,
        ):
            yield Site(url, folder)


def gate(task_id: str, **inputs: Json) -> list[dict[str, Json]]:
    return [{"id": task_id, "name": "gate", "inputs": inputs}]


async def call(url: str, method: str, **params: Json) -> Any:
    async with client_of(url) as client:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await client.post("/tasks", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


async def test_json_requests_and_the_description_of_the_server(site: Site):
    done = await call(site.url, "tasks.execute", tasks=gate("json"), wait=True)
    assert done["status"] == "completed"
    async with client_of(site.url) as client:
        found = (await client.post("/call/tasks.get", json={"id": "json"})).json()
        assert found["status"] == "completed"
        assert (await client.post("/call/tasks.get", json={"id": "none"})).status_code == 404
        assert (await client.get("/openapi.json")).json()["servers"] == [{"url": site.url}]
        assert (await client.get("/docs")).status_code == 200
        assert (await client.get("/health")).status_code == 200
        moved = await client.get(site.url)
    assert (moved.status_code, httpx.URL(moved.headers["location"]).path) == (308, "/apflow/")


async def test_a_large_request_passes_and_a_too_large_one_gets_413(site: Site):
    text = "x" * 900_000
    done = await call(site.url, "tasks.execute", tasks=gate("large", text=text), wait=True)
    assert done["result"] == {"size": 900_000}
    async with client_of(site.url) as client:
        answer = await client.post("/call/tasks.create", json={"tasks": gate("huge", text="x" * (17 << 20))})
    assert answer.status_code == 413


async def test_events_are_forwarded_while_the_tree_runs(site: Site):
    go = site.folder / "go-sse"
    await call(site.url, "tasks.execute", tasks=gate("sse", file=str(go)))
    types: list[str] = []
    async with asyncio.timeout(60), client_of(site.url) as client:
        async with client.stream("GET", "/tasks/sse/events", params={"after": 0}) as response:
            async for event in read(response.aiter_lines()):
                types += [event["event"]] if "event" in event else []
                if event.get("event") == "task_started":
                    go.touch()  # the task ends only because this event has arrived
        last = await follow(client, "sse", params={"after": 0})
    assert types[-1] == "tree_completed"
    assert [each["event"] for each in last] == [each for each in types if each not in ("progress", "log")]


async def test_a_web_socket_follows_a_tree(site: Site):
    go = site.folder / "go-ws"
    await call(site.url, "tasks.execute", tasks=gate("ws", file=str(go)))
    types: list[str] = []
    url = site.url.replace("http://", "ws://") + "/ws"
    async with asyncio.timeout(60), websockets.connect(url, proxy=None) as socket:
        await socket.send(json.dumps({"action": "watch", "task_id": "ws", "after": 0}))
        while "ended" not in types:
            types.append(json.loads(await socket.recv())["type"])
            if types[-1] == "task_started":
                go.touch()
    assert types[0] == "watching"
    assert types[-2:] == ["tree_completed", "ended"]


async def test_the_client_runs_and_watches_a_tree(site: Site):
    async with Client(site.url) as client:
        done = await client.call("tasks.execute", {"tasks": gate("client"), "wait": True})
        assert done["status"] == "completed"
        types = [event["type"] async for event in client.events("client", 0)]
    assert types[-1] == "tree_completed"


def test_commands_run_list_and_watch_trees(site: Site):
    ran = site.command("run", "flow", "--tasks", json.dumps(gate("command")), "--watch", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["status"] == "completed"
    assert "task_completed" in ran.stderr
    listed = site.command("tasks", "list", "--json")
    assert '"command"' in listed.stdout, listed.stderr
    missing = site.command("tasks", "get", "none")
    assert missing.returncode == 3
