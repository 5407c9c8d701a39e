"""Calls of models as tasks of a tree: results of one are part of the prompt of the next."""

from __future__ import annotations

from typing import Any

from apflow.core import TaskCreator, TaskManager, create_session
from apflow.testing.modelserver import ModelServer, Reply


async def test_the_result_of_a_task_is_part_of_a_prompt(ask: Any, server: ModelServer):
    server.script += [Reply("Oslo"), Reply("It is cold there.")]
    prompt = ["How is the weather in this city?", {"$from": "city", "path": "content"}, {"$from": "city"}]
    async with create_session("memory://tree") as db:
        tree = await TaskCreator(db).create_task_tree_from_array(
            [
                {
                    "id": "weather",
                    "name": "llm_executor",
                    "dependencies": ["city"],
                    "inputs": ask.inputs("openai/gpt-4o", prompt=prompt),
                },
                {
                    "id": "city",
                    "parent_id": "weather",
                    "name": "llm_executor",
                    "inputs": ask.inputs("openai/gpt-4o", prompt="Name a city."),
                },
            ]
        )
        done = await TaskManager(db).distribute_task_tree(tree)
    assert done["status"] == "completed", done["error"]
    assert done["result"]["content"] == "It is cold there."
    sent = server.requests[1].body["messages"][0]["content"]
    assert sent.startswith("How is the weather in this city?\n\nOslo\n\n{")
    assert '"finish_reason":"stop"' in sent
