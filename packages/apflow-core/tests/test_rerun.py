"""Re-executions carried out: whatever a tree was left in, executing any part of it again comes to an end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apflow.core.authoring.creator import TaskCreator
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import TRIGGERS, Task
from apflow.core.planning.rerun import plan_rerun
from apflow.core.store.base import TaskStore
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor


class Scripted(BaseTask):
    id = "test_scripted"
    name = "Scripted"
    description = "Ends as its inputs say: one letter for each generation of the task"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        assert self.task is not None
        script: str = inputs["script"]
        end = script[min(self.task.generation, len(script) - 1)]
        if end == "f":
            raise ValueError("as the script says")
        return {"status": "cancelled"} if end == "x" else {"generation": self.task.generation}


@pytest.fixture(autouse=True, scope="module")
def scripted() -> Iterator[None]:
    executor_register(Scripted())
    yield
    get_registry().unregister("test_scripted")


@st.composite
def arrays(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A tree of groups and scripted tasks; dependencies on tasks outside the groups above only."""
    size = draw(st.integers(2, 9))
    array: list[dict[str, Any]] = [{"id": "t0", "name": "t0"}]
    groups = ["t0"]
    for at in range(1, size):
        above = draw(st.sampled_from(groups))
        tasks = [entry["id"] for entry in array if entry["id"] not in groups]
        needed = draw(st.lists(st.sampled_from(tasks), unique=True, max_size=3)) if tasks else []
        entry: dict[str, Any] = {"id": f"t{at}", "name": f"t{at}", "parent_id": above}
        entry["dependencies"] = [{"id": each, "required": draw(st.booleans())} for each in needed]
        if needed:
            entry["trigger"] = draw(st.sampled_from([None, None, *TRIGGERS]))
            entry["when"] = draw(
                st.sampled_from([None, None, f"{needed[0]} != `null`", "`false`", needed[0]])
            )
        if at < size - 1 and draw(st.integers(0, 3)) == 0:
            groups.append(entry["id"])
            array.append(entry)
            at_least_one = {"id": f"in{at}", "name": f"in{at}", "parent_id": entry["id"]}
            array.append(at_least_one | _scripted(draw))
        else:
            array.append(entry | _scripted(draw))
    return (
        array if len(array) > 1 else [*array, {"id": "a", "name": "a", "parent_id": "t0"} | _scripted(draw)]
    )


def _scripted(draw: st.DrawFn) -> dict[str, Any]:
    script = draw(st.text("cccfx", min_size=1, max_size=3))
    return {"schemas": {"method": "test_scripted"}, "inputs": {"script": script}}


async def run_and_check(db: TaskStore, task_id: str, force: bool) -> None:
    before = await db.tree("t0")
    plan = plan_rerun(before, task_id, force)
    async with asyncio.timeout(30):
        await TaskExecutor().execute_task_by_id(task_id, force=force, db_session=db)
    after = {task.id: task for task in await db.tree("t0")}
    scope = set(after) if plan.scope is None else set(plan.scope)
    assert [each for each in scope if after[each].status not in TERMINAL] == []
    assert after["t0"].run_requested_at is None
    for task in before:
        if task.id not in plan.reset and task.id not in scope:
            assert after[task.id].to_dict() == task.to_dict() | {"has_children": task.has_children}
        generation = task.generation + (task.id in plan.reset)
        assert after[task.id].generation == generation


@given(arrays(), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_executing_any_part_again_ends_and_touches_nothing_else(array: list[dict[str, Any]], data: Any):
    db = MemoryStore()
    await TaskCreator(db).create_task_tree_from_array(array)
    ids = [entry["id"] for entry in array]
    if data.draw(st.booleans()):
        await TaskExecutor().execute_task_by_id("t0", db_session=db)
    for _ in range(3):
        await run_and_check(db, data.draw(st.sampled_from(ids)), data.draw(st.booleans()))


async def tree_after(*runs: tuple[str, bool], array: list[dict[str, Any]]) -> dict[str, Task]:
    db = MemoryStore()
    scripted = [
        entry | {"schemas": {"method": "test_scripted"}} if "inputs" in entry else entry for entry in array
    ]
    await TaskCreator(db).create_task_tree_from_array(scripted)
    for task_id, force in runs:
        await TaskExecutor().execute_task_by_id(task_id, force=force, db_session=db)
    return {task.id: task for task in await db.tree("t0")}


CHAIN: list[dict[str, Any]] = [
    {"id": "t0", "name": "t0"},
    {"id": "a", "name": "a", "parent_id": "t0", "inputs": {"script": "c"}},
    {"id": "b", "name": "b", "parent_id": "t0", "dependencies": ["a"], "inputs": {"script": "fc"}},
    {"id": "c", "name": "c", "parent_id": "t0", "dependencies": ["b"], "inputs": {"script": "c"}},
]


async def test_a_failed_tree_is_completed_by_executing_it_again():
    after = await tree_after(("t0", False), array=CHAIN)
    assert [task.status for task in after.values()] == ["failed", "completed", "failed", "failed"]
    after = await tree_after(("t0", False), ("t0", False), array=CHAIN)
    assert [task.status for task in after.values()] == ["completed"] * 4
    assert after["a"].generation == 0


async def test_a_failed_task_that_is_executed_again_takes_along_what_fell_with_it():
    after = await tree_after(("t0", False), ("b", False), array=CHAIN)
    assert {task.status for task in after.values()} == {TaskStatus.COMPLETED}


async def test_a_part_that_never_ran_runs_with_what_it_needs():
    after = await tree_after(("b", False), ("b", False), array=CHAIN)
    assert [task.status for task in after.values()] == ["pending", "completed", "completed", "pending"]
    after = await tree_after(("b", False), ("b", False), ("c", False), array=CHAIN)
    assert {task.status for task in after.values()} == {TaskStatus.COMPLETED}
