"""Plain calls, over both protocols."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.executor.llm import (
    LLMAuthenticationError,
    LLMConnectionError,
    LLMExecutor,
    LLMInputError,
    LLMRequestError,
    LLMResponseError,
    LLMServerError,
    LLMTimeoutError,
)
from apflow.testing.modelserver import ModelServer, Reply, ToolCall

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


async def test_it_returns_the_answer_with_usage_and_cost(ask: Any, server: ModelServer, model: str):
    server.script.append(Reply("Paris it is.", prompt_tokens=10, completion_tokens=4))
    result = await ask(model, prompt="Capital of France?", system="Be brief.", temperature=0.5, max_tokens=20)
    prices = {"openai/gpt-4o": (2.5e-6, 1e-5), "anthropic/claude-sonnet-4-5": (3e-6, 1.5e-5)}[model]
    assert result == {
        "success": True,
        "content": "Paris it is.",
        "model": model,
        "provider_model": model.partition("/")[2],
        "token_usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "cached_tokens": 0},
        "cost_usd": pytest.approx(10 * prices[0] + 4 * prices[1]),
        "finish_reason": "stop",
        "tool_calls": [],
        "is_stream": False,
    }
    [request] = server.requests
    assert request.api_key == "key-of-test"
    assert (request.body["temperature"], request.body["max_tokens"]) == (0.5, 20)
    assert request.body["model"] == model.partition("/")[2]
    assert "Be brief." in str(request.body)
    assert request.body["messages"][-1]["role"] == "user"


async def test_cached_tokens_have_their_own_price(ask: Any, server: ModelServer, model: str):
    server.default = Reply(prompt_tokens=100, completion_tokens=10, cached_tokens=60)
    result = await ask(model)
    fresh, cached, out = {
        "openai/gpt-4o": (2.5e-6, 1.25e-6, 1e-5), "anthropic/claude-sonnet-4-5": (3e-6, 3e-7, 1.5e-5)
    }[model]  # fmt: skip
    assert result["token_usage"]["cached_tokens"] == 60
    assert result["token_usage"]["prompt_tokens"] == 100
    assert result["cost_usd"] == pytest.approx(40 * fresh + 60 * cached + 10 * out)


async def test_an_unknown_model_costs_what_the_task_says_and_else_nothing_is_said(
    ask: Any, server: ModelServer
):
    server.default = Reply(prompt_tokens=100, completion_tokens=10, cached_tokens=60)
    assert (await ask("openai/own-model"))["cost_usd"] is None
    prices = {"input_cost_per_token": 0.02, "output_cost_per_token": 0.5}
    assert (await ask("openai/own-model", **prices))["cost_usd"] == pytest.approx(2 + 5)
    cached = await ask("openai/own-model", **prices, cached_input_cost_per_token=0.01)
    assert cached["cost_usd"] == pytest.approx(40 * 0.02 + 60 * 0.01 + 5)
    assert (await ask("openai/own-model"))["cost_usd"] is None, "a price is for one call only"


async def test_the_calls_of_tools_are_in_the_result(ask: Any, server: ModelServer, model: str):
    server.script.append(Reply("", tool_calls=[ToolCall("weather", {"city": "Oslo"}, "call_9")]))
    result = await ask(model, tools=[TOOL], tool_choice="auto")
    assert result["finish_reason"] == "tool_calls"
    [call] = result["tool_calls"]
    assert (call["id"], call["function"]["name"]) == ("call_9", "weather")
    assert call["function"]["arguments"].replace(" ", "") == '{"city":"Oslo"}'
    assert "weather" in str(server.requests[0].body["tools"])


async def test_the_results_of_tools_and_images_go_to_the_model(ask: Any, server: ModelServer, model: str):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    await ask(
        model,
        tools=[TOOL],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "And this?"}, image]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ],
    )
    sent = str(server.requests[0].body["messages"])
    assert "iVBORw0KGgo=" in sent
    assert "sunny" in sent
    assert "c1" in sent


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, LLMRequestError),
        (401, LLMAuthenticationError),
        (403, LLMAuthenticationError),
        (404, LLMRequestError),
        (500, LLMServerError),
        (503, LLMServerError),
    ],
)
async def test_a_status_is_an_error_with_what_the_provider_said(
    ask: Any, server: ModelServer, model: str, status: int, kind: type[Exception]
):
    server.default = Reply("It went wrong.", status=status)
    with pytest.raises(kind) as caught:
        await ask(model)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{model}: It went wrong (status {status}).")


async def test_a_lost_connection_is_an_error(ask: Any, server: ModelServer, model: str):
    server.default = Reply(cut_after=0)
    with pytest.raises(LLMConnectionError):
        await ask(model)


async def test_an_absent_server_is_an_error(model: str):
    inputs = {"model": model, "prompt": "Hi", "api_base": "http://127.0.0.1:1", "api_key": "k"}
    with pytest.raises(LLMConnectionError, match="connection failed"):
        await LLMExecutor().execute(inputs | {"retry": {"max_attempts": 1}})


async def test_an_answer_that_is_not_the_protocol_is_an_error(ask: Any, server: ModelServer, model: str):
    server.default = Reply(body=b"<html>Sign in</html>")
    with pytest.raises(LLMResponseError):
        await ask(model)


async def test_the_timeout_is_for_all_of_it(ask: Any, server: ModelServer, model: str):
    server.default = Reply(hang_after=0)
    with pytest.raises(LLMTimeoutError, match=r"the call \(timeout\) took longer than 0.3 s"):
        await ask(model, timeout=0.3)
    server.until(lambda: server.answering == 0)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"model": "gpt-17"}, "names no provider"),
        ({"model": "openai/x", "prompt": None}, "either messages or prompt"),
        ({"model": "openai/x", "messages": [{"role": "user", "content": "a"}]}, "not both"),
        (
            {"model": "openai/x", "response_format": {
                "type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}},
            "response_format.json_schema.schema",
        ),
    ],
)  # fmt: skip
async def test_inputs_that_describe_no_call_are_refused(inputs: dict[str, Any], message: str):
    with pytest.raises(LLMInputError, match=message):
        await LLMExecutor().execute({"prompt": "Hi", **inputs})
