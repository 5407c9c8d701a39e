"""Naming tasks by a path: `bill/apples`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from apflow.core.authoring.creator import TaskCreator
from apflow.core.authoring.repository import TaskRepository
from apflow.core.errors import AmbiguousTaskError, NotFoundError
from apflow.core.model.ids import is_generated
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TaskTreeNode
from apflow.core.service.error_json import data_of, error_from
from apflow.core.service.task_service import TaskService
from apflow.core.store.memory import MemoryStore

BILL: list[dict[str, Json]] = [
    {"name": "bill"},
    {"name": "apples", "parent_id": "bill"},
    {"name": "pears", "parent_id": "bill", "dependencies": ["apples"]},
]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def make_bill(store: MemoryStore, user_id: str | None = None) -> TaskTreeNode:
    return await TaskCreator(store).create_task_tree_from_array(BILL, user_id=user_id)


def task_of(node: TaskTreeNode, key: str) -> Task:
    return next(each.task for each in node.walk() if each.task.key == key)


Call = Callable[[TaskService, str], Awaitable[Json]]
CALLS: dict[str, Call] = {
    "get": lambda service, name: service.get(name),
    "tree": lambda service, name: service.tree(name),
    "children": lambda service, name: service.children(name),
    "update": lambda service, name: service.update(name, priority=1),
    "copy": lambda service, name: service.copy(name),
    "copy of some": lambda service, name: service.copy(name, copy_mode="custom", custom_task_ids=[name]),
    "delete": lambda service, name: service.delete(name),
    "cancel": lambda service, name: service.cancel([name]),
    "status": lambda service, name: service.status([name]),
    "why": lambda service, name: service.why(name),
    "attempts": lambda service, name: service.attempts(name),
    "webhooks": lambda service, name: service.webhooks(name),
    "execute": lambda service, name: service.execute(name),
    "run": lambda service, name: service.run(name),
    "resume": lambda service, name: service.resume([name]),
    "list copies": lambda service, name: service.list(original_task_id=name),
    "list after": lambda service, name: service.list(cursor=name),
    "follow": lambda service, name: service.follow(name),
    "find_id": lambda service, name: service.find_id(name),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_path_is_accepted_wherever_an_id_is(store: MemoryStore, call: Call):
    await make_bill(store)
    by_path = await call(TaskService(store), "bill/pears")
    other = MemoryStore()
    by_id = await call(TaskService(other), task_of(await make_bill(other), "pears").id)
    assert shape_of(by_path) == shape_of(by_id)
    assert "not_found" not in repr(by_path)


def shape_of(value: Json) -> Json:
    """Return the structure of a result, without its values."""
    if isinstance(value, dict):
        members = cast("dict[str, Json]", value)
        return {"ID" if is_generated(name) else name: shape_of(each) for name, each in members.items()}
    if isinstance(value, list | tuple):
        return [shape_of(each) for each in cast("list[Json]", value)]
    return type(value).__name__


async def test_the_root_may_be_named_by_its_id_or_its_key(store: MemoryStore):
    bill = await make_bill(store)
    service = TaskService(store)
    apples = task_of(bill, "apples").id
    for path in ("bill/apples", f"{bill.task.id}/apples", f"bill/{apples}", f"{bill.task.id}/{apples}"):
        assert (await service.get(path))["id"] == apples
    assert (await service.get("bill/bill"))["id"] == bill.task.id
    assert (await TaskRepository(store).find_task("bill/apples")).id == apples


async def test_a_path_that_several_trees_have_is_refused_with_the_candidates(store: MemoryStore):
    first, second = await make_bill(store), await make_bill(store)
    ids = {task_of(first, "apples").id, task_of(second, "apples").id}
    with pytest.raises(AmbiguousTaskError, match=r"'bill/apples' matches 2 tasks: .*created 20") as caught:
        await TaskService(store).get("bill/apples")
    assert {*caught.value.task_ids} == ids
    assert all(each in str(caught.value) for each in ids)
    again = error_from(str(caught.value), data_of(caught.value))
    assert isinstance(again, AmbiguousTaskError)
    assert again.task_ids == caught.value.task_ids
    assert (await TaskService(store).get(f"{second.task.id}/apples"))["id"] == task_of(second, "apples").id


async def test_a_deleted_tree_is_not_replaced_by_another_one_of_its_key(store: MemoryStore):
    array = [{"id": "bill", "name": "bill"}]
    creator, service = TaskCreator(store), TaskService(store)
    await creator.create_task_tree_from_array(array)
    copy = await creator.create_task_tree_from_array(array)
    await service.delete("bill")
    with pytest.raises(NotFoundError):
        await service.delete("bill")  # as a client does whose first answer was lost
    assert (await service.get("bill/bill"))["id"] == copy.task.id


async def test_an_unknown_key_is_answered_with_the_nearest_one(store: MemoryStore):
    await make_bill(store)
    with pytest.raises(
        NotFoundError, match=r"Tree 'bill' \(.*\) has no task 'appels'\. Did you mean 'apples'\?"
    ):
        await TaskService(store).get("bill/appels")
    for path in ("bil/apples", "/apples", "bill/", "//", "bill//apples", "x/" * 500):
        with pytest.raises(NotFoundError):
            await TaskService(store).get(path)


async def test_ids_and_keys_may_contain_slashes(store: MemoryStore):
    array = [{"id": "2030/bill", "name": "x"}, {"id": "a/b", "name": "y", "parent_id": "2030/bill"}]
    await TaskCreator(store).create_task_tree_from_array(array)
    copy = await TaskCreator(store).create_task_copy((await store.get(["2030/bill"]))["2030/bill"])
    service = TaskService(store)
    assert (await service.get("2030/bill"))["id"] == "2030/bill"
    assert (await service.get(f"{copy.task.id}/a/b"))["id"] == task_of(copy, "a/b").id
    await service.delete("2030/bill")
    assert (await service.get("2030/bill/a/b"))["id"] == task_of(copy, "a/b").id


async def test_paths_name_no_task_of_another_user(store: MemoryStore):
    await make_bill(store, "ann")
    mine = await make_bill(store, "bob")
    bob = TaskService(store, "bob")
    assert (await bob.get("bill/apples"))["id"] == task_of(mine, "apples").id
    eve = TaskService(store, "eve")
    with pytest.raises(NotFoundError) as foreign:
        await eve.get("bill/apples")
    with pytest.raises(NotFoundError) as missing:
        await eve.get("bull/apples")
    assert str(foreign.value) == str(missing.value).replace("bull", "bill")


async def test_people_may_shorten_the_id_of_the_root_and_leave_out_the_key_of_a_root(store: MemoryStore):
    bill = await make_bill(store)
    service = TaskService(store)
    assert await service.find_id("bill") == bill.task.id
    assert await service.find_id(f"{bill.task.id[:8]}/apples") == task_of(bill, "apples").id
    await make_bill(store)
    with pytest.raises(AmbiguousTaskError, match="'bill' matches 2 tasks"):
        await service.find_id("bill")
    assert await service.find_id("apples") == "apples"  # the key of no root, and too short for an id


async def test_a_generated_id_is_no_key_of_a_copy(store: MemoryStore):
    repository = TaskRepository(store)
    root = await repository.create_task("bill")
    await repository.create_task("apples", parent_id=root.id)
    copy = await TaskCreator(store).create_task_copy(root)
    assert [each.task.key for each in copy.walk()] == [each.task.id for each in copy.walk()]
