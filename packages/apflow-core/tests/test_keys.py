"""Keys: what people call a task within its tree, whatever its id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.authoring.creator import TaskCreator
from apflow.core.authoring.keys import unique_keys
from apflow.core.authoring.repository import TaskRepository
from apflow.core.errors import InvalidInputError, TreeInvalidError
from apflow.core.manager import TaskManager
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TaskTreeNode
from apflow.core.store.base import TaskQuery
from apflow.core.store.memory import MemoryStore

BILL: list[dict[str, Json]] = [
    {"id": "bill", "name": "sum"},
    {"id": "apples", "name": "price", "parent_id": "bill"},
    {"id": "pears", "name": "price", "parent_id": "bill", "dependencies": ["apples"]},
]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def keys(node: TaskTreeNode) -> list[str]:
    return [each.task.key for each in node.walk()]


async def test_an_id_that_is_kept_is_the_key(store: MemoryStore):
    node = await TaskCreator(store).create_task_tree_from_array(BILL)
    assert keys(node) == ["bill", "apples", "pears"] == [each.task.id for each in node.walk()]
    assert node.to_dict()["children"][0]["key"] == "apples"


async def test_given_ids_stay_visible_as_keys_when_the_ids_are_taken(store: MemoryStore):
    creator = TaskCreator(store)
    await creator.create_task_tree_from_array(BILL)
    second = await creator.create_task_tree_from_array(BILL)
    assert keys(second) == ["bill", "apples", "pears"]
    assert {each.task.id for each in second.walk()}.isdisjoint({"bill", "apples", "pears"})
    [stored] = await store.find(TaskQuery(root_id=second.task.id, key="pears"))
    assert stored.dependencies[0]["id"] == second.ids["apples"]


async def test_names_are_the_keys_where_they_are_the_references(store: MemoryStore):
    array = [{"name": "sum"}, {"name": "price", "parent_id": "sum"}, {"name": "price", "parent_id": "sum"}]
    node = await TaskCreator(store).create_task_tree_from_array(array)
    assert keys(node) == ["sum", "price", "price-2"]


async def test_an_idempotency_key_keeps_the_keys(store: MemoryStore):
    creator = TaskCreator(store)
    node = await creator.create_task_tree_from_array(BILL, idempotency_key="once")
    again = await creator.create_task_tree_from_array(BILL, idempotency_key="once")
    assert keys(node) == keys(again) == ["bill", "apples", "pears"]


async def test_copies_keep_keys(store: MemoryStore):
    creator = TaskCreator(store)
    node = await creator.create_task_tree_from_array(BILL)
    copy = await creator.create_task_copy(node.task)
    assert keys(copy) == keys(await creator.create_task_copy(copy.task)) == ["bill", "apples", "pears"]


@pytest.mark.parametrize("save_form", ["array", "tree"])
async def test_what_apflow_returns_creates_tasks_with_the_same_keys(store: MemoryStore, save_form: str):
    creator = TaskCreator(store)
    copy = await creator.create_task_copy((await creator.create_task_tree_from_array(BILL)).task)
    array = (
        await creator.create_task_copy(copy.task, save=False) if save_form == "array" else [copy.to_dict()]
    )
    assert isinstance(array, list)
    assert keys(await creator.create_task_tree_from_array(array)) == ["bill", "apples", "pears"]


async def test_two_tasks_of_an_array_cannot_have_one_key(store: MemoryStore):
    array = [{"id": "a", "name": "a"}, {"id": "b", "name": "b", "parent_id": "a", "key": "a"}]
    with pytest.raises(TreeInvalidError, match=r"tasks\[1\] \('b'\): key 'a' is that of tasks\[0\]"):
        await TaskCreator(store).create_task_tree_from_array(array)
    with pytest.raises(TreeInvalidError, match="key must be text that is not empty, not 7"):
        await TaskCreator(store).create_task_tree_from_array([{"name": "a", "key": 7}])
    assert await store.count(TaskQuery()) == {}


async def test_a_single_task_cannot_take_the_key_of_another_one_of_its_tree(store: MemoryStore):
    repository = TaskRepository(store)
    creator = TaskCreator(store)
    copy = await creator.create_task_copy((await creator.create_task_tree_from_array(BILL)).task)
    added = await repository.create_task("plums", parent_id=copy.task.id, key="plums")
    assert (added.key, added.id != "plums") == ("plums", True)
    with pytest.raises(InvalidInputError, match="key 'plums' is that of task 'plums'"):
        await repository.create_task("more plums", parent_id=copy.task.id, id="plums")
    with pytest.raises(InvalidInputError, match="key 'apples' is that of task 'price'"):
        await repository.create_task("more", parent_id=copy.task.id, key="apples")


async def test_a_key_cannot_be_changed(store: MemoryStore):
    await TaskCreator(store).create_task_tree_from_array(BILL)
    repository = TaskRepository(store)
    assert (await repository.update_task("apples", key="apples", name="fruit")).name == "fruit"
    with pytest.raises(InvalidInputError, match="key cannot be changed"):
        await repository.update_task("apples", key="plums")


async def test_a_tree_that_joins_another_one_gets_keys_that_are_free_there(store: MemoryStore):
    creator = TaskCreator(store)
    bill = await creator.create_task_tree_from_array(BILL)
    other = await creator.create_task_copy(bill.task)
    bill.add_child(other)
    await TaskManager(store).distribute_task_tree(bill)
    joined = {task.id: task.key for task in await store.tree("bill")}
    assert [joined[each.task.id] for each in other.walk()] == ["bill-2", "apples-2", "pears-2"]


async def test_events_name_the_key(store: MemoryStore):
    creator = TaskCreator(store)
    copy = await creator.create_task_copy((await creator.create_task_tree_from_array(BILL)).task)
    await TaskManager(store).distribute_task_tree(copy)
    events = [event.to_dict() for event in await store.events(copy.task.id)]
    by_id = {each.task.id: each.task.key for each in copy.walk()}
    assert {(each["task_id"], each["key"]) for each in events} == set(by_id.items())


async def test_tasks_of_a_copy_refer_to_each_other_by_keys(store: MemoryStore):
    creator, repository = TaskCreator(store), TaskRepository(store)
    copy = await creator.create_task_copy((await creator.create_task_tree_from_array(BILL)).task)
    real = {each.task.key: each.task.id for each in copy.walk()}
    inputs = {"price": {"$from": "apples"}}
    updated = await repository.update_task(real["pears"], inputs=inputs)
    assert updated.inputs == {"price": {"$from": real["apples"]}}
    updated = await repository.update_task(
        real["bill"], dependencies=["pears"], inputs={"x": {"$from": "pears"}}
    )
    assert updated.dependencies == [{"id": real["pears"], "required": True}]
    added = await repository.create_task(
        "plums", parent_id=real["bill"], dependencies=["apples"], inputs={"price": {"$from": "apples"}}
    )
    assert added.dependencies == [{"id": real["apples"], "required": True}]
    assert added.inputs == {"price": {"$from": real["apples"]}}
    with pytest.raises(InvalidInputError, match="is named twice, also by its key"):
        await repository.update_task(real["bill"], dependencies=["pears", real["pears"]])


@given(
    st.lists(st.sampled_from(["a", "a-2", "a-3", "b", "x" * 300, "x" * 301])), st.sets(st.sampled_from("ab"))
)
def test_keys_of_names_are_unique_and_stay_the_names_where_they_can(names: list[str], taken: set[str]):
    found = unique_keys(names, taken)
    assert len({*found, *taken}) == len(found) + len(taken)
    assert all(len(key) <= 255 for key in found)
    for name in {*names} - taken:
        assert len(name) > 255 or found[names.index(name)] == name


def test_a_task_without_a_given_key_has_its_id():
    assert Task(id="x", name="x", root_id="x").key == "x"
