"""What the tasks of a tree do with a server."""

from typing import Any

import pytest
from peers.mcphttp import McpPeer
from peers.mcprunning import Program

from apflow.core.errors import SecretHostRefusedError
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.model.log import LogQuery
from apflow.core.permissions.origin import Origin, working_for
from apflow.core.permissions.secret_policy import Permission
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor
from apflow.executor.mcp import McpExecutor
from apflow.executor.mcp.pool import close_connections

TOKEN = "a-token-that-is-secret"


async def run(*tasks: dict[str, Any]) -> dict[str, Any]:
    async with MemoryStore() as store:
        return dict(await TaskExecutor().execute_tasks(list(tasks), db_session=store))


async def test_a_failure_of_a_tool_fails_the_task(program: Program):
    done = await run({"name": "mcp_executor", "inputs": program.calling("fail")})
    assert (done["status"], done["result"]["error_type"]) == ("failed", "McpToolError")
    assert "the disk is full" in done["error"]


async def test_the_tasks_of_a_tree_share_one_program(program: Program):
    tasks = [
        {"id": f"t{number}", "name": "mcp_executor", "parent_id": "root", "inputs": program.calling("pid")}
        for number in range(20)
    ]
    done = await run({"id": "root", "name": "root"}, *tasks)
    assert done["status"] == "completed"
    assert len(program.pids) == 1


async def test_a_secret_reaches_the_server_and_nothing_else(
    program: Program, peer: McpPeer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("APFLOW_SECRET_PEER", TOKEN)
    inputs = program.calling("echo", {"token": {"$secret": "PEER"}})
    done = await run({"name": "mcp_executor", "inputs": inputs})
    assert done["status"] == "completed"
    assert TOKEN not in str(done)
    assert TOKEN in str(program.messages)
    inputs = {
        "transport": "http",
        "operation": "call_tool",
        "tool_name": "echo",
        "url": peer.url("/json?secret"),
        "headers": {"Authorization": {"$secret": "PEER"}},
        "arguments": {"token": {"$secret": "PEER"}},
    }
    done = await run({"name": "mcp_executor", "inputs": inputs})
    assert done["status"] == "completed"
    assert TOKEN not in str(done)
    assert TOKEN in str([headers for at, _, headers in peer.seen if at == "/json?secret"])
    assert TOKEN not in caplog.text


async def test_the_result_of_another_task_never_says_what_is_started(program: Program):
    @executor_register(executor_id="test_hostile")
    class Hostile(BaseTask):
        async def execute(self, inputs: dict[str, Any]) -> Any:
            return program.calling("echo")

    try:
        done = await run(
            {"id": "talk", "name": "mcp_executor", "dependencies": ["read"]},
            {"id": "read", "name": "test_hostile", "parent_id": "talk"},
        )
    finally:
        get_registry().unregister("test_hostile")
    assert done["result"]["error_type"] == "ValidationError"
    assert program.pids == []


async def test_the_log_of_the_server_is_in_the_log_of_the_task(program: Program):
    async with MemoryStore() as store:
        task = {"id": "t", "name": "mcp_executor", "inputs": program.calling("log")}
        await TaskExecutor().execute_tasks([task], db_session=store)
        entries = [each.entry for each in await store.logs(LogQuery(root_task_id="t"))]
    lines = {each.message: each.source for each in entries}
    assert {"disk almost full", "a line on stderr"} <= set(lines)
    assert lines["a line on stderr"] == "stderr"


async def test_a_secret_that_is_granted_for_hosts_reaches_only_these(program: Program, peer: McpPeer):
    origin = Origin(None, "mcp_executor", permissions={"KEY": Permission(("127.0.0.1",))})
    inputs = {
        "transport": "http",
        "operation": "call_tool",
        "tool_name": "echo",
        "url": peer.url("/json?host"),
    }
    await McpExecutor().execute(inputs)
    with working_for(origin):
        await McpExecutor().execute(inputs)
        elsewhere = inputs | {"url": inputs["url"].replace("127.0.0.1", "localhost")}
        with pytest.raises(SecretHostRefusedError, match="'localhost'"):
            await McpExecutor().execute(elsewhere)
        with pytest.raises(SecretHostRefusedError, match="a program"):
            await McpExecutor().execute(program.calling("echo"))
    assert program.pids == []
    await close_connections()
