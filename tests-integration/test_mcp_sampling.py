"""Servers that ask for a language model: `llm_executor` answers, on the account of the calling task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from peers.mcphttp import McpPeer, mcp_peer
from peers.mcpservers import mcp_servers

from apflow.core import MemoryStore, TaskCreator, TaskExecutor, TaskService
from apflow.core.model.task import Task
from apflow.executor.llm.library import load
from apflow.executor.mcp.pool import close_connections
from apflow.testing.modelserver import ModelServer, Reply, model_server

MODERN = pytest.mark.skipif(find_spec("mcp_types") is None, reason="takes mcp 2")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier"),  # of LiteLLM, at its import
    pytest.mark.filterwarnings("ignore:.*attribute on the instance is deprecated"),
]
QUESTION = {"role": "user", "content": {"type": "text", "text": "What is the capital of France?"}}
SAMPLING = {"method": "sampling/createMessage", "params": {"messages": [QUESTION], "maxTokens": 50}}
FORM = {"type": "object", "properties": {}}
ELICITATION = {"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": FORM}}
WORKING = {"status": "working"}


@pytest.fixture(scope="module")
def models() -> Iterator[ModelServer]:
    load()  # servers wait a minute at most, and the import of LiteLLM takes long on a busy machine
    with model_server() as server:
        yield server


@pytest.fixture(autouse=True)
async def permitted(models: ModelServer, monkeypatch: pytest.MonkeyPatch):
    models.reset()
    models.default = Reply("Paris.", prompt_tokens=20, completion_tokens=2)
    monkeypatch.setenv("APFLOW_MCP_SAMPLING_MODEL", "openai/gpt-4o")
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-test")
    monkeypatch.setenv("OPENAI_BASE_URL", models.openai_url)
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "*")
    yield
    await close_connections()


@pytest.fixture
def peer() -> Iterator[McpPeer]:
    with mcp_peer() as found:
        yield found


async def run(inputs: dict[str, Any], **more: Any) -> tuple[Task, dict[str, Any]]:
    """Run a task; return it, and its usage."""
    async with MemoryStore() as db:
        task = {"id": "r", "name": "mcp_executor", "inputs": {"timeout": 120} | inputs, **more}
        await TaskCreator(db).create_task_tree_from_array([task])
        await TaskExecutor().execute_task_by_id("r", db_session=db)
        usage = (await TaskService(db).get("r")).get("usage") or {"calls": 0}
        return (await db.get(["r"]))["r"], usage


def everything(prompt: str) -> dict[str, Any]:
    call = {"operation": "call_tool", "tool_name": "trigger-sampling-request"}
    arguments = {"prompt": prompt, "maxTokens": 40}
    command = mcp_servers().npm("server-everything")
    return {"transport": "stdio", "command": command, **call, "arguments": arguments}


def calling(peer: McpPeer, **arguments: Any) -> dict[str, Any]:
    call = {"operation": "call_tool", "tool_name": "asks", "arguments": arguments}
    return {"transport": "http", "url": peer.url("/tasks"), **call}


def text_of(task: Task) -> str:
    return task.result["result"]["content"][0]["text"]


async def test_the_model_answers_a_server_on_the_account_of_the_task(models: ModelServer):
    task, usage = await run(everything("Capital of France?"), budget={"calls": 1})
    assert task.error is None
    assert "Paris." in text_of(task)
    [request] = models.requests
    assert "Capital of France?" in json.dumps(request.body["messages"])
    assert request.body["max_tokens"] == 40
    assert (usage["calls"], usage["output_tokens"]) == (1, 2)


async def test_a_budget_that_is_used_up_refuses_the_server(models: ModelServer):
    task, usage = await run(everything("Capital of France?"), budget={"tokens": 1})
    assert task.status == "failed"
    assert "budget" in (task.error or "").lower()
    assert (models.requests, usage["calls"]) == ([], 0)


async def test_without_the_setting_the_server_is_not_offered_a_model(
    models: ModelServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("APFLOW_MCP_SAMPLING_MODEL")
    task, _ = await run(everything("Capital of France?"))
    assert task.status == "failed"
    assert models.requests == []


@MODERN
async def test_a_request_that_asks_in_its_middle_is_repeated_with_the_answer(peer: McpPeer):
    task, usage = await run(calling(peer, asks={"q": SAMPLING}))
    assert task.error is None
    answer = json.loads(text_of(task))["q"]
    assert answer == {
        "role": "assistant",
        "content": {"type": "text", "text": "Paris."},
        "model": answer["model"],
        "stopReason": "endTurn",
    }
    assert usage["calls"] == 1


@MODERN
async def test_a_task_of_the_server_that_asks_gets_the_answer_once(peer: McpPeer):
    asks = {"status": "input_required", "inputRequests": {"q": SAMPLING}}
    done = {"status": "completed", "result": {"content": [{"type": "text", "text": "done"}]}}
    task, usage = await run(calling(peer, states=[WORKING, asks, asks, done]))
    assert task.error is None
    updates = [each["params"] for _, each, _ in peer.seen if each["method"] == "tasks/update"]
    assert [each["inputResponses"]["q"]["content"]["text"] for each in updates] == ["Paris."]
    assert usage["calls"] == 1


@MODERN
async def test_a_user_is_never_asked(peer: McpPeer, models: ModelServer):
    task, _ = await run(calling(peer, asks={"q": SAMPLING, "who": ELICITATION}))
    assert "requires input" in (task.error or "")
    assert models.requests == []


@MODERN
async def test_what_the_model_cannot_be_given_is_refused(peer: McpPeer, models: ModelServer):
    audio = {"role": "user", "content": {"type": "audio", "data": "", "mimeType": "audio/wav"}}
    asked = {"method": SAMPLING["method"], "params": {"messages": [audio], "maxTokens": 5}}
    task, _ = await run(calling(peer, asks={"q": asked}))
    assert "'audio' cannot be given" in (task.error or "")
    assert models.requests == []
