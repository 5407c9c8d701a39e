"""The model server for tests: both protocols, scripted faults, and what it records."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.testing.modelserver import ModelServer, Reply, ToolCall, model_server


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.reset()
    return running


def ask(
    server: ModelServer, path: str = "/v1/chat/completions", key: str = "k", **body: Any
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    try:
        connection.request("POST", path, json.dumps({"model": "m", **body}), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_it_answers_in_the_protocol_of_openai(server: ModelServer):
    server.script.append(Reply("one two", tool_calls=[ToolCall("f", {"a": 1})], cached_tokens=4))
    status, text = ask(server)
    answer = json.loads(text)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "one two"
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}


def test_it_answers_in_the_protocol_of_anthropic(server: ModelServer):
    server.script.append(Reply("one two", cached_tokens=4))
    answer = json.loads(ask(server, "/v1/messages")[1])
    assert answer["content"] == [{"type": "text", "text": "one two"}]
    assert (answer["usage"]["input_tokens"], answer["usage"]["cache_read_input_tokens"]) == (6, 4)
    assert answer["stop_reason"] == "end_turn"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_carries_the_words_one_by_one_and_ends(server: ModelServer, path: str):
    server.script.append(Reply("one two three"))
    status, text = ask(server, path, stream=True)
    assert status == 200
    assert text.count("three") == 1
    assert text.count("one ") == 1
    assert "[DONE]" in text or "message_stop" in text


def test_a_stream_can_be_cut(server: ModelServer):
    server.script.append(Reply("one two three", cut_after=1))
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(server, stream=True)
    assert b"one" in cut.value.partial
    assert b"two" not in cut.value.partial


def test_an_error_has_its_status_headers_and_message(server: ModelServer):
    server.script.append(Reply("slow down", status=429, headers={"Retry-After": "2"}))
    status, text = ask(server)
    assert status == 429
    assert json.loads(text)["error"]["message"] == "slow down"


def test_it_records_what_it_was_asked_and_by_which_key(server: ModelServer):
    server.default = lambda request: Reply(f"you sent {request.body['messages']}")
    assert "you sent hello" in ask(server, key="secret", messages="hello")[1]
    [request] = server.requests
    assert (request.wire, request.path, request.api_key) == ("openai", "/v1/chat/completions", "secret")
    server.until(lambda: server.answering == 0)


@pytest.mark.parametrize("reply", [Reply(), Reply(hang_after=0)])
def test_its_end_closes_the_connections_that_clients_keep(reply: Reply):
    body = json.dumps({"model": "m"}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        with model_server() as server:
            server.script.append(reply)
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            client.sendall(head + body)
            server.until(lambda: len(server.requests) == 1)
            if reply.hang_after is None:
                client.recv(65536)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(65536):  # raises TimeoutError where the connection stays open
                pass
