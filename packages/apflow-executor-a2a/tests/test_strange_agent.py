"""Agents that answer garbage, hang, or die; and cards that point elsewhere."""

from __future__ import annotations

import json
import logging
from http.server import BaseHTTPRequestHandler
from typing import Any

import google.protobuf
import pytest
from peers.a2aagent import A2aAgent, a2a_agent
from peers.strangehttp import Answer, StrangePeer, answer, die, hang, strange_peer

from apflow.core.errors import AddressRefusedError, ApflowError, HostNotFoundError
from apflow.executor.a2a import (
    A2aCardError,
    A2aError,
    A2aExecutor,
    A2aInputError,
    A2aInterfaceError,
    A2aRefusedError,
    A2aResponseError,
    A2aTimeoutError,
    A2aTooLargeError,
    A2aUnauthorizedError,
    A2aUnreachableError,
)
from apflow.executor.a2a import run as running

TASK = {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}
DONE = {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}}


def card(*, is_streaming: bool = True, version: str = "1.0", url: str | None = None) -> Answer:
    """Return what answers with a card that names the peer itself, or `url`."""

    def write(request: BaseHTTPRequestHandler) -> None:
        host, port = request.server.server_address[:2]
        interface = {
            "url": url or f"http://{host!s}:{port}/",
            "protocolBinding": "JSONRPC",
            "protocolVersion": version,
        }
        content = {
            "name": "strange",
            "supportedInterfaces": [interface],
            "capabilities": {"streaming": is_streaming},
        }
        answer(content)(request)

    return write


def result(value: Any) -> Answer:
    return answer({"jsonrpc": "2.0", "id": 1, "result": value})


def error(code: int, message: str) -> Answer:
    return answer({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}})


def stream(*events: Any, then: str = "end") -> Answer:
    """Return what answers with a stream of results; `then` it ends, is `silent`, or `dies`."""

    def write(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        if then == "dies":
            request.send_header("Content-Length", "1000000")
        request.end_headers()
        request.close_connection = True
        for event in events:
            text = (
                event if isinstance(event, str) else json.dumps({"jsonrpc": "2.0", "id": 1, "result": event})
            )
            request.wfile.write(f"data: {text}\n\n".encode())
            request.wfile.flush()
        if then == "silent":
            request.server.over.wait(20)  # type: ignore[attr-defined]

    return write


async def call(peer: StrangePeer, **inputs: Any) -> dict[str, Any]:
    given = {"agent": peer.url, "message": "hello", "timeout": 10, "poll_interval": 0.02}
    return await A2aExecutor().execute(given | inputs)


def asked(peer: StrangePeer) -> list[str]:
    return [body["method"] for _, _, body in peer.requests if body is not None]


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (answer({}, 404), "HTTP 404"),
        (answer({}, 302, Location="http://127.0.0.1:1/"), "HTTP 302"),
        (answer(b"<html>", content_type="text/html"), "not valid"),
        (answer(b"\xff\xfe"), "not valid"),
        (answer([1, 2]), "not valid"),
        (answer({"name": 3}), "not valid"),
        (answer({"supportedInterfaces": "no"}), "not valid"),
        (answer({"name": "x", "skills": [1]}), "not valid"),
        (answer({"name": "x"}), "names no interface"),
        (card(version="0.2"), "names no interface"),
        (card(version="2.0"), "names no interface"),
        (card(version="new"), "names no interface"),
        (card(url="ftp://127.0.0.1/"), "names no interface"),
        (card(url="http://me:pa55word@127.0.0.1/"), "names no interface"),
    ],
)
async def test_a_card_that_is_not_usable_is_an_error_of_its_own(found: Answer, fault: str):
    with strange_peer(found) as peer, pytest.raises(A2aCardError, match=fault) as caught:
        await call(peer)
    assert "pa55word" not in str(caught.value)
    assert len(peer.requests) == 1


async def test_a_card_cannot_send_the_message_to_another_host():
    elsewhere = card(url="http://agents.invalid:1/")
    with strange_peer(elsewhere) as peer:
        with pytest.raises(A2aInterfaceError, match=r"agents\.invalid.*trusted_hosts"):
            await call(peer, auth_token="a-token-of-the-agent")
        with pytest.raises(HostNotFoundError):
            await call(peer, trusted_hosts=["agents.invalid"])


async def test_the_names_of_this_machine_are_one_host():
    with a2a_agent(["JSONRPC"], card_host="localhost") as agent:
        done = await A2aExecutor().execute({"agent": agent.url, "message": "hello"})
    assert done["status"] == "completed"


PROTOBUF = tuple(int(part) for part in google.protobuf.__version__.split(".")[:2])


@pytest.mark.parametrize(
    "strange",
    [
        answer(b"<html>", content_type="text/html"),
        answer(b""),
        answer([1]),
        answer("text"),
        answer({"jsonrpc": "2.0", "id": 1}),
        answer({"jsonrpc": "2.0", "id": 1, "error": "no"}),
        result(None),
        result([]),
        result({}),
        result({"task": {"status": {"state": "TASK_STATE_WORKING"}}}),
        result({"task": TASK | {"status": {"state": "NEW_STATE"}, "artifacts": 3}}),
        stream(),
        stream("garbage"),
        stream([1]),
        stream({"task": TASK}, {"statusUpdate": {"taskId": "other", "contextId": "c"}}),
        stream({"task": TASK}, "[" * 100_000),
        pytest.param(
            stream({"message": {"messageId": "m", "parts": [{"data": json.loads("[" * 90 + "]" * 90)}]}}),
            marks=pytest.mark.skipif(PROTOBUF < (7, 36), reason="earlier versions carry this depth"),
        ),
        answer({"jsonrpc": "2.0"}, Content_Encoding="gzip"),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_garbage_is_an_error_of_its_own(strange: Answer, version: str):
    answers = [card(version=version), strange, error(-32001, "no such task")]
    with strange_peer(*answers) as peer, pytest.raises((A2aResponseError, A2aRefusedError)):
        await call(peer)


@pytest.mark.parametrize(
    ("answered", "kind", "said"),
    [
        (error(-32602, "no such skill"), A2aRefusedError, "no such skill"),
        (error(-32000, "strange fault"), A2aRefusedError, "strange fault"),
        (answer({}, 500), A2aRefusedError, "HTTP 500"),
        (answer({}, 307, Location="http://127.0.0.1:1/"), A2aRefusedError, "redirect"),
        (answer({}, 401), A2aUnauthorizedError, "HTTP 401"),
        (answer({}, 403), A2aUnauthorizedError, "HTTP 403"),
        (die, A2aUnreachableError, "lost"),
    ],
)
@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_refusal_says_why(answered: Answer, kind: type[A2aError], said: str, is_streaming: bool):
    answers = [card(is_streaming=is_streaming), answered]
    with strange_peer(*answers) as peer, pytest.raises(kind, match=said):
        await call(peer)


async def test_an_agent_that_hangs_is_left_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(running, "SETTLE_SECONDS", 0.1)
    for answers in ([hang], [card(), hang], [card(), stream(then="silent")]):
        with strange_peer(*answers) as peer, pytest.raises(A2aTimeoutError, match="has not answered"):
            await call(peer, timeout=0.3)
    assert "has named no task" in caplog.text


async def test_an_agent_that_does_not_answer_the_cancellation_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(running, "CANCEL_SECONDS", 0.2)
    with strange_peer(card(), stream({"task": TASK}, then="silent"), hang) as peer:
        with caplog.at_level(logging.WARNING), pytest.raises(A2aTimeoutError, match="'t' has not ended"):
            await call(peer, timeout=3)
        assert asked(peer) == ["SendStreamingMessage", "CancelTask"]
    assert "may still run" in caplog.text


async def test_a_cancellation_whose_connection_is_lost_is_requested_again(caplog: pytest.LogCaptureFixture):
    with strange_peer(card(), stream({"task": TASK}, then="silent"), die, result(DONE)) as peer:
        with caplog.at_level(logging.WARNING), pytest.raises(A2aTimeoutError, match="'t' has not ended"):
            await call(peer, timeout=1)
        assert asked(peer) == ["SendStreamingMessage", "CancelTask", "CancelTask"]
    assert "may still run" not in caplog.text


async def test_an_agent_that_is_gone_is_not_asked_to_cancel_for_long(caplog: pytest.LogCaptureFixture):
    with strange_peer(card(), stream({"task": TASK}, then="silent"), die) as peer:
        with caplog.at_level(logging.WARNING), pytest.raises(A2aTimeoutError, match="'t' has not ended"):
            await call(peer, timeout=1)
        assert asked(peer).count("CancelTask") == 2
    assert "may still run" in caplog.text


@pytest.mark.parametrize("then", ["end", "dies"])
async def test_a_stream_that_breaks_is_followed_again(then: str):
    broken = stream({"task": TASK}, then=then)
    again = stream({"task": TASK}, {"task": DONE})
    with strange_peer(card(), broken, result(TASK), again, result(DONE)) as peer:
        assert (await call(peer))["status"] == "completed"
        assert asked(peer) == ["SendStreamingMessage", "GetTask", "SubscribeToTask", "GetTask"]


async def test_a_continued_task_may_begin_with_its_old_state():
    asking = TASK | {"status": {"state": "TASK_STATE_INPUT_REQUIRED"}}
    done = {"taskId": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}}
    with strange_peer(card(), stream({"task": asking}, {"statusUpdate": done})) as peer:
        assert (await call(peer, task_id="t"))["status"] == "completed"
    with strange_peer(card(), stream({"task": asking})) as peer:
        assert (await call(peer, task_id="t"))["error_type"] == "A2aInputRequiredError"


async def test_an_agent_without_subscriptions_is_polled_after_its_stream_breaks():
    broken = stream({"task": TASK}, then="dies")
    refused = error(-32004, "not supported")
    with strange_peer(card(), broken, result(TASK), refused, result(TASK), result(DONE)) as peer:
        assert (await call(peer))["status"] == "completed"
        assert asked(peer).count("SubscribeToTask") == 1


async def test_an_agent_may_be_away_for_a_while():
    broken = stream({"task": TASK}, then="dies")
    with strange_peer(card(), broken, die, die, result(DONE)) as peer:
        assert (await call(peer))["status"] == "completed"


async def test_an_agent_that_stays_away_fails_the_task(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "RECONNECT_SECONDS", 0.1)
    answers = [card(), stream({"task": TASK}, then="dies"), die]
    with strange_peer(*answers) as peer, pytest.raises(A2aUnreachableError):
        await call(peer)


async def test_a_silent_stream_is_checked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "SILENCE_SECONDS", 0.2)
    with strange_peer(card(), stream({"task": TASK}, then="silent"), result(DONE)) as peer:
        assert (await call(peer))["status"] == "completed"


async def test_a_line_without_an_end_is_not_read_to_its_end():
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.end_headers()
        request.close_connection = True
        try:
            while not request.server.over.is_set():  # type: ignore[attr-defined]
                request.wfile.write(b"x" * 65536)
        except OSError:
            pass

    with strange_peer(card(), endless) as peer, pytest.raises(A2aTooLargeError):
        await call(peer, max_output_bytes=1000)


async def test_what_is_not_reachable_or_not_permitted_is_not_called(
    agent: A2aAgent, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(A2aUnreachableError):
        await A2aExecutor().execute({"agent": "http://127.0.0.1:1", "message": "hello", "timeout": 5})
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    before = len(agent.headers)
    with pytest.raises(AddressRefusedError):
        await A2aExecutor().execute({"agent": agent.url, "message": "hello"})
    assert len(agent.headers) == before


async def test_the_network_policy_holds_for_grpc(agent: A2aAgent, monkeypatch: pytest.MonkeyPatch):
    """The card comes from a permitted name, and names a port on an address that is not."""
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    monkeypatch.setenv("APFLOW_NET_ALLOW", "localhost")
    url = agent.url.replace("127.0.0.1", "localhost")
    with pytest.raises(AddressRefusedError):
        await A2aExecutor().execute({"agent": url, "message": "hello", "transport": "grpc"})


@pytest.mark.parametrize(
    "inputs",
    [
        {"agent": "weather"},
        {"agent": "ftp://host"},
        {"agent": "http://me:pa55word@host"},
        {"agent": "http://host/#x"},
        {"agent": "http://host/?token=pa55word"},
        {"agent": "http://"},
        {"agent": "http://ho st"},
        {"message": None},
        {"parts": [{}]},
        {"parts": [{"text": "a", "data": 1}]},
        {"parts": [{"raw": "no base64!"}]},
        {"message": {"n": 2**60}},
        {"message": "\ud800"},
        {"message": json.loads("[" * 60 + "]" * 60)},
        {"headers": {"a b": "pa55word"}},
        {"headers": {"Host": "x"}},
        {"headers": {"X": "two\nlines pa55word"}},
        {"auth_token": "two\nlines pa55word"},
        {"auth_token": "pa55word", "headers": {"authorization": "x"}},
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is_sent(
    inputs: dict[str, Any], agent: A2aAgent
):
    before = len(agent.headers)
    with pytest.raises(A2aInputError, match="Nothing was sent") as caught:
        await A2aExecutor().execute({"agent": agent.url, "message": "hello"} | inputs)
    assert "pa55word" not in str(caught.value)
    assert isinstance(caught.value, ApflowError)
    assert len(agent.headers) == before
