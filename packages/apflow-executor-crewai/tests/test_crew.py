"""Crews that run over a model server: results, tools, failures, cancellation."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from apflow.core import MemoryStore, TaskCreator, TaskManager
from apflow.core.concurrency.thread_pool import has_running_calls
from apflow.core.errors import InvalidInputError
from apflow.executor.crewai import CrewManager
from apflow.executor.crewai.session import CrewSession
from apflow.testing.modelserver import ModelServer, Reply, ToolCall

AGENTS = [{"role": "Analyst", "goal": "Analyze data"}, {"role": "Writer", "goal": "Write about {topic}"}]
TASKS = [
    {"name": "analyze", "description": "Analyze {topic}", "agent": "Analyst"},
    {"name": "write", "description": "Write it down", "agent": "Writer"},
]


def crew(llm: dict[str, Any], **changed: Any) -> CrewManager:
    return CrewManager(**{"name": "Report", "agents": AGENTS, "tasks": TASKS, "llm": llm, **changed})


def texts(server: ModelServer) -> list[str]:
    return [json.dumps(request.body["messages"]) for request in server.requests]


async def run_task(executor_id: str, inputs: dict[str, Any], **more: Any) -> Any:
    async with MemoryStore() as store:
        given = {"id": "t", "name": executor_id, "inputs": inputs, **more}
        tree = await TaskCreator(store).create_task_tree_from_array([given])
        await TaskManager(store).distribute_task_tree(tree)
        return (await store.get(["t"]))["t"]


async def until(is_true: Any) -> None:
    async with asyncio.timeout(30):
        while not is_true():
            await asyncio.sleep(0.01)


async def test_a_crew_does_its_tasks_in_order_and_counts_what_they_take(
    server: ModelServer, llm: dict[str, Any]
):
    server.script += [
        Reply("Sales grow.", prompt_tokens=30, completion_tokens=5),
        Reply("The report.", prompt_tokens=40, completion_tokens=6),
    ]
    result = await crew(llm).execute({"topic": "sales"})
    assert result["status"] == "completed"
    assert result["result"] == "The report."
    assert [(each["name"], each["output"]) for each in result["tasks"]] == [
        ("analyze", "Sales grow."), ("write", "The report."),
    ]  # fmt: skip
    assert result["token_usage"]["total_tokens"] == 81
    assert result["cost_usd"] == pytest.approx(70 * 2.5e-6 + 11 * 1e-5)
    assert (result["calls"], result["models"]) == (2, ["openai/gpt-4o"])
    first, second = texts(server)
    assert "Analyze sales" in first
    assert "Write about sales" in second
    assert "Sales grow." in second, "the second task does not see the result of the first"


async def test_a_task_runs_a_crew_by_id_with_its_params(server: ModelServer, llm: dict[str, Any]):
    works = {
        "agents": {"analyst": AGENTS[0]},
        "tasks": {"analyze": {"description": "Analyze {topic}", "agent": "analyst"}},
    }
    task = await run_task("crewai_executor", {"topic": "rain"}, params={"works": works, "llm": llm})
    assert (task.status, task.error) == ("completed", None)
    assert task.result["result"] == "Hello from the model."
    assert "Analyze rain" in texts(server)[0]


async def test_an_agent_uses_a_registered_tool(server: ModelServer, llm: dict[str, Any], weather: Any):
    server.script += [
        Reply("", tool_calls=[ToolCall("weather", {"city": "Oslo"}, "call_7")]),
        Reply("It is sunny in Oslo."),
    ]
    agents = [{"role": "Forecaster", "goal": "Forecast", "tools": ["weather"]}]
    result = await crew(llm, agents=agents, tasks=[{"description": "Oslo?"}]).execute({})
    assert result["result"] == "It is sunny in Oslo."
    assert weather.asked == [{"city": "Oslo"}]
    first, second = server.requests
    [tool] = first.body["tools"]
    assert tool["function"]["name"] == "weather"
    assert tool["function"]["parameters"]["required"] == ["city"]
    answers = [each for each in second.body["messages"] if each["role"] == "tool"]
    assert [each["tool_call_id"] for each in answers] == ["call_7"]
    assert "sunny" in answers[0]["content"]


async def test_a_function_that_returns_nothing_is_not_called_again(server: ModelServer, llm: dict[str, Any]):
    from apflow.executor.crewai.session_llm import session_llm  # imports CrewAI

    server.script.append(Reply("", tool_calls=[ToolCall("note", {"text": "x"})]))
    session = CrewSession(crew(llm), ())
    called: list[str] = []

    def note(text: str) -> str:
        called.append(text)
        return ""

    model = session_llm(session, llm)
    answer = await asyncio.to_thread(model.call, "Note x", available_functions={"note": note})
    assert (answer, called) == ("", ["x"])


async def test_the_failure_of_a_tool_goes_to_the_model(
    server: ModelServer, llm: dict[str, Any], weather: Any
):
    server.script += [
        Reply("", tool_calls=[ToolCall("weather", {"city": "nowhere"})]),
        Reply("There is no such city."),
    ]
    agents = [{"role": "Forecaster", "goal": "Forecast", "tools": ["weather"]}]
    result = await crew(llm, agents=agents, tasks=[{"description": "Nowhere?"}]).execute({})
    assert result["result"] == "There is no such city."
    assert "there is no such city" in texts(server)[1]


async def test_a_tool_that_does_not_exist_is_refused_before_the_first_call(
    server: ModelServer, llm: dict[str, Any]
):
    agents = [{"role": "A", "goal": "B", "tools": ["nothing"]}]
    with pytest.raises(InvalidInputError, match="'nothing'"):
        await crew(llm, agents=agents, tasks=[{"description": "Do"}]).execute({})
    assert server.requests == []


async def test_a_rate_limit_is_repeated_in_one_place_only(server: ModelServer, llm: dict[str, Any]):
    server.script.append(Reply("Analyzed."))
    server.default = Reply("slow down", status=429)
    result = await crew(llm).execute({"topic": "sales"})
    assert len(server.requests) == 1 + llm["retry"]["max_attempts"]
    assert (result["status"], result["error_type"]) == ("failed", "LLMRateLimitError")
    assert result["failed_at"] == 'task 2 of 2, "write" (Writer)'
    assert 'failed at task 2 of 2, "write" (Writer)' in result["error"]
    assert 'Done before: "analyze".' in result["error"]
    assert [each["output"] for each in result["tasks"]] == ["Analyzed."]


async def test_a_rate_limit_that_ends_does_no_harm(server: ModelServer, llm: dict[str, Any]):
    server.script.append(Reply("slow down", status=429, headers={"Retry-After": "0"}))
    result = await crew(llm).execute({"topic": "sales"})
    assert (result["status"], result["calls"], len(server.requests)) == ("completed", 2, 3)


async def test_a_failed_crew_fails_its_task_with_the_type_of_the_error(
    server: ModelServer, llm: dict[str, Any]
):
    server.default = Reply("no such key", status=401)
    params = {"agents": AGENTS[:1], "tasks": TASKS[:1], "llm": llm}
    task = await run_task("crewai_executor", {"topic": "x"}, params=params)
    assert (task.status, task.result["error_type"]) == ("failed", "LLMAuthenticationError")
    assert "no such key" in task.error
    assert "No task was done before." in task.error
    assert "key-of-test" not in json.dumps(task.result) + task.error
    assert len(server.requests) == 1


async def test_a_crew_cancelled_in_the_middle_of_a_stream_stops(server: ModelServer, llm: dict[str, Any]):
    server.script += [Reply("Analyzed."), Reply("one two three four", hang_after=2)]
    async with MemoryStore() as store:
        params = {"agents": AGENTS, "tasks": TASKS, "llm": llm | {"stream": True}}
        given = {"id": "t", "name": "crewai_executor", "inputs": {"topic": "x"}, "params": params}
        tree = await TaskCreator(store).create_task_tree_from_array([given])
        manager = TaskManager(store)
        running = asyncio.create_task(manager.distribute_task_tree(tree))
        await until(lambda: len(server.requests) == 2 and server.answering == 1)
        await asyncio.sleep(0.5)
        assert has_running_calls()
        await manager.cancel_task("t", "enough")
        await running
        task = (await store.get(["t"]))["t"]
    server.until(lambda: server.answering == 0)
    assert not has_running_calls(), "the thread of the crew has not ended"
    assert len(server.requests) == 2
    assert task.status == "cancelled"
    partial = task.result["partial_result"]
    assert [each["output"] for each in partial["tasks"]] == ["Analyzed."]
    assert partial["cancelled_at"] == 'task 2 of 2, "write" (Writer)'
    assert task.result["token_usage"]["is_estimated"] is True
    assert task.result["token_usage"]["prompt_tokens"] > 10


async def test_cancelling_the_coroutine_alone_stops_a_crew_too(server: ModelServer, llm: dict[str, Any]):
    server.default = Reply("one two three", hang_after=1)
    running = asyncio.create_task(crew(llm | {"stream": True}).execute({"topic": "x"}))
    await until(lambda: server.answering == 1)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    server.until(lambda: server.answering == 0)
    assert not has_running_calls()
    assert len(server.requests) == 1


async def test_the_progress_says_which_task_runs(server: ModelServer, llm: dict[str, Any]):
    class Queue:
        def __init__(self) -> None:
            self.events: list[dict[str, Any]] = []

        async def put(self, event: dict[str, Any], /) -> None:
            self.events.append(event)

        def put_nowait(self, event: dict[str, Any], /) -> None:
            self.events.append(event)

    executor = crew(llm | {"stream": True})
    executor.event_queue = queue = Queue()
    server.default = Reply("one two three", between=0.3)
    await executor.execute({"topic": "x"})
    messages = [event["message"] for event in queue.events if event["message"]]
    assert messages == [
        "Crew 'Report': task 1 of 2, \"analyze\" (Analyst)", "Crew 'Report': task 2 of 2, \"write\" (Writer)",
    ]  # fmt: skip
    fractions = [event["progress"] for event in queue.events]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1
    assert any((event["data"] or {}).get("content", "").startswith("one") for event in queue.events)


async def test_a_manager_gives_the_tasks_to_agents_in_a_hierarchical_crew(
    server: ModelServer, llm: dict[str, Any]
):
    result = await crew(llm, process="hierarchical", tasks=[{"description": "Do it"}]).execute({"topic": "x"})
    assert result["result"] == "Hello from the model."


async def test_two_crews_at_once_keep_their_keys_and_results_apart(server: ModelServer, llm: dict[str, Any]):
    server.default = lambda request: Reply(f"for {request.api_key}")
    managers = [crew(llm | {"api_key": f"key-number-{number}"}) for number in range(4)]
    results = await asyncio.gather(*(each.execute({"topic": "x"}) for each in managers))
    assert [result["result"] for result in results] == [f"for key-number-{number}" for number in range(4)]
