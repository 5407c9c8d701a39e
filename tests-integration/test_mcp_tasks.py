"""The MCP executor follows the tasks of the MCP server of apflow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from peers.apflowserver import apflow_server, until, wait_for
from peers.mcprunning import is_alive, run

from apflow.executor.mcp import McpExecutor, McpTimeoutError
from apflow.executor.mcp.pool import close_connections

pytestmark = pytest.mark.skipif(find_spec("mcp_types") is None, reason="takes mcp 2")


ALLOWED = {"APFLOW_COMMAND_ALLOW": "sh", "APFLOW_MCP_TOOLS": "all"}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with apflow_server(tmp_path, environment=ALLOWED) as server:
        yield server.url


@pytest.fixture(autouse=True)
async def closed():
    yield
    await close_connections()


def calling(url: str, script: str, **more: Any) -> dict[str, Any]:
    call = {"operation": "call_tool", "tool_name": "run_command_executor"}
    arguments = {"command": ["sh", "-c", script]}
    return {"transport": "http", "url": f"{url}/mcp", **call, "arguments": arguments, **more}


async def test_a_long_call_is_followed_to_its_end(url: str):
    executor = McpExecutor()
    executor.event_queue = queue = asyncio.Queue[Any]()
    found = await executor.execute(calling(url, "sleep 1; echo done", timeout=60))
    assert found["result"]["structuredContent"]["result"]["stdout"] == "done\n"
    # Only a task says so: the progress of a call names what runs.
    assert "The run is requested." in [queue.get_nowait()["message"] for _ in range(queue.qsize())]


async def test_the_timeout_of_the_task_ends_what_the_server_runs(url: str, tmp_path: Path):
    file = tmp_path / "pid"
    with pytest.raises(McpTimeoutError):
        await run(calling(url, f"echo $$ > {file}; exec sleep 300", timeout=8))
    await asyncio.to_thread(wait_for, lambda: not is_alive(int(file.read_text())), 30)


@pytest.mark.faults
async def test_a_call_is_followed_across_the_death_of_the_server(tmp_path: Path):
    runs, released = tmp_path / "runs", tmp_path / "released"
    script = f"echo x >> {runs}; while [ ! -e {released} ]; do sleep 0.05; done; echo done"
    with apflow_server(tmp_path, is_durable=True, environment=ALLOWED) as server:
        following = asyncio.ensure_future(run(calling(server.url, script, timeout=120)))
        await until(runs.exists)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        released.touch()
        found = await following
    assert found["structuredContent"]["result"]["stdout"] == "done\n"
    assert runs.read_text() == "x\nx\n"  # the server has continued the run; the tool was not called again
