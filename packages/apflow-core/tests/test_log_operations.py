"""Reading and following what tasks have logged: complete, in order, and with the access rules of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core.errors import InvalidInputError, NotFoundError
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import get_registry
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore
from apflow.core.store.memory import MemoryStore

TASKS, LINES = 100, 100


class Counts(BaseTask):
    """Writes numbered lines in several ways, and yields to other tasks now and then."""

    id = "log_counts"

    async def execute(self, inputs: dict[str, Any]) -> None:
        for at in range(inputs["lines"]):
            if at % 2:
                print("line", at)
            else:
                self.log(f"line {at}", level="WARNING" if at % 4 else "INFO")
            if at % 7 == 0:
                await asyncio.sleep(0)
            if at == inputs.get("wait_at"):
                await asyncio.sleep(0.3)


class Waits(BaseTask):
    """Logs, and waits until the test continues it."""

    id = "log_waits"
    go_on: asyncio.Event

    async def execute(self, inputs: dict[str, Any]) -> None:
        print("before")
        await Waits.go_on.wait()
        print("after")


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    for each in (Counts, Waits):
        get_registry().register(each)
    yield
    for each in (Counts, Waits):
        get_registry().unregister(each.id)


def counting(task_id: str, lines: int, parent: str | None = None, **inputs: Any) -> dict[str, Any]:
    task = {"id": task_id, "name": f"name of {task_id}", "schemas": {"method": "log_counts"}}
    return task | {"inputs": {"lines": lines, **inputs}} | ({"parent_id": parent} if parent else {})


def by_task(lines: list[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line["task_id"], []).append(line["message"])
    return found


async def test_10000_lines_of_100_tasks_at_once_are_followed_live_and_none_is_lost(db: TaskStore):
    service = TaskService(db)
    array = [{"id": "r", "name": "r"}]
    array += [counting(f"t{at}", LINES, "r", wait_at=LINES // 2) for at in range(TASKS)]
    await service.create(array)
    followed: list[dict[str, Any]] = []
    running_at: list[int] = []

    async def follow() -> None:
        async for line in service.follow_logs("r"):
            followed.append(line)
            if not run.done():
                running_at.append(line["number"])

    run = asyncio.create_task(service.run("r"))
    async with asyncio.timeout(120):
        await asyncio.gather(run, follow())
    expected = {f"t{at}": [f"line {n}" for n in range(LINES)] for at in range(TASKS)}
    assert by_task(followed) == expected
    assert len(followed) == TASKS * LINES
    assert len(running_at) > TASKS  # most lines arrived while the run continued
    assert [line["number"] for line in followed] == sorted({line["number"] for line in followed})
    stored: list[dict[str, Any]] = []
    while page := await service.logs("r", after=stored[-1]["number"] if stored else 0, limit=999):
        stored += page
    assert stored == followed


async def test_a_line_has_what_its_model_declares(db: TaskStore):
    service = TaskService(db)
    await service.create(counting("r", 2))
    await service.run("r")
    first, second = await service.logs("r")
    model = OPERATIONS["tasks.logs"].result.__args__[0]
    assert set(first) == set(model.model_fields)
    assert model.model_validate(first, strict=False).message == "line 0"
    assert [first[each] for each in ("key", "name", "level", "source", "logger")] == [
        "r", "name of r", "INFO", "executor", None,
    ]  # fmt: skip
    assert (second["source"], second["attempt"], second["generation"]) == ("stdout", 1, 0)


async def test_the_lines_of_a_task_are_those_of_its_descendants_too():
    service = TaskService(MemoryStore())
    await service.create(
        [
            {"id": "r", "name": "r"},
            {"id": "g", "name": "g", "parent_id": "r"},
            counting("a", 1, "g"),
            counting("b", 1, "a"),
            counting("c", 1, "r"),
        ]
    )
    await service.run("r")
    for task_id, found in {"r": "abc", "g": "ab", "a": "ab", "b": "b", "c": "c"}.items():
        assert sorted(by_task(await service.logs(task_id))) == sorted(found)
        assert sorted(by_task([line async for line in service.follow_logs(task_id)])) == sorted(found)


async def test_lines_are_chosen_by_level_attempt_and_number():
    service = TaskService(MemoryStore())
    await service.create(counting("r", 8))
    await service.run("r")
    lines = await service.logs("r")
    warnings = await service.logs("r", level="WARNING")
    assert [line["message"] for line in warnings] == ["line 2", "line 6"]
    assert [line async for line in service.follow_logs("r", level="WARNING")] == warnings
    assert await service.logs("r", attempt=2) == []
    assert await service.logs("r", after=lines[5]["number"]) == lines[6:]
    assert await service.logs("r", limit=3) == lines[:3]
    await service.run("r", force=True)
    again = await service.logs("r", after=lines[-1]["number"])
    assert [(line["generation"], line["attempt"]) for line in again] == [(1, 2)] * 8


@pytest.mark.parametrize(
    "wrong", [{"level": "LOUD"}, {"after": -1}, {"limit": 0}, {"limit": 10_001}, {"attempt": 0}, {"x": 1}]
)
async def test_wrong_parameters_are_refused(wrong: dict[str, Any]):
    with pytest.raises(InvalidInputError, match=r"tasks\.logs"):
        await OPERATIONS["tasks.logs"].call(TaskService(MemoryStore()), {"task_id": "r", **wrong})


async def test_who_may_not_see_a_task_may_not_see_its_lines():
    db = MemoryStore()
    await TaskService(db, "ann").create(counting("r", 1), user_id="ann")
    await TaskService(db).run("r")
    assert len(await TaskService(db, "ann").logs("r")) == 1
    with pytest.raises(NotFoundError):
        await TaskService(db, "ben").logs("r")
    with pytest.raises(NotFoundError):
        await TaskService(db, "ben").log_follower("r")


async def test_following_one_task_ends_with_it_and_following_a_tree_ends_with_its_run():
    service = TaskService(MemoryStore())
    Waits.go_on = asyncio.Event()
    waits = {"id": "w", "name": "w", "parent_id": "r", "schemas": {"method": "log_waits"}}
    await service.create([{"id": "r", "name": "r"}, counting("a", 3, "r"), waits])
    run = asyncio.create_task(service.run("r"))
    async with asyncio.timeout(60):
        assert len([line async for line in service.follow_logs("a")]) == 3
        seen: list[str] = []
        async for line in service.follow_logs("r"):
            seen.append(line["message"])
            if line["message"] == "before":
                Waits.go_on.set()
        await run
    assert seen[-1] == "after"


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_following_ends_when_there_is_no_run_to_wait_for(is_deleted: bool):
    service = TaskService(MemoryStore())
    await service.create(counting("r", 1))
    follower = await service.log_follower("r")
    await (service.delete("r") if is_deleted else service.cancel(["r"]))
    async with asyncio.timeout(30):
        assert [lines async for lines in follower.batches()] == []


async def test_a_slow_reader_misses_nothing():
    service = TaskService(MemoryStore())
    await service.create(counting("r", 5000))
    run = asyncio.create_task(service.run("r"))
    seen: list[str] = []
    async for line in service.follow_logs("r"):
        seen.append(line["message"])
        if len(seen) == 1:
            await run
    assert seen == [f"line {at}" for at in range(5000)]
