from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core.builder import TaskBuilder, index, item, result_of
from apflow.core.errors import InvalidInputError, TreeInvalidError
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.model.task import GROUP
from apflow.core.store.memory import MemoryStore


class Add(BaseTask):
    id = "test_add"
    name = "Add"
    description = "Adds numbers"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sum": sum(inputs["numbers"])}


@pytest.fixture
def adding() -> Iterator[None]:
    executor_register(Add())
    yield
    get_registry().unregister("test_add")


def test_what_is_built_is_an_array_in_which_names_are_the_references():
    flow = TaskBuilder("nightly", user_id="ann").add("fetch", executor="rest_executor", priority=0)
    flow.add(
        "store", after="fetch", after_any_end=["other"], inputs={"x": result_of("fetch", "a", default=1)}
    )
    assert flow.to_array() == [
        {"name": "nightly"},
        {"name": "fetch", "parent_id": "nightly", "priority": 0, "schemas": {"method": "rest_executor"}},
        {
            "name": "store",
            "parent_id": "nightly",
            "inputs": {"x": {"$from": "fetch", "path": "a", "default": 1}},
            "dependencies": [{"id": "fetch", "required": True}, {"id": "other", "required": False}],
        },
    ]


async def test_a_tree_is_created_with_groups_inside():
    flow = TaskBuilder("root", user_id="ann").add("group").add("a", under="group").add("b", after="group")
    node = await flow.create(MemoryStore())
    assert {*node.ids} == {"root", "group", "a", "b"}
    assert [each.task.name for each in node.walk()] == ["root", "group", "a", "b"]
    assert {each.task.user_id for each in node.walk()} == {"ann"}


async def test_a_tree_is_run_and_results_flow(adding: None):
    flow = (
        TaskBuilder("root")
        .add("first", executor="test_add", inputs={"numbers": [1, 2]})
        .add("second", executor="test_add", inputs={"numbers": [result_of("first", "sum"), 4]}, after="first")
    )
    db = MemoryStore()
    outcome = await flow.run(db)
    assert outcome["status"] == "completed"
    stored = {task.name: task for task in await db.tree(outcome["root_task_id"])}
    assert stored["second"].result == {"sum": 7}
    assert stored["root"].executor == GROUP


async def test_an_invalid_tree_is_rejected_on_creation():
    flow = TaskBuilder("root").add("a", after="nobody").add("b", inputs={"x": result_of("a")})
    with pytest.raises(TreeInvalidError) as caught:
        await flow.create(MemoryStore())
    assert len(caught.value.violations) == 2


def test_two_executors_for_one_task_are_refused():
    with pytest.raises(InvalidInputError, match="two executors"):
        TaskBuilder("root").add("a", executor="x", schemas={"method": "y"})


async def test_a_task_runs_for_each_item_of_a_list(adding: None):
    numbers = [item("a"), item("b", default=10), index(1)]
    each = {"items": [{"a": 1, "b": 2}, {"a": 3}]}
    flow = TaskBuilder("nightly").add("sum", executor="test_add", inputs={"numbers": numbers}, for_each=each)
    outcome = await flow.run(MemoryStore())
    assert outcome.results["sum"] == [{"sum": 4}, {"sum": 15}]
    assert item(of="outer") == {"$item": "@", "of": "outer"}
    assert index(of="outer") == {"$index": 0, "of": "outer"}
