"""The records of a task's attempts: which are kept, what they say, and how they are numbered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    executor_register,
    get_registry,
)
from apflow.core.engine.recovery import recover
from apflow.core.model.attempt import TaskAttempt, all_attempts
from apflow.core.model.status import TaskStatus
from apflow.core.process.traceback_text import MAX_TRACEBACK
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import Change, TaskStore, Transition

ONCE_MORE = {"retry": {"max_attempts": 2, "delay": 0.001}}


class Tries(BaseTask):
    """Fails as often as `fails` says, in each execution."""

    id = "test_tries"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        if self.attempts <= inputs.get("fails", 0):
            self.look_up(inputs.get("message", "stock"))
        if inputs.get("do") == "wait":
            await asyncio.Event().wait()
        return {"done": True}

    def look_up(self, what: str) -> None:
        try:
            {}[what]
        except KeyError as error:
            raise ValueError(f"no {what}") from error


@pytest.fixture(autouse=True)
def _executor() -> Iterator[None]:
    executor_register(Tries, override=True)
    yield
    get_registry().unregister(Tries.id)


async def create(
    db: TaskStore, task_id: str = "t", policy: dict[str, Any] | None = None, **inputs: Any
) -> Any:
    task = {"id": task_id, "name": Tries.id, "inputs": inputs, "policy": policy or {}}
    return await TaskCreator(db).create_task_tree_from_array([task])


async def run(db: TaskStore, policy: dict[str, Any] | None = None, **inputs: Any) -> None:
    await TaskManager(db).distribute_task_tree(await create(db, policy=policy, **inputs))


async def history(db: TaskStore, task_id: str = "t") -> list[TaskAttempt]:
    task = (await db.get([task_id]))[task_id]
    return all_attempts(task, await db.attempts(task_id))


async def outcomes(db: TaskStore) -> list[tuple[int, str | None]]:
    return [(each.number, each.outcome) for each in await history(db)]


async def test_a_task_that_completes_at_once_needs_no_record(db: TaskStore):
    await run(db)
    assert await db.attempts("t") == []
    [only] = await history(db)
    task = (await db.get(["t"]))["t"]
    assert (only.number, only.outcome, only.error, only.traceback) == (1, "completed", None, None)
    assert (only.started_at, only.ended_at) == (task.started_at, task.completed_at)


async def test_each_failed_attempt_keeps_its_error_and_traceback(db: TaskStore):
    await run(db, policy=ONCE_MORE, fails=1)
    first, second = await history(db)
    assert (first.outcome, first.error, first.error_type) == ("failed", "no stock", "ValueError")
    assert first.traceback is not None
    assert first.started_at is not None and first.ended_at is not None
    assert second.started_at is not None and second.ended_at is not None
    assert first.started_at <= first.ended_at <= second.started_at <= second.ended_at
    assert (second.number, second.outcome, second.error, second.traceback) == (2, "completed", None, None)


async def test_a_traceback_has_source_lines_and_causes_and_no_frames_of_the_engine(db: TaskStore):
    await run(db, fails=1)
    [only] = await history(db)
    assert only.traceback is not None
    assert [line for line in only.traceback.splitlines() if not line.startswith("  ")] == [
        "Traceback (most recent call last):",
        "KeyError: 'stock'",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "Traceback (most recent call last):",
        "ValueError: no stock",
    ]
    assert 'raise ValueError(f"no {what}") from error' in only.traceback
    assert "apflow/core/engine" not in only.traceback
    assert "runner.py" not in only.traceback


async def test_a_failure_without_users_code_has_no_traceback(db: TaskStore):
    tree = await TaskCreator(db).create_task_tree_from_array([{"id": "t", "name": "test_not_there"}])
    await TaskManager(db).distribute_task_tree(tree)
    [only] = await history(db)
    assert (only.outcome, only.error_type, only.traceback) == ("failed", "ExecutorNotFound", None)


async def test_a_traceback_is_bounded_and_keeps_its_end(db: TaskStore):
    await run(db, fails=1, message="x" * 50_000 + " at the end")
    [only] = await history(db)
    assert only.traceback is not None and only.error is not None
    assert len(only.traceback) <= MAX_TRACEBACK
    assert only.traceback.startswith("Traceback")
    assert only.traceback.endswith("x at the end")
    assert "characters are left out" in only.traceback
    assert len(only.error) <= 4000


async def test_secrets_are_redacted(db: TaskStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_TRIED", "hunter2-is-no-password")
    await run(db, fails=1, message={"$secret": "TRIED"})
    [only] = await history(db)
    assert only.traceback is not None
    assert "hunter2" not in only.traceback
    assert "KeyError: '***'" in only.traceback
    assert only.traceback.endswith("ValueError: no ***")


async def test_a_secret_that_the_bound_would_cut_is_redacted(db: TaskStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_TRIED", "hunter2-" * 3000)
    await run(db, fails=1, message={"$secret": "TRIED"})
    [only] = await history(db)
    assert only.traceback is not None
    assert "hunter2" not in only.traceback


async def test_numbers_go_on_when_a_task_runs_again(db: TaskStore):
    await run(db)
    await TaskExecutor().execute_task_by_id("t", db_session=db, force=True)
    await TaskExecutor().execute_task_by_id("t", db_session=db, force=True)
    assert await outcomes(db) == [(1, "completed"), (2, "completed"), (3, "completed")]
    assert (await db.get(["t"]))["t"].attempts == 1
    times = [each.ended_at for each in await history(db)]
    assert times == sorted(times, key=str)


async def test_failures_are_kept_when_a_failed_task_runs_again(db: TaskStore):
    await run(db, policy=ONCE_MORE, fails=2)
    await TaskExecutor().execute_task_by_id("t", db_session=db)
    assert await outcomes(db) == [(number, "failed") for number in (1, 2, 3, 4)]


async def test_an_interrupted_attempt_is_kept_although_it_does_not_count(db: TaskStore):
    await create(db)
    now = datetime.now(UTC)
    sets = {
        "status": TaskStatus.IN_PROGRESS, "owner": "dead", "attempts": 1, "started_at": now,
        "updated_at": now, "executor": Tries.id, "run_requested_at": now, "run_owner": "dead",
    }  # fmt: skip
    await db.write(Change(moves=[Transition("t", "t", {"status": TaskStatus.PENDING}, sets)]))
    assert await outcomes(db) == [(1, None)]
    await recover(db)
    assert await outcomes(db) == [(1, "interrupted"), (2, "completed")]
    assert (await history(db))[0].started_at == now
    assert (await db.get(["t"]))["t"].attempts == 1


async def test_a_task_that_runs_or_waits_for_its_retry_shows_its_attempts(db: TaskStore):
    policy = {"retry": {"max_attempts": 2, "delay": 60, "jitter": False}}
    tree = await create(db, policy=policy, fails=1)
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(tree))
    async with asyncio.timeout(30):
        while (await db.get(["t"]))["t"].not_before is None:
            await asyncio.sleep(0.01)
    assert await outcomes(db) == [(1, "failed")]
    await TaskManager(db).cancel_task("t")
    await running
    assert await outcomes(db) == [(1, "failed")]
    await TaskService(db).update("t", status=TaskStatus.COMPLETED)
    assert await outcomes(db) == [(1, "failed")]
    await TaskService(db).update("t", inputs={})
    await TaskExecutor().execute_task_by_id("t", db_session=db, force=True)
    assert await outcomes(db) == [(1, "failed"), (2, "completed")]


async def test_a_cancelled_attempt_is_kept_when_its_task_is_marked_as_completed(db: TaskStore):
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(await create(db, do="wait")))
    async with asyncio.timeout(30):
        while (await db.get(["t"]))["t"].status is not TaskStatus.IN_PROGRESS:
            await asyncio.sleep(0.01)
    assert await outcomes(db) == [(1, None)]
    await TaskManager(db).cancel_task("t")
    await running
    assert await outcomes(db) == [(1, "cancelled")]
    await TaskService(db).update("t", status=TaskStatus.COMPLETED)
    assert await outcomes(db) == [(1, "cancelled")]


async def test_events_of_failures_carry_the_traceback(db: TaskStore):
    await run(db, policy=ONCE_MORE, fails=2)
    first, second = await history(db)
    events = {str(event.type): event for event in await db.events("t")}
    for kind, attempt in (("retrying", first), ("task_failed", second)):
        data = events[kind].data
        assert data["attempt_number"] == attempt.number
        assert (data["error_type"], data["traceback"]) == ("ValueError", attempt.traceback)


async def test_the_service_returns_the_attempts_and_accepts_a_task_with_them_back(db: TaskStore):
    await run(db, policy=ONCE_MORE, fails=1)
    service = TaskService(db)
    attempts = await service.attempts("t")
    assert [each["number"] for each in attempts] == [1, 2]
    assert attempts[0]["traceback"].startswith("Traceback")
    task = await service.get("t", history=True)
    assert task.pop("history") == attempts
    assert task == await service.get("t")
    created = await service.create(task | {"history": attempts, "id": "again"})
    assert await service.attempts(created["id"]) == []
