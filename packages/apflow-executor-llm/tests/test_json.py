"""Answers that are JSON, and the ladder of repairs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apflow.executor.llm import LLMAnswerInvalidError, LLMRequestError
from apflow.testing.modelserver import ModelServer, Reply, ToolCall

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
FORMAT: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
GOOD = Reply(json.dumps({"city": "Oslo", "people": 700000}))
OSLO = {"city": "Oslo", "people": 700000}


async def test_a_valid_answer_is_parsed(ask: Any, server: ModelServer, model: str):
    server.script.append(GOOD)
    result = await ask(model, response_format=FORMAT)
    assert (result["json"], result["calls"]) == (OSLO, 1)
    assert json.loads(result["content"]) == OSLO
    assert "people" in str(server.requests[0].body), "the schema goes to the model in its native mode"


async def test_a_stream_can_be_json_too(ask: Any, server: ModelServer, model: str):
    server.script.append(GOOD)
    assert (await ask(model, response_format=FORMAT, stream=True))["json"] == OSLO


async def test_a_sloppy_answer_is_tolerated(ask: Any, server: ModelServer):
    server.script.append(
        Reply("Sure!\n```json\n{'city': 'Oslo', 'people': 700000,} // about\n```\nAnything else?")
    )
    result = await ask("openai/own", response_format=FORMAT)
    assert (result["json"], result["calls"]) == (OSLO, 1)


async def test_an_unknown_model_gets_the_format_in_words_and_then_natively_with_the_faults(
    ask: Any, server: ModelServer
):
    server.script += [Reply('{"city": "Oslo", "people": "many"}', completion_tokens=5), GOOD]
    result = await ask("openai/own", response_format=FORMAT, system="Be exact.")
    assert (result["json"], result["calls"]) == (OSLO, 2)
    first, second = (request.body for request in server.requests)
    assert "response_format" not in first
    assert first["messages"][0]["content"].startswith("Be exact.")
    assert '"people"' in first["messages"][0]["content"]
    assert second["response_format"]["json_schema"]["schema"]["required"] == ["city", "people"]
    assert second["messages"][-2] == {"role": "assistant", "content": '{"city": "Oslo", "people": "many"}'}
    assert "people" in second["messages"][-1]["content"]
    assert result["token_usage"]["prompt_tokens"] == 20, "both calls are counted"


async def test_a_server_that_does_not_know_the_format_gets_it_in_words(ask: Any, server: ModelServer):
    server.script += [Reply("response_format is not supported", status=400), GOOD]
    result = await ask("openai/gpt-4o", response_format=FORMAT)
    assert (result["json"], result["calls"]) == (OSLO, 1)
    assert "response_format" in server.requests[0].body
    assert "response_format" not in server.requests[1].body
    assert "JSON Schema" in server.requests[1].body["messages"][0]["content"]


async def test_a_request_that_is_refused_for_another_reason_fails(ask: Any, server: ModelServer):
    server.default = Reply("no such model", status=404)
    with pytest.raises(LLMRequestError, match="no such model"):
        await ask("openai/gpt-4o", response_format=FORMAT)
    assert len(server.requests) == 1


async def test_an_answer_that_never_becomes_valid_fails_the_task(ask: Any, server: ModelServer, model: str):
    server.default = Reply('{"city": 3}')
    with pytest.raises(LLMAnswerInvalidError) as caught:
        await ask(model, response_format=FORMAT, max_repairs=1)
    assert len(server.requests) == 2
    assert caught.value.calls == 2
    assert caught.value.answer == '{"city": 3}'
    assert any("people" in each for each in caught.value.violations)


async def test_prose_is_no_json(ask: Any, server: ModelServer):
    server.default = Reply("I cannot help with that.")
    with pytest.raises(LLMAnswerInvalidError, match="holds no JSON"):
        await ask("openai/own", response_format={"type": "json_object"}, max_repairs=0)


async def test_an_answer_that_is_cut_off_is_not_valid_even_if_it_could_be_repaired(
    ask: Any, server: ModelServer
):
    server.script += [Reply('{"city": "Oslo", "people": 7', finish_reason="length"), GOOD]
    result = await ask("openai/own", response_format=FORMAT)
    assert (result["json"], result["calls"]) == (OSLO, 2)
    assert "cut off" in server.requests[1].body["messages"][-1]["content"]


async def test_a_model_that_calls_a_tool_owes_no_json(ask: Any, server: ModelServer):
    server.script.append(Reply("", tool_calls=[ToolCall("f", {})]))
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    result = await ask("openai/own", response_format=FORMAT, tools=[tool])
    assert result["json"] is None
    assert result["tool_calls"][0]["function"]["name"] == "f"
