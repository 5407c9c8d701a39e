"""Operations on servers that others wrote: all transports, all operations, progress, cancellation."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.mcprunning import run, said
from peers.mcpservers import McpServers, mcp_servers

from apflow.executor.mcp import McpError, McpExecutor, McpTimeoutError, McpToolError
from apflow.executor.mcp.pool import close_connections

EVERYTHING = ("stdio", "http", "sse")


@pytest.fixture(scope="module")
def servers() -> McpServers:
    return mcp_servers()


@pytest.fixture(autouse=True)
async def closed(servers: McpServers, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "*")
    yield
    await close_connections()


@pytest.fixture(scope="module")
def addresses(servers: McpServers) -> Iterator[dict[str, str]]:
    with servers.everything("streamableHttp") as http, servers.everything("sse") as sse:
        yield {"http": http, "sse": sse}


@pytest.fixture(params=EVERYTHING)
def everything(request: pytest.FixtureRequest, servers: McpServers) -> dict[str, Any]:
    """Give the inputs that name server-everything, on each transport."""
    transport = request.param
    if transport == "stdio":
        return {"transport": transport, "command": servers.npm("server-everything"), "timeout": 60}
    addresses: dict[str, str] = request.getfixturevalue("addresses")
    return {"transport": transport, "url": addresses[transport], "timeout": 60}


def tool(server: dict[str, Any], name: str, **arguments: Any) -> dict[str, Any]:
    return {**server, "operation": "call_tool", "tool_name": name, "arguments": arguments}


async def test_all_operations_of_server_everything(everything: dict[str, Any]):
    tools = (await run({**everything, "operation": "list_tools"}))["tools"]
    assert {"echo", "get-sum", "get-structured-content"} <= {each["name"] for each in tools}
    assert all(each["inputSchema"]["type"] == "object" for each in tools)
    assert said(await run(tool(everything, "echo", message="ä\n"))) == "Echo: ä\n"
    assert "42" in said(await run(tool(everything, "get-sum", a=40, b=2)))
    structured = await run(tool(everything, "get-structured-content", location="New York"))
    assert set(structured["structuredContent"]) == {"temperature", "conditions", "humidity"}
    image = await run(tool(everything, "get-tiny-image"))
    assert any(each["type"] == "image" and each["mimeType"] == "image/png" for each in image["content"])

    found = await run({**everything, "operation": "list_resources"})
    assert found["resources"]
    assert found["resourceTemplates"]
    uri = found["resources"][0]["uri"]
    contents = (await run({**everything, "operation": "read_resource", "resource_uri": uri}))["contents"]
    assert (contents[0]["uri"], bool(contents[0]["text"])) == (uri, True)

    prompts = (await run({**everything, "operation": "list_prompts"}))["prompts"]
    assert {"simple-prompt", "args-prompt"} <= {each["name"] for each in prompts}
    prompt = {"operation": "get_prompt", "prompt_name": "args-prompt", "arguments": {"city": "Berlin"}}
    (message,) = (await run({**everything, **prompt}))["messages"]
    assert "Berlin" in message["content"]["text"]


async def test_errors_of_server_everything(everything: dict[str, Any]):
    with pytest.raises(McpError, match="get-sum"):
        await run(tool(everything, "get-sum", a="x"))
    with pytest.raises(McpError, match="no-such-tool"):
        await run(tool(everything, "no-such-tool"))
    with pytest.raises(McpError):
        await run({**everything, "operation": "read_resource", "resource_uri": "demo://no/such/resource"})
    assert "3" in said(await run(tool(everything, "get-sum", a=1, b=2)))  # the connection is still good


async def test_progress_of_server_everything(everything: dict[str, Any]):
    executor = McpExecutor()
    executor.event_queue = queue = Queue()
    await executor.execute(tool(everything, "trigger-long-running-operation", duration=1, steps=4))
    assert [each["progress"] for each in queue.events] == [0.25, 0.5, 0.75, 1.0]


class Queue:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def put(self, event: dict[str, Any], /) -> None:
        self.events.append(event)

    def put_nowait(self, event: dict[str, Any], /) -> None:
        self.events.append(event)


async def test_a_call_of_server_everything_is_cancelled(everything: dict[str, Any]):
    long = tool(everything, "trigger-long-running-operation", duration=300, steps=3000)
    with pytest.raises(McpTimeoutError):
        await run({**long, "timeout": 5})
    assert "3" in said(await run(tool(everything, "get-sum", a=1, b=2)))


async def test_calls_at_once_do_not_mix(everything: dict[str, Any]):
    calls = (run(tool(everything, "echo", message=str(number))) for number in range(50))
    assert [said(each) for each in await asyncio.gather(*calls)] == [
        f"Echo: {number}" for number in range(50)
    ]


async def test_server_filesystem(servers: McpServers, tmp_path: Path):
    server = {
        "transport": "stdio",
        "command": [*servers.npm("server-filesystem"), str(tmp_path)],
        "timeout": 60,
    }
    file = tmp_path / "report.txt"
    await run(tool(server, "write_file", path=str(file), content="a line\n"))
    assert file.read_text() == "a line\n"
    assert said(await run(tool(server, "read_text_file", path=str(file)))) == "a line\n"
    with pytest.raises(McpToolError, match="outside allowed directories"):
        await run(tool(server, "read_text_file", path="/etc/passwd"))


async def test_server_memory_keeps_what_tasks_of_a_tree_tell_it(servers: McpServers, tmp_path: Path):
    env = {"MEMORY_FILE_PATH": str(tmp_path / "memory.jsonl")}
    server = {"transport": "stdio", "command": servers.npm("server-memory"), "env": env, "timeout": 60}
    entity = {"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]}
    await run(tool(server, "create_entities", entities=[entity]))
    graph = json.loads((await run(tool(server, "read_graph")))["content"][0]["text"])
    assert graph["entities"] == [entity]


async def test_mcp_server_time(servers: McpServers):
    server = {"transport": "stdio", "command": servers.pypi("mcp-server-time"), "timeout": 60}
    converted = await run(
        tool(
            server,
            "convert_time",
            source_timezone="Europe/Berlin",
            time="12:00",
            target_timezone="Asia/Kolkata",
        )
    )
    assert json.loads(said(converted))["time_difference"] in ("+3.5h", "+4.5h")
    with pytest.raises(McpToolError, match=r"[Tt]imezone"):
        await run(tool(server, "get_current_time", timezone="Nowhere/Nothing"))


async def test_mcp_server_git(servers: McpServers, tmp_path: Path):
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "the first one")
    server = {"transport": "stdio", "command": servers.pypi("mcp-server-git"), "timeout": 60}
    assert "the first one" in said(await run(tool(server, "git_log", repo_path=str(tmp_path))))
    with pytest.raises(McpToolError):
        await run(tool(server, "git_log", repo_path=str(tmp_path / "none")))
