"""What programs that were written for aipartnerupflow rely on. Each test is named after the behaviour."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskRepository,
    TaskTreeNode,
    clear_hooks,
    create_session,
    executor_register,
    get_registry,
    register_task_tree_hook,
)
from apflow.core.errors import ConflictError, IllegalMoveError, InvalidInputError
from apflow.core.service import TaskService
from apflow.core.store import TaskStore


class Steps(BaseTask):
    """Returns its inputs, or fails where it is told to."""

    id = "former_steps"
    calls: list[str] = []

    async def execute(self, inputs: dict[str, Any]) -> Any:
        assert self.task is not None
        Steps.calls.append(self.task.name)
        if inputs.get("fail"):
            raise RuntimeError("asked to")
        return {"name": self.task.name}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    Steps.calls.clear()
    executor_register(Steps, override=True)
    yield
    get_registry().unregister(Steps.id)
    clear_hooks()


@pytest.fixture
def db() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(params=["memory", "duckdb", "postgresql"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[TaskStore]:
    """Each of the stores, empty."""
    if request.param == "memory":
        yield MemoryStore()
        return
    url = f"duckdb:///{tmp_path / 't.duckdb'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    async with create_session(url) as opened:
        yield opened


METHOD = {"method": Steps.id}


# --- add_child ------------------------------------------------------------------------------------


async def test_add_child_of_a_task_that_was_created_without_a_parent_runs_it(store: TaskStore):
    tasks = TaskRepository(store)
    root = await tasks.create_task("root", schemas=METHOD)
    alone = await tasks.create_task("alone", schemas=METHOD)
    grandchild = await tasks.create_task("grandchild", parent_id=alone.id, schemas=METHOD)
    node = TaskTreeNode(root)
    node.add_child(TaskTreeNode(alone))
    done = await TaskManager(store).distribute_task_tree(node)
    assert done["status"] == "completed"
    assert sorted(Steps.calls) == ["alone", "grandchild", "root"]
    stored = {task.id: task for task in await store.tree(root.id)}
    assert stored[alone.id].parent_id == root.id and stored[grandchild.id].parent_id == alone.id
    assert [child.task.name for child in done.children] == ["alone"]
    events = await store.events(root.id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert {event.task_id for event in events if event.type == "task_completed"} == {*stored}
    again = await TaskExecutor().execute_task_by_id(root.id, db_session=store, force=True)
    assert again["status"] == "completed"


async def test_add_child_at_several_levels_with_dependencies_between_the_trees(db: MemoryStore):
    tasks = TaskRepository(db)
    first = await tasks.create_task("first", schemas=METHOD)
    second = await tasks.create_task("second", schemas=METHOD, dependencies=[first.id])
    third = await tasks.create_task("third", schemas=METHOD, dependencies=[{"id": second.id, "required": True}])
    root = TaskTreeNode(await tasks.create_task("root", user_id="ann", dependencies=[third.id], schemas=METHOD))
    middle = TaskTreeNode(second)
    middle.add_child(TaskTreeNode(first))
    root.add_child(middle)
    root.add_child(TaskTreeNode(third))
    done = await TaskManager(db).distribute_task_tree(root)
    assert done["status"] == "completed"
    assert Steps.calls == ["first", "second", "third", "root"]
    assert {task.user_id for task in await db.tree(root.task.id)} == {"ann"}


async def _refused(db: MemoryStore, root: TaskTreeNode, says: str) -> None:
    before = [task.to_dict() for task in await db.tree(root.task.id)]
    with pytest.raises(InvalidInputError, match=says):
        await TaskManager(db).distribute_task_tree(root)
    assert Steps.calls == [] and [task.to_dict() for task in await db.tree(root.task.id)] == before


async def test_add_child_of_what_cannot_join_is_refused_with_the_reason(db: MemoryStore):
    tasks = TaskRepository(db)
    root = await tasks.create_task("root", user_id="ann", schemas=METHOD)
    of_another_user = await tasks.create_task("hers", user_id="eve")
    other = await tasks.create_task("other", user_id="ann")
    inside = await tasks.create_task("inside", parent_id=other.id)
    has_run = await tasks.create_task("has_run", user_id="ann", schemas=METHOD)
    await TaskExecutor().execute_task_by_id(has_run.id, db_session=db)
    Steps.calls.clear()
    never_stored = has_run.copy()
    never_stored.id, never_stored.root_id, never_stored.created_at = "new", root.id, None
    for child, says in [
        (of_another_user, "belongs to user 'eve'"),
        (inside, "not the root of a stored tree"),
        (has_run, "it has run"),
        (never_stored, "not stored"),
    ]:
        node = TaskTreeNode(root)
        node.add_child(TaskTreeNode(child))
        await _refused(db, node, says)


async def test_dependencies_outside_the_tree_are_stored_and_named_when_it_runs(db: MemoryStore):
    tasks = TaskRepository(db)
    other = await tasks.create_task("other", schemas=METHOD)
    root = await tasks.create_task("root", schemas=METHOD, dependencies=[{"id": other.id, "required": True}])
    child = await tasks.create_task("child", parent_id=root.id, schemas=METHOD, dependencies=[other.id])
    assert root.dependencies == [{"id": other.id, "required": True}]
    answer = await TaskExecutor().execute_task_by_id(root.id, db_session=db)
    assert answer["status"] == "failed"
    assert other.id in answer["error"] and "add_child" in answer["error"]
    assert Steps.calls == []
    assert {task.status for task in await db.tree(root.id)} == {"failed"}
    assert (await tasks.get_task_by_id(child.id)).result["error_type"] == "TreeInvalid"


async def test_on_tree_created_is_sent_for_trees_of_create_task_at_their_first_run(db: MemoryStore):
    created: list[tuple[str, int]] = []
    register_task_tree_hook("on_tree_created", lambda root, tree: created.append((root.name, len([*tree.walk()]))))
    tasks = TaskRepository(db)
    root = await tasks.create_task("grown", schemas=METHOD)
    await tasks.create_task("child", parent_id=root.id, schemas=METHOD)
    assert created == []
    await TaskExecutor().execute_task_by_id(root.id, db_session=db)
    await TaskExecutor().execute_task_by_id(root.id, db_session=db, force=True)
    await TaskExecutor().execute_tasks([{"name": "array", "schemas": METHOD}], db_session=db)
    assert created == [("grown", 2), ("array", 1)]


# --- marking by hand ------------------------------------------------------------------------------


async def _tree(db: TaskStore, **first: Any) -> None:
    await TaskCreator(db).create_task_tree_from_array([
        {"id": "g", "name": "group"},
        {"id": "a", "name": "a", "parent_id": "g", "schemas": METHOD, **first},
        {"id": "b", "name": "b", "parent_id": "g", "schemas": METHOD, "dependencies": ["a"]},
    ])  # fmt: skip


async def test_a_pending_task_is_marked_as_completed_and_its_dependents_go_on(store: TaskStore):
    await _tree(store)
    marked = await TaskRepository(store).update_task_status("a", status="completed", result={"n": 1}, by="ann")
    assert (marked.status, marked.result, marked.progress) == ("completed", {"n": 1}, 1.0)
    assert marked.completed_at is not None
    event = (await store.events("g"))[-1]
    assert (event.type, event.task_id, event.data) == ("task_marked", "a", {"by": "ann", "from": "pending"})
    assert event.result == {"n": 1}
    answer = await TaskExecutor().execute_task_by_id("g", db_session=store)
    assert (answer["status"], Steps.calls) == ("completed", ["b"])
    assert (await store.get(["b"]))["b"].status == "completed"


async def test_a_failed_task_is_marked_as_completed_and_its_dependents_go_on(store: TaskStore):
    await _tree(store, inputs={"fail": True})
    assert (await TaskExecutor().execute_task_by_id("g", db_session=store))["status"] == "failed"
    marked = await TaskRepository(store).update_task_status("a", status="completed")
    assert (marked.status, marked.result, marked.error) == ("completed", None, None)
    answer = await TaskExecutor().execute_task_by_id("g", db_session=store)
    assert (answer["status"], Steps.calls) == ("completed", ["a", "b"])
    assert {task.status for task in await store.tree("g")} == {"completed"}


async def test_a_cancelled_task_is_marked_as_completed_and_its_dependents_go_on(store: TaskStore):
    await _tree(store)
    assert (await TaskManager(store).cancel_task("a"))["status"] == "cancelled"
    marked = await TaskRepository(store).update_task_status("a", status="completed", result=[1])
    assert (marked.status, marked.cancel_requested_at) == ("completed", None)
    answer = await TaskExecutor().execute_task_by_id("g", db_session=store)
    assert (answer["status"], Steps.calls) == ("completed", ["b"])


async def test_no_task_is_marked_while_a_run_is_requested_or_when_it_has_completed(db: MemoryStore):
    await _tree(db)
    await TaskService(db).execute("g")
    with pytest.raises(ConflictError, match="a run of its tree is requested"):
        await TaskRepository(db).update_task_status("a", status="completed")
    assert (await db.get(["a"]))["a"].status == "pending"
    await TaskManager(db).cancel_task("g")
    await TaskRepository(db).update_task_status("a", status="completed")
    with pytest.raises(IllegalMoveError):
        await TaskRepository(db).update_task_status("a", status="completed")


async def test_tasks_update_marks_a_task_together_with_other_fields(db: MemoryStore):
    await _tree(db)
    service = TaskService(db, "ann", is_admin=True)
    shown = await service.update("a", name="renamed", status="completed", result={"n": 2})
    assert (shown["name"], shown["status"], shown["result"]) == ("renamed", "completed", {"n": 2})
    event = (await db.events("g"))[-1]
    assert (event.type, event.data) == ("task_marked", {"by": "ann", "from": "pending"})
    with pytest.raises(InvalidInputError, match="only together with a change"):
        await service.update("a", result={"n": 3})
    with pytest.raises(InvalidInputError, match="by hand"):
        await service.update("b", status="failed")
    assert (await service.get("b"))["status"] == "pending"


# --- output is accepted as input ------------------------------------------------------------------


def _without_times(task: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "priority", "inputs", "params", "schemas", "policy", "dependencies", "parent_id")
    return {name: task[name] for name in names}


@pytest.mark.parametrize("outcome", ["pending", "completed", "failed"])
async def test_an_array_of_to_dict_is_accepted_back(db: MemoryStore, outcome: str):
    await _tree(db, inputs={"fail": outcome == "failed"}, priority=1, policy={"timeout": 5})
    if outcome != "pending":
        await TaskExecutor().execute_task_by_id("g", db_session=db)
    Steps.calls.clear()
    array = [task.to_dict() for task in await db.tree("g")]
    fresh = MemoryStore()
    node = await TaskCreator(fresh).create_task_tree_from_array(array)
    created = [each.task.to_dict() for each in node.walk()]
    assert [_without_times(task) for task in created] == [_without_times(task) for task in array]
    is_done = outcome == "completed"
    assert {task["status"] for task in created} == {"completed" if is_done else "pending"}
    if is_done:
        assert [task["result"] for task in created] == [task["result"] for task in array]
    # In the same database the ids are taken: the array gets new ones.
    copied = await TaskCreator(db).create_task_tree_from_array(array)
    assert copied.ids["a"] != "a"


async def test_a_tree_as_tasks_tree_returns_it_is_accepted_back(db: MemoryStore):
    await _tree(db)
    service = TaskService(db)
    again = await service.create([await service.tree("g")])
    assert [child["name"] for child in again["children"]] == ["a", "b"]
    assert again["children"][1]["dependencies"][0]["id"] == again["children"][0]["id"]
    nested = {"name": "r", "children": [{"name": "x", "children": [{"name": "y", "dependencies": ["x"]}]}]}
    by_name = await service.create(nested)
    assert by_name["children"][0]["children"][0]["name"] == "y"


async def test_a_task_as_tasks_get_returns_it_is_accepted_by_tasks_update(db: MemoryStore):
    await _tree(db)
    service = TaskService(db)
    task = await service.get("a")
    from apflow.core.operations import OPERATIONS

    shown = await OPERATIONS["tasks.update"].call(service, task | {"name": "renamed"})
    assert (shown["name"], shown["status"]) == ("renamed", "pending")
    with pytest.raises(InvalidInputError, match="parent_id cannot be changed"):
        await OPERATIONS["tasks.update"].call(service, task | {"parent_id": "b"})
    stored = await db.get(["a"])
    updated = await TaskRepository(db).update_task("a", **(stored["a"].to_dict() | {"priority": 0}))
    assert updated.priority == 0


async def test_a_dependency_by_name_and_its_type_are_accepted_in_arrays(db: MemoryStore):
    array = [
        {"id": "r", "name": "root", "schemas": METHOD},
        {"id": "1", "name": "one", "parent_id": "r", "schemas": METHOD},
        {"id": "2", "name": "two", "parent_id": "r", "schemas": METHOD,
         "inputs": {"x": {"$from": "one"}, "y": {"$from": "1"}},
         "dependencies": [{"name": "one", "type": "result", "required": True}]},
    ]  # fmt: skip
    node = await TaskCreator(db).create_task_tree_from_array(array)
    task = node.children[1].task
    assert task.dependencies == [{"id": "1", "required": True, "name": "one"}]
    assert task.inputs == {"x": {"$from": "1"}, "y": {"$from": "1"}}
    assert (await TaskManager(db).distribute_task_tree(node))["status"] == "completed"
    array[2]["name"] = "one"
    with pytest.raises(InvalidInputError, match="2 tasks of the array have that name"):
        await TaskCreator(MemoryStore()).create_task_tree_from_array(array)


# --- copies ---------------------------------------------------------------------------------------
