"""A fork runs chosen tasks again with other fields, keeps other results, and leaves the original alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core import BaseTask, TaskService, executor_register
from apflow.core.authoring.copy_plan import plan_fork
from apflow.core.authoring.fork_plan import merged
from apflow.core.errors import InvalidInputError, NotFoundError
from apflow.core.model.task import Json, Task
from apflow.core.store.base import TaskStore
from apflow.core.store.memory import MemoryStore

SIZE = 200
FAILING = 150


@executor_register(override=True)
class Forked(BaseTask):
    """Adds to what the task before it returned, and fails if its inputs say so."""

    id = "forked"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        if inputs.get("fails"):
            raise ValueError("failed as requested")
        return {"value": (inputs.get("before") or 0) + inputs.get("add", 1)}


def chain(size: int, failing: int | None = None) -> list[dict[str, Any]]:
    """A group with tasks of which each depends on the one before."""
    tasks: list[dict[str, Any]] = [{"id": "root", "name": "root"}]
    for at in range(1, size):
        inputs: dict[str, Any] = {"fails": True} if at == failing else {}
        needed = [f"t{at - 1}"] if at > 1 else []
        if needed:
            inputs["before"] = {"$from": needed[0], "path": "value"}
        task = {"id": f"t{at}", "name": f"t{at}", "parent_id": "root", "params": {"executor_id": "forked"}}
        tasks.append(task | {"dependencies": needed, "inputs": inputs})
    return tasks


async def whole(db: TaskStore, root_id: str) -> list[dict[str, Any]]:
    return [task.to_dict() for task in await db.tree(root_id)]


async def test_a_failed_tree_continues_from_its_failed_task_with_other_inputs(db: TaskStore):
    service = TaskService(db)
    root = await service.create(chain(SIZE, FAILING))
    assert (await service.run(root["id"]))["status"] == "failed"
    before = await whole(db, root["id"])

    fork = await service.fork(
        root["id"], from_task_ids=["t150"], overrides={"t150": {"inputs": {"fails": None, "add": 100}}}
    )
    tasks = {task.key: task for task in await db.tree(fork["id"])}
    kept = [task for task in tasks.values() if task.status == "completed"]
    assert [task.result for task in kept] == [{"value": at} for at in range(1, FAILING)]
    assert len(tasks) == SIZE
    assert (await service.run(fork["id"]))["status"] == "completed"
    last = (await db.tree(fork["id"]))[-1]
    assert last.result == {"value": FAILING - 1 + 100 + SIZE - 1 - FAILING}
    assert [(await db.get([task.id]))[task.id].attempts for task in kept] == [0] * (FAILING - 1)
    assert await whole(db, root["id"]) == before


async def test_a_task_that_is_not_the_root_runs_again_itself():
    service = TaskService(MemoryStore())
    root = await service.create(chain(4))
    await service.run(root["id"])
    fork = await service.fork(root["id"] + "/t2")
    assert {child["key"]: child["status"] for child in fork["children"]} == {
        "t1": "completed",
        "t2": "pending",
        "t3": "pending",
    }


async def test_a_fork_of_a_root_runs_what_has_not_completed():
    service = TaskService(MemoryStore())
    root = await service.create(chain(4, failing=2))
    await service.run(root["id"])
    fork = await service.fork(root["id"])
    assert [child["status"] for child in fork["children"]] == ["completed", "pending", "pending"]


async def test_references_in_overrides_may_name_originals_and_keys():
    db = MemoryStore()
    service = TaskService(db)
    root = await service.create(chain(4))
    ids = {task.key: task.id for task in await db.tree(root["id"])}
    for named in (ids["t2"], "t2"):
        inputs = {"before": {"$from": named, "path": "value"}, "add": 5}
        fork = await service.fork(root["id"], overrides={"t3": {"inputs": inputs}})
        assert (await service.run(fork["id"]))["status"] == "completed"
        assert (await db.tree(fork["id"]))[-1].result == {"value": 7}


async def test_without_save_nothing_is_created():
    db = MemoryStore()
    service = TaskService(db)
    root = await service.create(chain(4))
    shown = await service.fork(root["id"], overrides={"t2": {"name": "renamed"}}, save=False)
    assert [each["name"] for each in shown["tasks"]] == ["root", "t1", "renamed", "t3"]
    assert (await service.count())["total"] == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"t2": {"inputz": {}}}, "Did you mean 'inputs'?"),
        ({"t2": {"dependencies": []}}, "a fork cannot override 'dependencies'"),
        ({"t2": {"inputs": 5}}, "inputs"),
        ({"t2": {"priority": "high"}}, "priority"),
        ({"t2": {"policy": {"timeout": -1}}}, "timeout"),
        ({"t2": {"inputs": {"before": {"$from": "t3"}}}}, "t3"),
        ({"t2": {"inputs": {"password": "***"}}}, "overrides.t2.inputs"),
        ({"t2": {}, "root/t2": {}}, "named twice"),
    ],
)
async def test_an_override_that_cannot_be_used_is_refused(overrides: Any, message: str):
    db = MemoryStore()
    service = TaskService(db)
    await service.create(chain(4))
    with pytest.raises(InvalidInputError, match=message.replace("?", r"\?").replace("(", r"\(")):
        await service.fork("root", overrides=overrides)
    assert (await service.count())["total"] == 4


async def test_a_task_that_is_not_of_the_tree_is_refused():
    service = TaskService(MemoryStore())
    await service.create(chain(4))
    await service.create([{"id": "other", "name": "other"}])
    for name in ("other", "t22"):
        with pytest.raises(NotFoundError):
            await service.fork("root", from_task_ids=[name])
        with pytest.raises(NotFoundError):
            await service.fork("root", overrides={name: {}})


async def test_nobody_forks_the_tree_of_another_user():
    db = MemoryStore()
    await TaskService(db, user_id="ann").create(chain(4))
    with pytest.raises(NotFoundError):
        await TaskService(db, user_id="ben").fork("root")


@given(st.data())
def test_what_has_completed_and_does_not_depend_on_a_chosen_task_is_kept(data: st.DataObject):
    size = data.draw(st.integers(1, 12))
    statuses = ("completed", "completed", "failed", "pending", "cancelled")
    tasks = [Task(id="root", name="root", root_id="root", executor="forked", status="completed")]  # type: ignore[arg-type]
    for at in range(size):
        above = data.draw(st.sampled_from([task.id for task in tasks]))
        needed = data.draw(st.sets(st.sampled_from([task.id for task in tasks]), max_size=3))
        task = Task(id=f"t{at}", name="t", root_id="root", executor="forked", parent_id=above)
        task.status = data.draw(st.sampled_from(statuses))  # type: ignore[assignment]
        task.dependencies = [{"id": each, "required": True} for each in sorted(needed)]
        tasks.append(task)
    chosen = data.draw(st.sets(st.sampled_from([task.id for task in tasks]), max_size=2))
    again = set(chosen)
    for task in tasks:  # each comes after what it is below of
        if task.parent_id in again:
            again.add(task.id)
    while (
        more := {task.id for task in tasks if any(each["id"] in again for each in task.dependencies)} - again
    ):
        again |= more
    plan = plan_fork(tasks, chosen)
    assert plan.completed == {task.id for task in tasks if task.status == "completed"} - again
    assert plan.kept == {task.id for task in tasks}


# RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_overrides_are_merged_as_the_standard_says(target: Json, patch: Json, result: Json):
    assert merged(target, patch) == result
