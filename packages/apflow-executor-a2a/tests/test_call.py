"""Calls of an agent on the server of the official SDK, over each transport and both versions."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from a2a.client import client_factory
from peers.a2aagent import BINDINGS, DATA, VERSIONS, A2aAgent, a2a_agent

from apflow.executor.a2a import A2aExecutor

TRANSPORTS = {"JSONRPC": "jsonrpc", "HTTP+JSON": "http+json", "GRPC": "grpc"}


@pytest.fixture(
    scope="module", params=[(each, version) for version in VERSIONS for each in BINDINGS], ids=str
)
def peer(request: pytest.FixtureRequest) -> Iterator[tuple[A2aAgent, str]]:
    binding, version = request.param
    with a2a_agent([binding], version) as running:
        yield running, TRANSPORTS[binding]


async def call(agent: A2aAgent, message: Any, **inputs: Any) -> dict[str, Any]:
    return await A2aExecutor().execute({"agent": agent.url, "message": message, "timeout": 30, **inputs})


@pytest.mark.parametrize(
    "more", [{}, {"use_streaming": False, "poll_interval": 0.02}], ids=["stream", "poll"]
)
async def test_the_artifacts_of_a_task_are_the_result(peer: tuple[A2aAgent, str], more: dict[str, Any]):
    agent, transport = peer
    result = await call(agent, "work", **more)
    assert (result["success"], result["status"], result["agent"]) == (True, "completed", "Test agent")
    assert result["transport"] == transport
    assert result["text"] == "The answer is 42."
    assert result["data"] == [DATA]
    assert [type(each) for each in (result["data"][0]["count"], result["data"][0]["share"])] == [int, float]
    answer, rest = result["artifacts"]
    assert (answer["artifact_id"], answer["name"]) == ("text", "answer")
    if "use_streaming" not in more:
        assert answer["parts"] == [{"text": "The answer is 42."}]
    _, raw, url = rest["parts"]
    assert base64.b64decode(raw["raw"]) == b"\x00\x01"
    assert (raw["filename"], raw["media_type"]) == ("a.bin", "application/octet-stream")
    assert url == {"url": "https://example.com/a.pdf", "media_type": "application/pdf"}
    assert result["message"]["parts"] == [{"text": "done"}]
    assert result["task_id"]
    assert result["context_id"]


@pytest.mark.parametrize("more", [{}, {"use_streaming": False}], ids=["stream", "poll"])
async def test_a_message_without_a_task_is_a_result_too(peer: tuple[A2aAgent, str], more: dict[str, Any]):
    result = await call(peer[0], "hello world", **more)
    assert (result["text"], result["task_id"], result["status"]) == ("Hello world", None, "completed")


async def test_the_version_of_the_agent_does_not_depend_on_what_was_imported_first(
    peer: tuple[A2aAgent, str], monkeypatch: pytest.MonkeyPatch
):
    # So is the SDK (1.3) if its compat package is imported before its client.
    monkeypatch.setattr(client_factory, "CompatGrpcTransport", None)
    result = await call(peer[0], "hello world")
    assert result["text"] == "Hello world"


async def test_every_kind_of_part_reaches_the_agent(peer: tuple[A2aAgent, str]):
    parts = [
        {"data": DATA, "metadata": {"kind": "table"}},
        {"raw": base64.b64encode(b"abc").decode(), "media_type": "text/plain", "filename": "a.txt"},
        {"url": "https://example.com/a", "media_type": "text/html"},
    ]
    result = await call(peer[0], "echo this", parts=parts)
    assert result["artifacts"][0]["parts"] == [{"text": "echo this"}, *parts]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("fail out of paper", "A2aTaskFailedError"),
        ("reject not my job", "A2aRejectedError"),
        ("stop not today", "A2aCancelledError"),
    ],
)
async def test_a_task_that_does_not_complete_fails_with_what_the_agent_says(
    peer: tuple[A2aAgent, str], message: str, kind: str
):
    result = await call(peer[0], message)
    assert (result["status"], result["success"], result["error_type"]) == ("failed", False, kind)
    assert message.partition(" ")[2] in result["error"]
    assert result["task_id"] in result["error"]


async def test_a_question_fails_the_task_and_can_be_answered(peer: tuple[A2aAgent, str]):
    asked = await call(peer[0], "ask")
    assert (asked["status"], asked["state"], asked["error_type"]) == (
        "failed",
        "input-required",
        "A2aInputRequiredError",
    )
    assert "Which city?" in asked["error"]
    assert asked["message"]["parts"] == [{"text": "Which city?"}]
    assert asked["artifacts"][0]["parts"] == [{"text": "a draft"}]
    assert asked["task_id"] not in peer[0].cancelled
    known = {"task_id": asked["task_id"], "context_id": asked["context_id"]}
    answered = await call(peer[0], "Oslo", **known)
    assert (answered["status"], answered["task_id"]) == ("completed", asked["task_id"])
    assert {"text": "Oslo"} in [part for each in answered["artifacts"] for part in each["parts"]]


async def test_a_request_for_an_authorization_is_its_own_error(peer: tuple[A2aAgent, str]):
    asked = await call(peer[0], "authorize")
    assert (asked["error_type"], asked["state"]) == ("A2aAuthRequiredError", "auth-required")
    assert "https://example.com" in asked["error"]


async def test_the_message_carries_what_the_inputs_say(agent: A2aAgent):
    first = await call(agent, "echo 1")
    more = {
        "context_id": first["context_id"],
        "reference_task_ids": [first["task_id"]],
        "metadata": {"skill_id": "forecast", "count": 3},
        "extensions": ["https://example.com/x"],
        "headers": {"X-Team": "reports"},
    }
    second = await call(agent, {"city": "Oslo"}, **more)
    message = agent.messages[-1]
    assert (second["context_id"], message.context_id) == (first["context_id"], first["context_id"])
    assert list(message.reference_task_ids) == [first["task_id"]]
    assert message.metadata["skill_id"] == "forecast"
    assert agent.metadata[-1] == {"skill_id": "forecast", "count": 3}
    assert list(message.extensions) == ["https://example.com/x"]
    assert agent.headers[-1]["a2a-extensions"] == "https://example.com/x"
    assert agent.headers[-1]["x-team"] == "reports"
    assert second["data"] == [{"city": "Oslo"}]


async def test_the_transport_can_be_chosen(agent: A2aAgent):
    for transport in TRANSPORTS.values():
        assert (await call(agent, "hello", transport=transport))["transport"] == transport


async def test_an_agent_without_streams_is_polled():
    with a2a_agent(["JSONRPC"], is_streaming=False) as agent:
        result = await call(agent, "slowly 0.2", poll_interval=0.02)
        assert (result["status"], result["text"]) == ("completed", "at last")
