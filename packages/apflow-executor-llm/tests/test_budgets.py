"""Budgets and usage of `llm_executor`: what is reserved, sent, counted and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apflow.core import MemoryStore, TaskCreator, TaskExecutor, TaskManager, TaskService
from apflow.core.extensions.model_account import EndedModelCall
from apflow.core.extensions.model_calls import observing_model_calls
from apflow.core.model.task import Task
from apflow.core.settings import overridden_defaults
from apflow.executor.llm import LLMInputError
from apflow.executor.llm.call import Received
from apflow.executor.llm.request import OUTPUT_LIMITS
from apflow.testing.modelserver import ModelServer, Reply

PRICES = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.01}


@pytest.fixture
async def db() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


def llm(task_id: str, inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": task_id, "name": "llm_executor", "inputs": inputs, **more}


async def create(db: MemoryStore, *tasks: dict[str, Any]) -> None:
    await TaskCreator(db).create_task_tree_from_array([*tasks])


async def run(db: MemoryStore, root_id: str = "r") -> dict[str, Task]:
    await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    return {task.id: task for task in await db.tree(root_id)}


async def until(is_true: Any) -> None:
    async with asyncio.timeout(30):
        while not is_true():
            await asyncio.sleep(0.01)


async def test_usage_is_what_the_provider_reports(db: MemoryStore, ask: Any, server: ModelServer, model: str):
    server.default = Reply("one two", prompt_tokens=40, completion_tokens=4, cached_tokens=15)
    await create(db, llm("r", ask.inputs(model, **PRICES)))
    task = (await run(db))["r"]
    usage = (await TaskService(db).get("r"))["usage"]
    assert (usage["calls"], usage["input_tokens"], usage["output_tokens"]) == (1, 40, 4)
    assert usage["cached_tokens"] == 15
    assert usage["cost_usd"] == pytest.approx(task.result["cost_usd"])
    assert list(usage["by_model"]) == [model]


async def test_each_call_counts_those_that_a_rate_limit_refuses_included(
    db: MemoryStore, ask: Any, server: ModelServer
):
    server.script += [Reply("slow down", status=429), Reply("slow down", status=429), Reply("fine")]
    await create(db, llm("r", ask.inputs("openai/gpt-4o"), budget={"calls": 5}))
    await run(db)
    found = await TaskService(db).budget("r")
    assert found["spent"]["calls"] == len(server.requests) == 3
    server.default = Reply("slow down", status=429)
    await create(db, llm("s", ask.inputs("openai/gpt-4o"), budget={"calls": 2}))
    task = (await run(db, "s"))["s"]
    assert len(server.requests) == 5
    assert task.result["error_type"] == "BudgetExceededError"


async def test_answers_are_bounded_by_what_the_budget_has_left(
    db: MemoryStore, ask: Any, server: ModelServer, model: str
):
    await create(db, llm("r", ask.inputs(model), budget={"tokens": 500}))
    await create(db, llm("s", ask.inputs(model, max_tokens=7), budget={"tokens": 500}))
    await create(db, llm("c", ask.inputs(model), budget={"calls": 1}))
    for root_id in ("r", "s", "c"):
        assert (await run(db, root_id))[root_id].status == "completed"
    most = [request.body.get("max_tokens") for request in server.requests]
    assert 450 < most[0] < 500
    assert most[1] == 7
    assert most[2] != most[0]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
async def test_a_limit_in_extra_body_is_reserved(db: MemoryStore, ask: Any, server: ModelServer, name: str):
    large, small = ({"extra_body": {name: limit}} for limit in (5000, 40))
    await create(db, llm("r", ask.inputs("openai/gpt-4o", **large), budget={"tokens": 500}))
    assert (await run(db))["r"].result["error_type"] == "BudgetExceededError"
    assert server.requests == []
    await create(db, llm("s", ask.inputs("openai/gpt-4o", **small), budget={"tokens": 500}))
    assert (await run(db, "s"))["s"].status == "completed"
    sent = {each: server.requests[0].body.get(each) for each in OUTPUT_LIMITS}
    assert sent == dict.fromkeys(OUTPUT_LIMITS) | {name: 40}


@pytest.mark.parametrize(
    "body",
    [
        {"model": "gpt-5"},
        {"messages": []},
        {"stream": True},
        {"n": 2},
        {"max_tokens": -1},
        {"max_tokens": "9"},
    ],
)
async def test_extra_body_cannot_replace_what_a_budget_depends_on(
    ask: Any, server: ModelServer, body: dict[str, Any]
):
    [name] = body
    with pytest.raises(LLMInputError, match=f"extra_body.{name}"):
        await ask("openai/gpt-4o", extra_body=body)
    assert server.requests == []


async def test_money_is_reserved_at_the_prices_of_the_task(db: MemoryStore, ask: Any, server: ModelServer):
    inputs = ask.inputs("openai/not-in-the-list")
    await create(db, llm("r", inputs, budget={"usd": 1}))
    assert (await run(db))["r"].result["error_type"] == "ModelPriceUnknownError"
    assert server.requests == []
    await create(db, llm("s", {**inputs, **PRICES}, budget={"usd": 1}))
    await run(db, "s")
    most = server.requests[0].body["max_tokens"]
    assert 80 < most <= 100  # at 0.01 US dollars each, without the prompt
    found = await TaskService(db).budget("s")
    assert found["spent"]["usd"] == pytest.approx(10 * 0.001 + 4 * 0.01)


async def test_repairs_of_an_answer_are_calls_of_the_budget(db: MemoryStore, ask: Any, server: ModelServer):
    server.default = Reply("not JSON")
    inputs = ask.inputs("openai/gpt-4o", response_format={"type": "json_object"}, max_repairs=5)
    await create(db, llm("r", inputs, budget={"calls": 3}))
    task = (await run(db))["r"]
    assert len(server.requests) == 3
    assert task.result["error_type"] == "BudgetExceededError"
    assert task.result["token_usage"]["prompt_tokens"] == 30


async def test_time_that_a_call_waits_for_its_budget_is_not_time_of_the_call(
    db: MemoryStore, ask: Any, server: ModelServer
):
    inputs = ask.inputs("openai/gpt-4o", timeout=1)
    await create(db, llm("r", inputs, budget={"calls": 0, "on_exceed": "wait"}))
    running = asyncio.create_task(run(db))
    await asyncio.sleep(1.5)
    assert (server.requests, running.done()) == ([], False)
    await TaskService(db).budget("r", calls=1)
    assert (await running)["r"].status == "completed"


async def test_a_stream_that_breaks_off_is_charged_what_was_received(
    db: MemoryStore, ask: Any, server: ModelServer, model: str
):
    server.default = Reply("one two three four", cut_after=2)
    await create(db, llm("r", ask.inputs(model, stream=True), budget={"tokens": 1000}))
    task = (await run(db))["r"]
    assert task.status == "failed"
    usage = (await TaskService(db).get("r"))["usage"]
    assert (usage["calls"], usage["estimated_calls"]) == (1, 1)
    assert usage["output_tokens"] >= 2
    assert task.result["token_usage"]["completion_tokens"] == usage["output_tokens"]
    found = await TaskService(db).budget("r")
    assert (found["spent"]["tokens"], found["reserved"]["tokens"]) == (usage["total_tokens"], 0)


async def test_a_hundred_streams_half_of_them_cancelled_are_all_settled(
    db: MemoryStore, ask: Any, server: ModelServer, received: list[Received]
):
    server.default = lambda request: Reply(
        "one two three", prompt_tokens=10, hang_after=2 if "hang" in str(request.body) else None
    )

    def task(number: int) -> dict[str, Any]:
        model = "openai/gpt-4o" if number % 4 < 2 else "anthropic/claude-sonnet-4-5"
        prompt = "hang" if number % 2 else "finish"
        inputs = ask.inputs(model, stream=True, prompt=prompt, max_tokens=100)
        return llm(f"t{number}", inputs, parent_id="r")

    budget = {"tokens": 100_000, "calls": 100}
    await create(db, {"id": "r", "name": "root", "budget": budget}, *map(task, range(100)))
    manager = TaskManager(db)
    running = asyncio.create_task(run(db))
    await until(lambda: server.answering == 50 and len(server.requests) == 100)
    await until(lambda: sum(each.text == "one two " for each in received) == 50)
    await asyncio.gather(*(manager.cancel_task(f"t{number}", "enough") for number in range(1, 100, 2)))
    tasks = await running
    server.until(lambda: server.answering == 0)
    assert [tasks[f"t{number}"].status for number in range(100)] == ["completed", "cancelled"] * 50
    service = TaskService(db)
    usage, found = (await service.get("r"))["usage"], await service.budget("r")
    assert (usage["calls"], usage["estimated_calls"]) == (100, 50)
    counted = [tasks[f"t{number}"].result["token_usage"]["total_tokens"] for number in range(100)]
    assert usage["total_tokens"] == found["spent"]["tokens"] == sum(counted)
    assert all(
        tasks[f"t{number}"].result["token_usage"]["completion_tokens"] >= 2 for number in range(1, 100, 2)
    )
    assert (found["open_calls"], found["reserved"]["tokens"], found["spent"]["calls"]) == (0, 0, 100)


async def test_observers_see_what_was_asked_and_answered(
    db: MemoryStore, ask: Any, server: ModelServer, model: str
):
    server.default = Reply("Paris", prompt_tokens=12, completion_tokens=3)
    seen: list[EndedModelCall] = []
    await create(db, llm("r", ask.inputs(model, prompt="Capital?", temperature=0.5)))
    with overridden_defaults(trace_model_content=True), observing_model_calls(seen.append):
        await run(db)
    [call] = seen
    assert (call.request.model, call.request.provider) == (model, model.partition("/")[0])
    assert call.request.messages == [{"role": "user", "content": "Capital?"}]
    assert call.request.parameters["temperature"] == 0.5
    assert call.answer.messages[0]["content"] == "Paris"
    assert list(call.answer.finish_reasons) == ["stop"]
    assert (call.usage.input_tokens, call.usage.output_tokens) == (12, 3)
    assert call.task is not None
    assert call.task.id == "r"
