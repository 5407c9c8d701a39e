from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from apflow.core.authoring.creator import TaskCreator, check_array
from apflow.core.errors import IdTakenError, InvalidInputError, TreeInvalidError
from apflow.core.extensions.hooks import clear_hooks, register_task_tree_hook
from apflow.core.model.custom_columns import set_task_model_class
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TaskTreeNode
from apflow.core.settings import Settings
from apflow.core.store.base import TaskQuery
from apflow.core.store.memory import MemoryStore


async def test_given_ids_are_kept_while_they_are_free():
    creator = TaskCreator(MemoryStore())
    array = [
        {"id": "a", "name": "a"},
        {"id": "b", "name": "b", "parent_id": "a", "dependencies": ["a"], "inputs": {"x": {"$from": "a"}}},
    ]
    first = await creator.create_task_tree_from_array(array)
    assert first.ids == {"a": "a", "b": "b"}
    second = await creator.create_task_tree_from_array(array)
    new = second.ids
    assert {*new} == {"a", "b"}
    assert {*new.values()}.isdisjoint({"a", "b"})
    child = (await creator.db.get([new["b"]]))[new["b"]]
    assert (child.parent_id, child.root_id) == (new["a"], new["a"])
    assert child.dependencies == [{"id": new["a"], "required": True}]
    assert child.inputs == {"x": {"$from": new["a"]}}


async def test_a_taken_id_can_be_refused_instead():
    creator = TaskCreator(MemoryStore())
    await creator.create_task_tree_from_array([{"id": "b", "name": "b"}])
    with pytest.raises(IdTakenError, match="'b'"):
        await creator.create_task_tree_from_array(
            [{"id": "a", "name": "a"}, {"id": "b", "name": "b", "parent_id": "a"}], on_conflict="error"
        )
    assert await creator.db.get(["a"]) == {}
    with pytest.raises(InvalidInputError, match="on_conflict"):
        await creator.create_task_tree_from_array([{"name": "a"}], on_conflict="ignore")  # type: ignore[arg-type]


async def test_of_two_who_create_the_same_ids_at_once_one_keeps_them():
    creator = TaskCreator(MemoryStore())
    array = [{"id": "a", "name": "a"}, {"id": "b", "name": "b", "parent_id": "a"}]
    nodes = await asyncio.gather(*(creator.create_task_tree_from_array(array) for _ in range(3)))
    assert sum(node.ids == {"a": "a", "b": "b"} for node in nodes) == 1
    assert await creator.db.count(TaskQuery(root_only=True)) == {TaskStatus.PENDING: 3}


async def test_tasks_are_created_and_copied_in_time_in_proportion_to_their_number():
    async def seconds(count: int) -> float:
        creator = TaskCreator(MemoryStore())
        array = [{"name": "r"}, *({"name": f"t{at}", "parent_id": "r"} for at in range(count - 1))]
        started = time.process_time()
        node = await creator.create_task_tree_from_array(array)
        copy = await creator.create_task_copy(node.task, children=True)
        taken = time.process_time() - started
        assert sum(1 for _ in copy.walk()) == count
        return taken

    # Ten times as many tasks; the square of that would be 100.
    few = max([await seconds(1_000) for _ in range(3)])
    assert min([await seconds(10_000) for _ in range(2)]) < 40 * few


async def test_the_node_that_is_returned_equals_what_is_stored():
    creator = TaskCreator(MemoryStore())
    node = await creator.create_task_tree_from_array(
        [{"name": "a"}, {"name": "b", "parent_id": "a"}], user_id="ann"
    )
    stored = await creator.db.tree(node.task.id)
    assert [each.to_dict() for each in stored] == [each.task.to_dict() for each in node.walk()]


@pytest.fixture
def own_columns() -> Iterator[None]:
    class Model:
        @classmethod
        def custom_fields(cls) -> dict[str, Json]:
            return {"project_id": None, "level": 2}

    set_task_model_class(Model)
    yield
    set_task_model_class(None)
    clear_hooks()


async def test_custom_columns_are_keys_of_an_array(own_columns: None):
    creator = TaskCreator(MemoryStore())
    node = await creator.create_task_tree_from_array([{"name": "a", "project_id": "p"}])
    assert (node.task.project_id, node.task.level) == ("p", 2)
    with pytest.raises(TreeInvalidError, match="Did you mean 'project_id'"):
        check_array([{"name": "a", "projct_id": "p"}], Settings())


async def test_hooks_are_told_of_a_new_tree(own_columns: None):
    told: list[tuple[Task, TaskTreeNode]] = []

    def tell(root: Task, tree: TaskTreeNode) -> None:
        told.append((root, tree))

    register_task_tree_hook("on_tree_created", tell)
    node = await TaskCreator(MemoryStore()).create_task_tree_from_array([{"name": "a"}])
    assert told == [(node.task, node)]
