"""Operations on a server at an address."""

import asyncio
from typing import Any

import pytest
from peers.mcphttp import McpPeer
from peers.mcprunning import run, said

from apflow.core.errors import AddressRefusedError, ExecutorError
from apflow.core.settings import reset_settings
from apflow.executor.mcp import (
    McpConnectError,
    McpError,
    McpExecutor,
    McpHttpError,
    McpInputError,
    McpLostError,
    McpProtocolError,
    McpTimeoutError,
    McpTooLargeError,
)
from apflow.executor.mcp.pool import close_connections


@pytest.fixture(autouse=True)
async def closed():
    yield
    await close_connections()


def calling(peer: McpPeer, path: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    call = {"operation": "call_tool", "tool_name": "echo", "arguments": arguments or {}}
    return {"transport": "http", "url": peer.url(path), **call, **more}


@pytest.mark.parametrize("path", ["/json", "/sse", "/sessionless"])
async def test_it_calls_a_tool(peer: McpPeer, path: str):
    assert said(await run(calling(peer, path, {"a": 1}))) == '{"a": 1}'
    assert said(await run(calling(peer, path, {"a": 2}))) == '{"a": 2}'
    assert peer.methods(path).count("initialize") == 1


async def test_headers_are_sent_with_every_request(peer: McpPeer):
    await run(calling(peer, "/json?headers", headers={"Authorization": "Bearer 123", "X-Team": "a"}))
    sent = [headers for at, _, headers in peer.seen if at == "/json?headers"]
    assert len(sent) >= 3
    assert all((each["Authorization"], each["X-Team"]) == ("Bearer 123", "a") for each in sent)


async def test_tasks_with_other_headers_have_another_session(peer: McpPeer):
    for token in ("a", "b", "a"):
        await run(calling(peer, "/json?apart", headers={"Authorization": token}))
    assert peer.methods("/json?apart").count("initialize") == 2


async def test_the_session_is_ended_on_the_server(peer: McpPeer):
    await run(calling(peer, "/json?ended"))
    await close_connections()
    assert "/json?ended" in peer.deleted


async def test_progress_of_the_server_is_progress_of_the_task(peer: McpPeer):
    executor = McpExecutor()
    executor.event_queue = queue = Queue()
    await executor.execute(calling(peer, "/sse"))
    assert [(each["progress"], each["message"]) for each in queue.events] == [(0.5, "half")]


class Queue:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def put(self, event: dict[str, Any], /) -> None:
        self.events.append(event)

    def put_nowait(self, event: dict[str, Any], /) -> None:
        self.events.append(event)


async def test_cancellation_reaches_the_server(peer: McpPeer):
    running = asyncio.create_task(run(calling(peer, "/sse?cancel", {"hang": True})))
    await asyncio.to_thread(peer.until_seen, "/sse?cancel", "tools/call")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    call = next(each for at, each, _ in peer.seen if at == "/sse?cancel" and each["method"] == "tools/call")
    (cancelled,) = [
        each
        for at, each, _ in peer.seen
        if at == "/sse?cancel" and each["method"] == "notifications/cancelled"
    ]
    assert cancelled["params"]["requestId"] == call["id"]


@pytest.mark.parametrize(
    ("path", "kind", "fault"),
    [
        ("/unauthorized", McpHttpError, "HTTP 401 Unauthorized, .*invalid_token.* Check the credentials"),
        ("/moved", McpError, "[Rr]edirect"),
        ("/refused", McpError, "no more sessions"),
        ("/die", McpError, "."),
        ("/cut", McpLostError, "the server closed the response before it was complete"),
        ("/garbage", McpProtocolError, "a message cannot be read"),
        ("/html", McpError, "[Cc]ontent.type"),
        ("/broken", McpHttpError, "HTTP 500 Internal Server Error, 'Traceback ...'"),
        ("/gzip", McpProtocolError, "the content encoding 'gzip', which was not accepted"),
        ("/huge", McpTooLargeError, "a message of more than"),
        ("/flood", McpTooLargeError, "It floods the connection"),
    ],
)
async def test_a_server_that_misbehaves_fails_the_task_at_once(
    peer: McpPeer, path: str, kind: type[ExecutorError], fault: str
):
    with pytest.raises(kind, match=fault) as caught:
        await run(calling(peer, path, timeout=120))
    assert not isinstance(caught.value, McpTimeoutError)


async def test_a_server_that_hangs_is_left_when_the_time_is_over(peer: McpPeer):
    with pytest.raises(McpTimeoutError, match=r"call_tool on http://127.0.0.1:\d+/hang took over 0.5 s"):
        await run(calling(peer, "/hang", timeout=0.5))


async def test_a_session_that_the_server_has_forgotten_is_replaced(peer: McpPeer):
    assert said(await run(calling(peer, "/forgetful", {"a": 1}))) == '{"a": 1}'
    peer.sessions.clear()
    assert said(await run(calling(peer, "/forgetful", {"a": 2}))) == '{"a": 2}'


async def test_a_refused_method_names_the_code(peer: McpPeer):
    inputs = calling(peer, "/refused")
    with pytest.raises(ExecutorError, match="-32000"):
        await run(inputs)


async def test_the_network_policy_decides(peer: McpPeer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    reset_settings()
    with pytest.raises(AddressRefusedError):
        await run(calling(peer, "/json?policy"))
    assert peer.methods("/json?policy") == []


async def test_an_address_where_nothing_listens_is_an_error():
    inputs = {"transport": "http", "operation": "list_tools", "url": "http://127.0.0.1:9/mcp"}
    with pytest.raises(McpConnectError, match="Connect call failed"):
        await run(inputs)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"url": "ftp://a/"}, "must begin with http"),
        ({"url": "http://me:secret@a/"}, "holds a user name or password"),
        ({"url": "http://a/#b"}, "holds a fragment"),
        ({"url": "http://a b/"}, "holds a space"),
        ({"headers": {"Mcp-Session-Id": "1"}}, "is set by the protocol itself"),
        ({"headers": {"a b": "1"}}, "holds a name that no header can have"),
        ({"headers": {"A": "b\nc"}}, "holds a line break"),
        ({"command": "ls"}, "cannot be used with the transport http"),
        ({"verify": "/no/such/file"}, "holds no certificates"),
    ],
)
async def test_inputs_that_cannot_be_used_are_refused(peer: McpPeer, changed: dict[str, Any], fault: str):
    with pytest.raises(McpInputError, match=fault) as caught:
        await run(calling(peer, "/json?inputs") | changed)
    assert "secret" not in str(caught.value)
    assert peer.methods("/json?inputs") == []
