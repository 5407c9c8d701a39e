"""What the seed documents promise in words, one test each, on a DuckDB file."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from apflow.core import BaseTask, TaskCreator, TaskManager, TaskTreeNode, create_session, executor_register
from apflow.core.model.task import Task
from apflow.core.store.base import TaskStore

SEEN: list[dict[str, Any]] = []  # the inputs of each call, in order


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[TaskStore]:
    SEEN.clear()
    async with create_session(f"duckdb:///{tmp_path / 'promises.duckdb'}") as store:
        yield store


class Seeing(BaseTask):
    """Writes down its inputs and returns what `answer` says."""

    answer: Any = None

    async def execute(self, inputs: dict[str, Any]) -> Any:
        SEEN.append(inputs)
        return self.answer if self.answer is not None else {"status": "completed"}


def executor(name: str, **attributes: Any) -> None:
    """Register an executor that sees, with these attributes."""
    executor_register(executor_id=name, override=True)(type(name, (Seeing,), {"id": name, **attributes}))


async def run(db: TaskStore, name: str, inputs: dict[str, Any] | None = None, **hooks: Any) -> Task:
    """Run a tree of one task and return the task."""
    manager = TaskManager(db, **hooks)
    task = await manager.task_repository.create_task(name=name, inputs=inputs or {})
    await manager.distribute_task_tree(TaskTreeNode(task))
    done = await manager.task_repository.get_task_by_id(task.id)
    assert done is not None
    return done


async def test_a_returned_failed_dict_fails_the_task_and_is_kept(db: TaskStore):
    answer = {"status": "failed", "error": "no power", "error_type": "power_error", "volts": 0}
    executor("returns_failed", answer=answer)
    task = await run(db, "returns_failed")
    assert (task.status, task.error, task.result) == ("failed", "no power", answer)


async def test_a_returned_cancelled_dict_cancels_the_task(db: TaskStore):
    executor("returns_cancelled", answer={"status": "cancelled", "message": "not needed"})
    assert (await run(db, "returns_cancelled")).status == "cancelled"


async def test_an_exception_fails_the_task_with_its_class_as_type(db: TaskStore):
    async def execute(self: Any, inputs: Any) -> None:
        raise LookupError("no such row")

    executor("raises", execute=execute)
    task = await run(db, "raises")
    assert (task.status, task.error) == ("failed", "no such row")
    assert task.result["error_type"] == "LookupError"


async def test_defaults_of_the_schema_are_used(db: TaskStore):
    properties = {"url": {"type": "string"}, "timeout": {"type": "integer", "default": 30}}
    executor("has_defaults", inputs_schema={"type": "object", "properties": properties, "required": ["url"]})
    assert (await run(db, "has_defaults", {"url": "x"})).status == "completed"
    assert SEEN == [{"url": "x", "timeout": 30}]


async def test_inputs_are_validated_before_the_executor_is_called(db: TaskStore):
    properties = {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}}
    executor("validates", inputs_schema={"type": "object", "properties": properties, "required": ["name"]})
    task = await run(db, "validates", {"age": -1})
    assert (task.status, task.result["error_type"]) == ("failed", "ValidationError")
    assert "name" in (task.error or "")
    assert "age" in (task.error or "")
    assert SEEN == []


async def test_inputs_are_validated_by_a_pydantic_model(db: TaskStore):
    class Inputs(BaseModel):
        data: str
        count: int = 10

    executor("validates_by_model", inputs_schema=Inputs)
    assert (await run(db, "validates_by_model", {"data": "x"})).status == "completed"
    assert (await run(db, "validates_by_model", {"data": "x", "count": "many"})).status == "failed"
    assert SEEN == [{"data": "x", "count": 10}]


async def test_a_cancellation_reaches_the_running_code(db: TaskStore):
    told: list[str] = []
    is_called = asyncio.Event()

    async def execute(self: Any, inputs: Any) -> dict[str, Any]:
        is_called.set()
        while not self.cancellation_checker():  # noqa: ASYNC110 - the checker is all that it knows
            await asyncio.sleep(0)
        told.append("checker")
        return {"status": "cancelled", "message": "Task was cancelled"}

    async def cancel(self: Any) -> dict[str, Any]:
        told.append("cancel")
        return {"status": "cancelled", "token_usage": {"total_tokens": 7}}

    executor("can_be_cancelled", execute=execute, cancel=cancel, cancelable=True)
    manager = TaskManager(db)
    task = await manager.task_repository.create_task(name="can_be_cancelled")
    async with asyncio.TaskGroup() as group:
        group.create_task(manager.distribute_task_tree(TaskTreeNode(task)))
        async for event in manager.subscribe(task.id, after=0):
            if event.type == "task_started":
                await is_called.wait()
                answer = await manager.cancel_task(task.id)
    assert sorted(told) == ["cancel", "checker"]
    assert answer["status"] == "cancelled"
    assert answer["token_usage"] == {"total_tokens": 7}
    cancelled = await manager.task_repository.get_task_by_id(task.id)
    assert cancelled is not None
    assert cancelled.status == "cancelled"


async def test_a_post_hook_sees_failures_and_the_inputs_used(db: TaskStore):
    seen: list[Any] = []

    async def hook(task: Task, inputs: Any, result: Any) -> None:
        seen.append((task.status, inputs, result))

    answer = {"status": "failed", "error": "no power"}
    executor("fails_for_hooks", answer=answer)
    await run(db, "fails_for_hooks", {"n": 1}, post_hooks=[hook])
    assert seen == [("failed", {"n": 1}, answer)]


async def test_a_pre_hook_changes_the_inputs_of_the_call_and_not_the_stored_ones(db: TaskStore):
    async def hook(task: Task) -> None:
        task.inputs["added"] = True

    executor("is_prepared")
    task = await run(db, "is_prepared", {"n": 1}, pre_hooks=[hook])
    assert SEEN == [{"n": 1, "added": True}]
    assert task.inputs == {"n": 1}


async def test_an_empty_input_is_filled_from_the_dependency_that_has_it(db: TaskStore):
    properties = {"data": {"type": "array"}, "left": {"type": "array"}}
    executor("fetches", answer={"data": [1, 2, 3], "left": [4]})
    executor("processes", inputs_schema={"type": "object", "properties": properties, "required": ["data"]})
    array = [
        {"id": "all", "name": "all"},
        {"id": "one", "name": "fetches", "parent_id": "all"},
        {
            "id": "two",
            "name": "processes",
            "parent_id": "all",
            "dependencies": ["one"],
            "inputs": {"data": []},
        },
    ]
    tree = await TaskCreator(db).create_task_tree_from_array(array)
    result = await TaskManager(db).distribute_task_tree(tree)
    assert result["status"] == "completed"
    assert SEEN[1] == {"data": [1, 2, 3], "one": {"data": [1, 2, 3], "left": [4]}}


async def test_the_most_urgent_priority_is_zero(db: TaskStore):
    executor("is_ordered", max_concurrency=1)
    array: list[dict[str, Any]] = [{"id": "all", "name": "all"}]
    for priority in (3, 1, 0, 2):
        more = {"priority": priority, "inputs": {"priority": priority}}
        array.append({"id": f"p{priority}", "name": "is_ordered", "parent_id": "all", **more})
    tree = await TaskCreator(db).create_task_tree_from_array(array)
    await TaskManager(db).distribute_task_tree(tree)
    assert [inputs["priority"] for inputs in SEEN] == [0, 1, 2, 3]


async def test_two_runs_at_once_share_no_state(db: TaskStore):
    meeting = asyncio.Barrier(2)

    async def execute(self: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        self.number = inputs["number"]
        async with asyncio.timeout(30):
            await meeting.wait()
        return {"number": self.number}

    executor("keeps_state", execute=execute)
    tasks = await asyncio.gather(*(run(db, "keeps_state", {"number": number}) for number in (1, 2)))
    assert [task.result for task in tasks] == [{"number": 1}, {"number": 2}]
