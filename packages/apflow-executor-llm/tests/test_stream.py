"""Streams: progress, broken streams, slow first tokens, cancellation."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from apflow.core import TaskCreator, TaskManager, create_session
from apflow.executor.llm import LLMExecutor, LLMServerError, LLMStreamError, LLMTimeoutError
from apflow.executor.llm.call import Received
from apflow.testing.modelserver import ModelServer, Reply, ToolCall


class Queue:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def put(self, event: dict[str, Any], /) -> None:
        self.events.append(event)

    def put_nowait(self, event: dict[str, Any], /) -> None:
        self.events.append(event)


async def test_a_stream_gives_the_same_result_as_a_plain_call(ask: Any, server: ModelServer, model: str):
    server.default = Reply("one two three", prompt_tokens=50, completion_tokens=5, cached_tokens=20)
    plain = await ask(model)
    assert await ask(model, stream=True) == plain | {"is_stream": True}
    assert [request.body.get("stream") for request in server.requests] in ([None, True], [False, True])


async def test_the_text_so_far_is_sent_as_progress(ask: Any, server: ModelServer, model: str):
    server.script.append(Reply("one two three four", between=0.3))
    executor = LLMExecutor()
    executor.event_queue = queue = Queue()
    await executor.execute(ask.inputs(model, stream=True, prompt="Count"))
    texts = [event["data"]["content"] for event in queue.events]
    assert texts[0].strip() == "one"
    assert "one two three" in texts[-1]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    fractions = [event["progress"] for event in queue.events]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1


async def test_tools_can_be_called_in_a_stream(ask: Any, server: ModelServer, model: str):
    tool: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    server.script.append(Reply("Look:", tool_calls=[ToolCall("f", {"a": 1})]))
    result = await ask(model, stream=True, tools=[tool])
    assert result["content"] == "Look:"
    assert result["tool_calls"][0]["function"]["arguments"].replace(" ", "") == '{"a":1}'


async def test_a_stream_that_breaks_off_is_not_repeated_and_no_other_model_is_called(
    ask: Any, server: ModelServer, model: str
):
    server.script.append(Reply("one two three four", cut_after=2))
    other = {"model": "openai/other", "api_base": server.openai_url, "api_key": "k"}
    with pytest.raises(LLMStreamError) as caught:
        await ask(model, stream=True, fallback_models=[other])
    assert caught.value.received == "one two "
    assert len(server.requests) == 1


async def test_a_stream_that_breaks_before_the_first_token_is_repeated(
    ask: Any, server: ModelServer, model: str
):
    server.script += [Reply(cut_after=0), Reply("second")]
    assert (await ask(model, stream=True))["content"] == "second"
    assert len(server.requests) == 2


async def test_a_slow_first_token_leads_to_the_next_model(ask: Any, server: ModelServer, model: str):
    server.script += [Reply(first_after=30), Reply("from the other")]
    other = {"model": "openai/other", "api_base": server.openai_url, "api_key": "k"}
    result = await ask(  # the limit is also that of the other model, and a busy machine needs most of it
        model, stream=True, first_token_timeout=2.5, retry={"max_attempts": 1}, fallback_models=[other]
    )
    assert (result["content"], result["model"]) == ("from the other", "openai/other")
    server.script.append(Reply(first_after=30))
    with pytest.raises(LLMTimeoutError, match="first token"):
        await ask(model, stream=True, first_token_timeout=0.5, retry={"max_attempts": 1})
    server.until(lambda: server.answering == 0)


async def test_the_first_token_in_time_may_be_followed_by_slow_ones(
    ask: Any, server: ModelServer, model: str
):
    server.script.append(Reply("one two three", between=0.7))
    result = await ask(model, stream=True, first_token_timeout=1.8)
    assert result["content"] == "one two three"


async def test_an_error_in_place_of_a_stream_is_that_error(ask: Any, server: ModelServer, model: str):
    server.default = Reply("overloaded", status=503)
    with pytest.raises(LLMServerError, match="overloaded"):
        await ask(model, stream=True)
    assert len(server.requests) == 3


async def until(is_true: Any) -> None:
    async with asyncio.timeout(30):
        while not is_true():
            await asyncio.sleep(0.01)


async def test_cancelling_closes_the_connection_and_keeps_what_was_received(
    ask: Any, server: ModelServer, model: str, received: list[Received]
):
    server.script.append(Reply("one two three four", hang_after=2))
    async with create_session("memory://cancel") as db:
        tree = await TaskCreator(db).create_task_tree_from_array(
            [
                {
                    "id": "t",
                    "name": "llm_executor",
                    "inputs": ask.inputs(model, stream=True, prompt="Count", retry={}),
                }
            ]
        )
        manager = TaskManager(db)
        running = asyncio.create_task(manager.distribute_task_tree(tree))
        await until(lambda: [each.text for each in received] == ["one two "])
        await manager.cancel_task("t", "enough")
        await running
        [task] = await db.tree("t")
    assert task.status == "cancelled"
    assert task.result["partial_result"]["content"] == "one two "
    usage = task.result["token_usage"]
    assert usage["is_estimated"] is True
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0
    server.until(lambda: server.answering == 0)


async def test_a_hundred_streams_half_of_them_cancelled_leave_no_connection(ask: Any, server: ModelServer):
    server.default = lambda request: Reply(
        "one two three", hang_after=2 if "hang" in str(request.body) else None
    )

    def start(number: int) -> asyncio.Task[dict[str, Any]]:
        model = "openai/gpt-4o" if number % 4 < 2 else "anthropic/claude-sonnet-4-5"
        prompt = "hang" if number % 2 else "finish"
        return asyncio.create_task(LLMExecutor().execute(ask.inputs(model, stream=True, prompt=prompt)))

    tasks = [start(number) for number in range(100)]
    await asyncio.wait(tasks[::2])
    await until(lambda: server.answering == 50)
    for task in tasks[1::2]:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks[1::2])
    assert {task.result()["content"] for task in tasks[::2]} == {"one two three"}
    server.until(lambda: server.answering == 0)
    assert len(server.requests) == 100
