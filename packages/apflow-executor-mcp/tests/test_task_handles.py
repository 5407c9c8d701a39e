"""Calls that a server answers with a task of the extension (SEP-2663), which the executor follows."""

import asyncio
from importlib.util import find_spec
from typing import Any

import pytest
from peers.mcphttp import McpPeer
from peers.mcprunning import run, said

from apflow.executor.mcp import (
    McpExecutor,
    McpHttpError,
    McpInputRequiredError,
    McpRequestError,
    McpTimeoutError,
    McpToolError,
    resumption,
)
from apflow.executor.mcp.pool import close_connections

pytestmark = pytest.mark.skipif(find_spec("mcp_types") is None, reason="takes mcp 2")
WORKING = {"status": "working", "statusMessage": "half of it"}
CUT: dict[str, Any] = {"lost": None}  # the server closes the connection instead of a response
DONE = {"content": [{"type": "text", "text": "done"}]}
ASKS = {"name": {"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": {}}}}


@pytest.fixture(autouse=True)
async def closed(peer: McpPeer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resumption, "FIRST_DELAY_SECONDS", 0.01)
    peer.seen.clear()
    peer.tasks.clear()
    yield
    await close_connections()


def calling(peer: McpPeer, *states: dict[str, Any], **more: Any) -> dict[str, Any]:
    call = {"operation": "call_tool", "tool_name": "slow", "arguments": {"states": states}}
    return {"transport": "http", "url": peer.url("/tasks"), **call, **more}


async def test_the_result_is_in_the_last_state(peer: McpPeer):
    result = await run(calling(peer, WORKING, WORKING, {"status": "completed", "result": DONE}))
    assert said(result) == "done"
    assert peer.methods("/tasks").count("tasks/get") == 3
    assert "tasks/result" not in peer.methods("/tasks")


async def test_what_the_server_says_of_the_task_is_its_progress(peer: McpPeer):
    executor = McpExecutor()
    executor.event_queue = queue = asyncio.Queue()
    await executor.execute(calling(peer, WORKING, {"status": "completed", "result": DONE}))
    assert "half of it" in [queue.get_nowait()["message"] for _ in range(queue.qsize())]


async def test_an_error_of_the_tool_is_one_of_the_task(peer: McpPeer):
    failed = {"content": [{"type": "text", "text": "no disk"}], "isError": True}
    with pytest.raises(McpToolError, match="no disk"):
        await run(calling(peer, {"status": "completed", "result": failed}))


async def test_an_error_of_the_protocol_has_its_code(peer: McpPeer):
    with pytest.raises(McpRequestError, match="It broke") as caught:
        await run(calling(peer, {"status": "failed", "error": {"code": -32603, "message": "It broke"}}))
    assert caught.value.code == -32603


async def test_a_task_that_the_server_cancels_fails(peer: McpPeer):
    with pytest.raises(McpToolError, match="cancelled its task: by an operator"):
        await run(calling(peer, {"status": "cancelled", "statusMessage": "by an operator"}))


async def test_a_task_that_asks_is_cancelled(peer: McpPeer):
    with pytest.raises(McpInputRequiredError):
        await run(calling(peer, {"status": "input_required", "inputRequests": ASKS}))
    assert peer.methods("/tasks")[-1] == "tasks/cancel"


async def test_the_timeout_cancels_the_task(peer: McpPeer):
    with pytest.raises(McpTimeoutError):
        await run(calling(peer, WORKING, timeout=1.5))
    assert peer.methods("/tasks")[-1] == "tasks/cancel"
    assert "tasks/get" in peer.methods("/tasks")


async def test_the_server_is_asked_at_the_interval_that_it_names(peer: McpPeer):
    slow = WORKING | {"pollIntervalMs": 60_000}
    with pytest.raises(McpTimeoutError):
        await run(calling(peer, slow, timeout=1.5))
    assert peer.methods("/tasks").count("tasks/get") == 1  # after the interval of the first state


async def test_a_task_is_taken_up_again_when_the_connection_was_lost(peer: McpPeer):
    states = [WORKING, CUT, CUT, {"lost": 503}, WORKING, {"status": "completed", "result": DONE}]
    assert said(await run(calling(peer, *states))) == "done"
    assert peer.methods("/tasks").count("tools/call") == 1
    assert peer.methods("/tasks").count("server/discover") == 4  # once for each connection
    assert "initialize" not in peer.methods("/tasks")  # HTTP 503 does not mean that a handshake is needed


async def test_a_server_that_does_not_return_is_waited_for_until_the_timeout(peer: McpPeer):
    with pytest.raises(McpTimeoutError, match="connection was lost before") as caught:
        await run(calling(peer, WORKING, CUT, timeout=1.5))
    assert "/tasks" in str(caught.value)
    assert peer.methods("/tasks").count("tools/call") == 1


async def test_a_server_that_refuses_is_not_connected_to_again(peer: McpPeer):
    with pytest.raises(McpHttpError, match="403"):
        await run(calling(peer, WORKING, {"lost": 403}, {"status": "completed", "result": DONE}))


async def test_a_task_is_cancelled_over_a_new_connection_if_its_own_is_lost(peer: McpPeer):
    calling_it = asyncio.ensure_future(run(calling(peer, WORKING, CUT, WORKING, timeout=60)))
    await asyncio.to_thread(peer.until_seen, "/tasks", "tasks/get")
    while peer.tasks["t-1"] != [WORKING]:  # the connection was cut
        await asyncio.sleep(0.01)
    calling_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling_it
    assert peer.methods("/tasks")[-1] == "tasks/cancel"


async def test_a_task_is_cancelled_again_if_the_connection_is_lost_meanwhile(peer: McpPeer):
    waiting = WORKING | {"pollIntervalMs": 60_000}
    calling_it = asyncio.ensure_future(run(calling(peer, waiting, CUT, WORKING, timeout=60)))
    await asyncio.to_thread(peer.until_seen, "/tasks", "tasks/get")
    calling_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling_it
    assert peer.methods("/tasks").count("tasks/cancel") == 2  # the first request is lost
    assert peer.methods("/tasks")[-1] == "tasks/cancel"
