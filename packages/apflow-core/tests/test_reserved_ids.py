"""Words that apflow uses for itself never meet the id of a user's executor."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskCreator, TaskManager, TaskRepository, get_registry
from apflow.core.errors import InvalidInputError
from apflow.core.extensions.registry import executor_is_known
from apflow.core.model.event import EventType
from apflow.core.model.ids import fault_of_extension_id
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, PUBLIC_FIELDS


class Work(BaseTask):
    async def execute(self, inputs: dict[str, Any]) -> Any:
        return {"ran": True}


# Words that the engine, its events, its labels and its keys use.
INTERNAL = sorted({
    "group", "unknown", "none", "None", "null", "root", "tree", "executor_id", "method", "$from", "$secret",
    "*",
    *map(str, TaskStatus), *map(str, EventType), *PUBLIC_FIELDS,
})  # fmt: skip
REFUSED = (GROUP, ":", ":anything", "***", " ", "a\nb", "a\x1b[31m", "\0", " padded", "padded ", "x" * 256)


@pytest.mark.parametrize("executor_id", INTERNAL)
async def test_an_executor_may_have_an_internal_word_as_its_id(executor_id: str):
    db = MemoryStore()
    get_registry().register(Work, executor_id, override=True)
    try:
        assert executor_is_known(executor_id)
        tree: list[dict[str, Any]] = [
            {"id": "r", "name": "root", "params": {"executor_id": executor_id}},
            {"id": "c", "name": executor_id, "parent_id": "r"},
            {"id": "d", "name": "child", "parent_id": "r", "schemas": {"method": executor_id}},
        ]
        node = await TaskCreator(db).create_task_tree_from_array(tree)
        await TaskManager(db).distribute_task_tree(node)
    finally:
        get_registry().unregister(executor_id)
    assert {task.id: task.result for task in await db.tree("r")} == {key: {"ran": True} for key in "rcd"}


@pytest.mark.parametrize("executor_id", REFUSED)
def test_a_reserved_id_is_refused_at_registration(executor_id: str):
    with pytest.raises(InvalidInputError, match="Choose another id"):
        get_registry().register(Work, executor_id)
    assert not executor_is_known(executor_id)


def test_the_marker_of_groups_is_reserved():
    assert fault_of_extension_id(GROUP) is not None


@pytest.mark.parametrize("fields", [
    lambda each: {"schemas": {"method": each}},
    lambda each: {"params": {"executor_id": each}},
])  # fmt: skip
@pytest.mark.parametrize("executor_id", ["", *(each for each in REFUSED if each != "\0")])
async def test_a_reserved_id_is_refused_in_a_task(executor_id: str, fields: Any):
    db = MemoryStore()
    task = {"id": "r", "name": "root", **fields(executor_id)}
    with pytest.raises(InvalidInputError, match="must be the id of an executor"):
        await TaskCreator(db).create_task_tree_from_array([task])
    with pytest.raises(InvalidInputError, match="must be the id of an executor"):
        await TaskRepository(db).create_task(**task)
    await TaskRepository(db).create_task("root", id="r")
    with pytest.raises(InvalidInputError, match="must be the id of an executor"):
        await TaskRepository(db).update_task("r", **fields(executor_id))


async def test_a_task_named_like_the_marker_of_groups_is_not_a_group():
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array([{"id": "r", "name": GROUP}])
    await TaskManager(db).distribute_task_tree(node)
    stored = (await db.get(["r"]))["r"]
    assert (stored.status, stored.result["error_type"]) == ("failed", "ExecutorNotFound")
