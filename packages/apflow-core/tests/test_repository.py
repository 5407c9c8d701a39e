from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from apflow.core.authoring.repository import TaskRepository
from apflow.core.errors import ConflictError, IdTakenError, IllegalMoveError, InvalidInputError, NotFoundError
from apflow.core.model.custom_columns import set_task_model_class
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.store.base import Transition
from apflow.core.store.memory import MemoryStore


@pytest.fixture
def repository() -> TaskRepository:
    return TaskRepository(MemoryStore())


@pytest.fixture
def project_column() -> Iterator[None]:
    class Model:
        @classmethod
        def custom_fields(cls) -> dict[str, Json]:
            return {"project_id": None}

    set_task_model_class(Model)
    yield
    set_task_model_class(None)


async def request_run(repository: TaskRepository, root: Task, scope: list[str] | None = None) -> None:
    sets = {"run_requested_at": utc_now(), "run_scope": scope}
    await repository.store.move([Transition(root.id, root.id, {}, sets)])


async def test_a_created_task_is_a_root_with_all_that_was_said_of_it(repository: TaskRepository):
    task = await repository.create_task(
        name="fetch",
        user_id="ann",
        priority=0,
        inputs={"url": "http://x"},
        schemas={"method": "rest_executor"},
    )
    stored = await repository.get_task_by_id(task.id)
    assert stored is not None
    assert (stored.root_id, stored.priority, stored.user_id) == (task.id, 0, "ann")
    assert stored.inputs == {"url": "http://x"}
    assert stored.status == "pending"
    assert stored.created_at is not None


async def test_a_child_joins_the_tree_and_the_user_of_its_parent(repository: TaskRepository):
    root = await repository.create_task("root", user_id="ann")
    child = await repository.create_task("child", parent_id=root.id, dependencies=[root.id])
    assert (child.root_id, child.user_id, child.position) == (root.id, "ann", 1)
    assert child.dependencies == [{"id": root.id, "required": True}]
    tree = await repository.build_task_tree(root)
    assert [node.task.name for node in tree.walk()] == ["root", "child"]
    assert tree.task.has_children


async def test_every_fault_of_a_task_is_named_at_once(repository: TaskRepository):
    with pytest.raises(InvalidInputError) as caught:
        await repository.create_task("", priority=True, policy={"timeot": 3}, colour="red")
    assert len(caught.value.violations) == 4
    assert "Did you mean 'timeout'?" in str(caught.value)
    assert await repository.list_tasks() == []


async def test_a_parent_must_exist(repository: TaskRepository):
    with pytest.raises(NotFoundError):
        await repository.create_task("child", parent_id="nobody")


async def test_dependencies_must_exist_and_may_join_the_tree_later(repository: TaskRepository):
    root, other = await repository.create_task("root"), await repository.create_task("other")
    child = await repository.create_task("child", parent_id=root.id, dependencies=[{"id": other.id}])
    assert child.dependencies == [{"id": other.id, "required": True}]
    with pytest.raises(InvalidInputError, match="does not exist"):
        await repository.create_task("child", parent_id=root.id, dependencies=["nobody"])
    alone = await repository.create_task("alone", dependencies=[root.id])
    assert alone.dependencies == [{"id": root.id, "required": True}]


async def test_a_dependency_may_be_given_by_a_name_that_is_unique_in_the_tree(repository: TaskRepository):
    root = await repository.create_task("root")
    first = await repository.create_task("first", parent_id=root.id)
    needed = {"name": "first", "type": "result", "required": False}
    second = await repository.create_task("second", parent_id=root.id, dependencies=[needed])
    assert second.dependencies == [{"id": first.id, "required": False, "name": "first"}]
    third = await repository.create_task("third", parent_id=root.id)
    changed = await repository.update_task(third.id, dependencies=[{"name": "second"}])
    assert [each["id"] for each in changed.dependencies] == [second.id]
    await repository.create_task("first", parent_id=root.id)
    with pytest.raises(InvalidInputError, match="2 tasks of the tree have that name"):
        await repository.update_task(third.id, dependencies=[{"name": "first"}])
    with pytest.raises(InvalidInputError, match="no task of the tree has that name"):
        await repository.create_task("x", parent_id=root.id, dependencies=[{"name": "nobody"}])
    with pytest.raises(InvalidInputError, match="Use its id"):
        await repository.create_task("x", dependencies=[{"name": "first"}])


async def test_an_id_can_be_chosen_once(repository: TaskRepository):
    assert (await repository.create_task("a", id="mine")).id == "mine"
    with pytest.raises(IdTakenError):
        await repository.create_task("b", id="mine")


async def test_inputs_may_only_refer_to_declared_dependencies(repository: TaskRepository):
    root = await repository.create_task("root")
    with pytest.raises(InvalidInputError, match="Add it to dependencies"):
        await repository.create_task("child", parent_id=root.id, inputs={"x": {"$from": root.id}})
    await repository.create_task(
        "child", parent_id=root.id, dependencies=[root.id], inputs={"x": {"$from": root.id}}
    )


async def test_no_task_joins_a_tree_whose_run_is_requested(repository: TaskRepository):
    root = await repository.create_task("root")
    await request_run(repository, root)
    with pytest.raises(ConflictError, match="run of the tree is requested"):
        await repository.create_task("child", parent_id=root.id)


async def test_custom_columns_are_stored_and_readable(repository: TaskRepository, project_column: None):
    task = await repository.create_task("a", project_id="p1")
    assert task.project_id == "p1"
    assert (await repository.update_task(task.id, project_id="p2")).project_id == "p2"
    assert [each.id for each in await repository.list_tasks(project_id="p2")] == [task.id]


async def test_fields_are_updated_together_or_not_at_all(repository: TaskRepository):
    task = await repository.create_task("a")
    updated = await repository.update_task(task.id, name="b", priority=0, inputs={"n": 1})
    assert (updated.name, updated.priority, updated.inputs) == ("b", 0, {"n": 1})
    with pytest.raises(InvalidInputError) as caught:
        await repository.update_task(task.id, name="c", priority="high", parent_id="x", inptus={})
    assert len(caught.value.violations) == 3
    unchanged = await repository.get_task_by_id(task.id)
    assert unchanged is not None
    assert unchanged.name == "b"


async def test_each_field_has_its_own_method(repository: TaskRepository):
    task = await repository.create_task("a")
    await repository.update_task_inputs(task.id, {"n": 1})
    await repository.update_task_name(task.id, "b")
    await repository.update_task_priority(task.id, 3)
    await repository.update_task_params(task.id, {"executor_id": "x"})
    await repository.update_task_policy(task.id, {"timeout": 5, "retry": {"max_attempts": 2}})
    updated = await repository.update_task_schemas(task.id, {"method": "y"})
    assert (updated.inputs, updated.name, updated.priority) == ({"n": 1}, "b", 3)
    assert (updated.params, updated.schemas) == ({"executor_id": "x"}, {"method": "y"})
    assert updated.policy == {"timeout": 5, "retry": {"max_attempts": 2}}


async def test_a_requested_run_leaves_only_the_name_to_change(repository: TaskRepository):
    root = await repository.create_task("root")
    await request_run(repository, root)
    with pytest.raises(ConflictError, match="run of its tree is requested"):
        await repository.update_task_inputs(root.id, {})
    assert (await repository.update_task_name(root.id, "other")).name == "other"


async def test_tasks_outside_the_scope_of_a_run_can_change(repository: TaskRepository):
    root = await repository.create_task("root")
    inside = await repository.create_task("inside", parent_id=root.id)
    outside = await repository.create_task("outside", parent_id=root.id)
    await request_run(repository, root, scope=[inside.id])
    assert (await repository.update_task_priority(outside.id, 0)).priority == 0
    with pytest.raises(ConflictError):
        await repository.update_task_priority(inside.id, 0)


async def test_a_task_in_progress_keeps_its_inputs(repository: TaskRepository):
    task = await repository.create_task("a")
    await repository.update_task_status(task.id, "in_progress")
    with pytest.raises(ConflictError, match="in progress"):
        await repository.update_task_inputs(task.id, {})


async def test_dependencies_change_only_while_pending_and_without_circles(repository: TaskRepository):
    root = await repository.create_task("root")
    first = await repository.create_task("first", parent_id=root.id)
    second = await repository.create_task("second", parent_id=root.id, dependencies=[first.id])
    with pytest.raises(InvalidInputError, match="circle"):
        await repository.update_task_dependencies(first.id, [second.id])
    with pytest.raises(InvalidInputError, match="circle"):
        await repository.update_task_dependencies(first.id, [first.id])
    with pytest.raises(InvalidInputError, match="not a task of this tree"):
        await repository.update_task_dependencies(first.id, ["nobody"])
    updated = await repository.update_task_dependencies(second.id, [{"id": root.id, "required": False}])
    assert updated.dependencies == [{"id": root.id, "required": False}]
    await repository.update_task_status(second.id, "in_progress")
    with pytest.raises(ConflictError, match="only while it is pending"):
        await repository.update_task_dependencies(second.id, [])
    with pytest.raises(ConflictError, match="depends on it and is in progress"):
        await repository.update_task_dependencies(root.id, [])


async def test_a_dependency_that_inputs_refer_to_cannot_be_dropped(repository: TaskRepository):
    root = await repository.create_task("root")
    child = await repository.create_task(
        "child", parent_id=root.id, dependencies=[root.id], inputs={"x": {"$from": root.id}}
    )
    with pytest.raises(InvalidInputError, match="not a dependency of this task"):
        await repository.update_task_dependencies(child.id, [])


async def test_of_two_updates_that_would_make_a_circle_one_wins(repository: TaskRepository):
    root = await repository.create_task("root")
    a = await repository.create_task("a", parent_id=root.id)
    b = await repository.create_task("b", parent_id=root.id)
    answers = await asyncio.gather(
        repository.update_task_dependencies(a.id, [b.id]),
        repository.update_task_dependencies(b.id, [a.id]),
        return_exceptions=True,
    )
    assert sorted(isinstance(each, Exception) for each in answers) == [False, True]


async def test_a_status_follows_the_table_of_moves(repository: TaskRepository):
    task = await repository.create_task("a")
    started = await repository.update_task_status(task.id, TaskStatus.IN_PROGRESS, progress=0.5)
    assert started.started_at is not None
    assert started.progress == 0.5
    done = await repository.update_task_status(task.id, "completed", result={"n": 1})
    assert (done.progress, done.result) == (1.0, {"n": 1})
    assert done.completed_at is not None
    with pytest.raises(IllegalMoveError):
        await repository.update_task_status(task.id, "failed")
    with pytest.raises(InvalidInputError, match="no status 'done'"):
        await repository.update_task_status(task.id, "done")


async def test_a_task_that_goes_back_to_pending_forgets_what_it_did(repository: TaskRepository):
    task = await repository.create_task("a")
    await repository.update_task_status(task.id, "in_progress")
    await repository.update_task_status(task.id, "failed", error="boom", result={"error_type": "X"})
    again = await repository.update_task_status(task.id, "pending")
    assert (again.status, again.error, again.result, again.progress) == ("pending", None, None, 0.0)
    assert (again.started_at, again.completed_at, again.generation) == (None, None, 1)
    events = await repository.store.events(task.id)
    assert [event.type for event in events] == ["task_created", "task_started", "task_failed", "task_reset"]


async def test_relatives_are_found(repository: TaskRepository):
    root = await repository.create_task("root")
    child = await repository.create_task("child", parent_id=root.id)
    grandchild = await repository.create_task("grandchild", parent_id=child.id, dependencies=[child.id])
    below = await repository.get_all_children_recursive(root.id)
    assert [task.name for task in below] == ["child", "grandchild"]
    assert [task.id for task in await repository.find_dependent_tasks(child.id)] == [grandchild.id]
    assert (await repository.get_root_task(grandchild)).id == root.id
    part = await repository.build_task_tree(child)
    assert [node.task.name for node in part.walk()] == ["child", "grandchild"]


async def test_tasks_are_listed_by_filters(repository: TaskRepository):
    ann = await repository.create_task("a", user_id="ann")
    await repository.create_task("b", user_id="bob")
    await repository.create_task("c", user_id="ann", parent_id=ann.id)
    assert [task.name for task in await repository.list_tasks(user_id="ann")] == ["a", "c"]
    assert [task.name for task in await repository.list_tasks(root_only=True)] == ["a", "b"]
    assert [task.name for task in await repository.list_tasks(status="pending", limit=1, offset=1)] == ["b"]
    assert await repository.list_tasks(status=["failed", "cancelled"]) == []


async def test_deleting_is_for_good_and_takes_what_is_below_along(repository: TaskRepository):
    root = await repository.create_task("root")
    child = await repository.create_task("child", parent_id=root.id)
    grandchild = await repository.create_task("grandchild", parent_id=child.id)
    assert await repository.delete_task(child.id)
    assert await repository.get_task_by_id(grandchild.id) is None
    assert not await repository.delete_task(child.id)
    left = await repository.get_task_by_id(root.id)
    assert left is not None
    assert not left.has_children


async def test_what_others_depend_on_is_not_deleted(repository: TaskRepository):
    root = await repository.create_task("root")
    a = await repository.create_task("a", parent_id=root.id)
    await repository.create_task("b", parent_id=root.id, dependencies=[a.id])
    with pytest.raises(ConflictError, match="depends on"):
        await repository.delete_task(a.id)
