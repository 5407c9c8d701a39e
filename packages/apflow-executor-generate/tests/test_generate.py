"""Generating trees with a scripted model: good, sloppy, wrong and hopeless answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apflow.core import TaskCreator, TaskManager, create_session, executor_register
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import ExtensionCategory, get_registry
from apflow.executor.generate import GenerateExecutor
from apflow.executor.llm import LLMAnswerInvalidError, LLMInputError
from apflow.testing.executor import ExecutorContract
from apflow.testing.modelserver import ModelServer, Reply


class FetchExecutor(BaseTask):
    id = "fetch_executor"
    name = "Fetch"
    description = "Fetches a number."
    inputs_schema = {
        "type": "object",
        "properties": {"number": {"type": "integer", "description": "Which."}},
        "required": ["number"],
        "additionalProperties": False,
    }

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"number": inputs["number"]}


@pytest.fixture(autouse=True)
def fetch() -> Any:
    executor_register(FetchExecutor)
    yield
    get_registry().unregister(FetchExecutor.id, ExtensionCategory.EXECUTOR)


FETCH = {"schemas": {"method": "fetch_executor"}}
GOOD: dict[str, Any] = {
    "tasks": [
        {"id": "all", "name": "Everything", "parent_id": None},
        {"id": "one", "name": "First", "parent_id": "all", "inputs": {"number": 1}, **FETCH},
        {
            "id": "two",
            "name": "Second",
            "parent_id": "all",
            "dependencies": [{"id": "one"}],
            "inputs": {"number": {"$from": "one", "path": "number"}},
            **FETCH,
        },
    ]
}


def without_null(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in task.items() if value is not None} for task in tasks]


# The requirements that the command's documentation gives as examples.
REQUIREMENTS = [
    "Fetch data from two different APIs in parallel, then merge the results and save to database",
    "Extract data from REST API, transform it by filtering and aggregating, then load it into database",
    "Collect system information about CPU and memory in parallel, analyze the data, and aggregate results",
    "Call REST API to get user data, process response with Python script, validate it, and save to file",
    "Fetch data from API, process it in two different ways in parallel, merge both results, and save",
    "Monitor system resources in parallel, analyze metrics, generate report, and send notification",
    "Download data from multiple sources simultaneously, transform each, then combine all results",
    "Fetch data from API, organize into categories, process each in parallel, then aggregate all",
    "Fetch customer data, validate information, process orders in parallel, and generate final report",
    "Create a workflow",
    "My requirement",
]


def changed(at: int, **fields: Any) -> dict[str, Any]:
    tasks = [dict(task) for task in GOOD["tasks"]]
    tasks[at] |= fields
    return {"tasks": tasks}


TEXT = json.dumps(GOOD)
SLOPPY = [
    f"Here is the plan:\n```json\n{TEXT}\n```\nShall I run it?",
    json.dumps(GOOD["tasks"]),
    TEXT.replace('"parent_id": null', "'parent_id': None"),
    f"// the plan\n{TEXT[:-1]},}}",
]
WRONG = {
    "there is no executor 'fetsh'": changed(1, schemas={"method": "fetsh"}),
    "circle": changed(1, dependencies=["two"]),
    "root": changed(1, parent_id=None),
    "number": changed(1, inputs={}),
    "one": changed(2, dependencies=[]),
}


async def generate(server: ModelServer, **more: Any) -> dict[str, Any]:
    given = {"requirement": "Do it.", "api_base": server.openai_url, "api_key": "k", "retry": {"delay": 0}}
    return await GenerateExecutor().execute({**given, **more})


@pytest.mark.parametrize("requirement", REQUIREMENTS)
async def test_a_good_answer_is_a_tree_that_runs(server: ModelServer, requirement: str):
    server.script.append(Reply(TEXT))
    result = await generate(server, requirement=requirement, temperature=0.9, max_tokens=6000)
    assert (result["status"], result["count"], result["calls"]) == ("completed", 3, 1)
    assert result["tasks"] == without_null(GOOD["tasks"])
    body = server.requests[0].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("gpt-4o", 0.9, 6000)
    assert requirement in body["messages"][-1]["content"]
    assert "fetch_executor" in body["messages"][0]["content"]
    assert '"id": "generate_executor"' not in body["messages"][0]["content"]
    async with create_session("memory://generated") as db:
        tree = await TaskCreator(db).create_task_tree_from_array(result["tasks"])
        done = await TaskManager(db).distribute_task_tree(tree)
        stored = {task.name: task for task in await db.tree("all")}
    assert done["status"] == "completed", done["error"]
    assert stored["Second"].result == {"number": 1}


@pytest.mark.parametrize("text", SLOPPY)
async def test_a_sloppy_answer_is_accepted(server: ModelServer, text: str):
    server.script.append(Reply(text))
    result = await generate(server)
    assert (result["calls"], result["tasks"]) == (1, without_null(GOOD["tasks"]))


@pytest.mark.parametrize("fault", sorted(WRONG))
async def test_a_wrong_answer_goes_back_with_its_faults(server: ModelServer, fault: str):
    server.script += [Reply(json.dumps(WRONG[fault])), Reply(TEXT)]
    result = await generate(server, user_id="ann")
    assert result["calls"] == 2
    assert all(task["user_id"] == "ann" for task in result["tasks"])
    assert fault in server.requests[1].body["messages"][-1]["content"]
    assert result["token_usage"]["prompt_tokens"] == 20


@pytest.mark.parametrize("text", [json.dumps(WRONG["circle"]), "I would rather not.", "[]", '{"tasks": 3}'])
async def test_a_hopeless_model_is_one_clear_error(server: ModelServer, text: str):
    server.default = Reply(text)
    with pytest.raises(LLMAnswerInvalidError, match="no valid answer after 3 calls"):
        await generate(server)
    assert len(server.requests) == 3


async def test_anthropic_generates_too(server: ModelServer):
    server.script.append(Reply(TEXT))
    given = {"provider": "anthropic", "model": "claude-sonnet-4-5", "api_base": server.anthropic_url}
    assert (await generate(server, **given))["model"] == "anthropic/claude-sonnet-4-5"
    assert server.requests[0].path == "/v1/messages"


async def test_the_executors_can_be_limited(server: ModelServer):
    server.script.append(Reply(TEXT))
    await generate(server, executors=["fetch_executor"])
    assert server.requests[0].body["messages"][0]["content"].count('"input_schema"') == 1
    with pytest.raises(LLMInputError, match="not usable here: nothing_executor"):
        await generate(server, executors=["nothing_executor"])


class TestGenerateExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def at(self, server: ModelServer) -> None:
        self.server = server
        server.default = Reply(TEXT)

    def make_executor(self) -> GenerateExecutor:
        return GenerateExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"requirement": "Do it.", "api_base": self.server.openai_url, "api_key": "k"}

    def check_stopped(self) -> None:
        self.server.until(lambda: self.server.answering == 0)
