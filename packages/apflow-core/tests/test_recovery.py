"""Resuming many trees: side by side, each by itself, and harmless where there is nothing to resume."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskCreator, TaskManager, executor_register, get_registry
from apflow.core.concurrency.fair_semaphore import process_semaphore
from apflow.core.engine.recovery import recover
from apflow.core.errors import NotFoundError, StoreError
from apflow.core.extensions.hooks import clear_hooks, register_task_tree_hook
from apflow.core.model.task import Task
from apflow.core.settings import get_settings, reset_settings
from apflow.core.store.base import Change, TaskQuery, Transition, TransitionResult


class Resumed(BaseTask):
    """Runs at once, or until it is let go."""

    id = "test_resumed"
    calls: list[str] = []
    go_on: asyncio.Event

    async def execute(self, inputs: dict[str, Any]) -> Any:
        assert self.task_id is not None
        Resumed.calls.append(self.task_id)
        if inputs.get("do") == "wait":
            await Resumed.go_on.wait()


@pytest.fixture(autouse=True)
async def executors() -> Any:
    Resumed.calls.clear()
    Resumed.go_on = asyncio.Event()
    executor_register(Resumed, override=True)
    yield
    get_registry().unregister(Resumed.id)
    clear_hooks()


@pytest.fixture
def db() -> MemoryStore:
    return MemoryStore()


async def leave_behind(db: MemoryStore, root_id: str, executor: str = "test_resumed", **inputs: Any) -> None:
    """Store a tree of one task that a dead process had started."""
    await TaskCreator(db).create_task_tree_from_array([{"id": root_id, "name": executor, "inputs": inputs}])
    now = datetime.now(UTC)
    sets = {
        "status": "in_progress", "owner": "dead", "attempts": 1, "started_at": now, "executor": executor,
        "run_requested_at": now, "run_owner": "dead",
    }  # fmt: skip
    await db.write(Change(moves=[Transition(root_id, root_id, {"status": "pending"}, sets)], is_strict=True))


async def statuses(db: MemoryStore) -> dict[str, str]:
    return {task.id: str(task.status) for task in await db.find(TaskQuery())}


async def until(db: MemoryStore, **wanted: str) -> None:
    async with asyncio.timeout(30):
        while not wanted.items() <= (await statuses(db)).items():
            await asyncio.sleep(0)


async def test_a_long_tree_holds_up_none_of_the_others(db: MemoryStore):
    await leave_behind(db, "a", do="wait")
    await leave_behind(db, "b")
    await leave_behind(db, "c")
    recovering = asyncio.create_task(recover(db))
    await until(db, b="completed", c="completed", a="in_progress")
    Resumed.go_on.set()
    assert await recovering == ["a", "b", "c"]


async def test_many_long_trees_hold_up_none_that_comes_later(db: MemoryStore, few_places: None):
    for at in range(5):
        await leave_behind(db, f"long{at}", do="wait")
    recovering = asyncio.create_task(recover(db))
    while len(Resumed.calls) < 2:
        await asyncio.sleep(0)
    assert len(Resumed.calls) == 2  # the places of the process hold for what is resumed, too
    Resumed.go_on.set()
    assert len(await recovering) == 5


@pytest.fixture
def few_places(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_MAX_CONCURRENCY", "2")
    reset_settings()
    yield
    monkeypatch.undo()
    reset_settings()
    process_semaphore(get_settings().max_concurrency)


def takes_over(change: Change) -> bool:
    return any(move.sets.get("run_owner") not in ("dead", None) for move in change.moves)


class Failing(MemoryStore):
    """Cannot write one of its trees."""

    async def write(self, change: Change) -> TransitionResult:
        if takes_over(change) and change.moves[0].root_id == "bad":
            raise StoreError("no disk")
        return await super().write(change)


async def test_a_tree_that_fails_stops_none_of_the_others_and_is_logged(caplog: pytest.LogCaptureFixture):
    db = Failing()
    for root_id in ("a", "bad", "b"):
        await leave_behind(db, root_id)
    with caplog.at_level(logging.ERROR):
        assert await recover(db) == ["a", "b"]
    assert await statuses(db) == {"a": "completed", "bad": "in_progress", "b": "completed"}
    assert "bad" in caplog.text
    assert "no disk" in caplog.text


class Deleting(MemoryStore):
    """Deletes a tree as soon as it was found, or when a write of it begins."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    async def find(self, query: TaskQuery) -> list[Task]:
        found = await super().find(query)
        if self.when == "found" and query.is_requested:
            await self.remove(["gone"])
        return found

    async def write(self, change: Change) -> TransitionResult:
        if self.when == "written" and takes_over(change) and change.moves[0].root_id == "gone":
            await super().write(Change(remove=["gone"]))
        return await super().write(change)


@pytest.mark.parametrize("when", ["found", "written"])
async def test_a_tree_that_was_deleted_meanwhile_does_no_harm(when: str):
    db = Deleting(when)
    await leave_behind(db, "gone")
    await leave_behind(db, "a")
    assert await recover(db) == ["a"]
    assert await statuses(db) == {"a": "completed"}


async def test_a_tree_that_this_process_runs_is_left_to_its_run(db: MemoryStore):
    node = await TaskCreator(db).create_task_tree_from_array(
        [{"id": "a", "name": "test_resumed", "inputs": {"do": "wait"}}]
    )
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    await until(db, a="in_progress")
    assert await recover(db) == []
    Resumed.go_on.set()
    assert (await running)["status"] == "completed"
    assert Resumed.calls == ["a"]


async def test_two_recoveries_at_once_run_each_tree_once(db: MemoryStore):
    for root_id in ("a", "b", "c"):
        await leave_behind(db, root_id)
    taken = await asyncio.gather(recover(db), recover(db))
    assert sorted(taken[0] + taken[1]) == ["a", "b", "c"]
    assert sorted(Resumed.calls) == ["a", "b", "c"]


async def test_only_the_named_trees_are_resumed_and_an_unknown_one_is_refused(db: MemoryStore):
    for root_id in ("a", "b"):
        await leave_behind(db, root_id)
    with pytest.raises(NotFoundError):
        await recover(db, ["a", "nobody"])
    assert await recover(db, ["b", "b"]) == ["b"]
    assert await statuses(db) == {"a": "in_progress", "b": "completed"}


async def test_a_named_tree_without_a_requested_run_is_left_alone(db: MemoryStore):
    await TaskCreator(db).create_task_tree_from_array([{"id": "a", "name": "test_resumed"}])
    assert await recover(db, ["a"]) == []
    assert await statuses(db) == {"a": "pending"}


async def test_a_resumed_tree_tells_its_end_to_subscribers_and_hooks(db: MemoryStore):
    told: list[str] = []
    register_task_tree_hook("on_tree_completed", lambda root, status: told.append(root.id))
    await leave_behind(db, "a")
    events = TaskManager(db).subscribe("a", 0)
    await recover(db)
    kinds = [str(event.type) async for event in events]
    assert kinds[-3:] == ["task_started", "task_completed", "tree_completed"]
    assert told == ["a"]
