from __future__ import annotations

from typing import Any

import pytest

from apflow.core.errors import ForbiddenError, InvalidInputError
from apflow.core.model.attempt import AttemptOutcome, TaskAttempt
from apflow.core.model.log import LogChunk, LogEntry
from apflow.core.model.task import utc_now
from apflow.core.service import export
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.store.memory import MemoryStore
from apflow.testing.building import a_move, a_task, a_tree, an_event


async def lines_of(service: TaskService, limit: int, **filters: Any) -> list[dict[str, Any]]:
    """Return all lines of an export, page by page."""
    lines: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await OPERATIONS["tasks.export"].call(
            service, {**filters, "limit": limit, **({"cursor": cursor} if cursor else {})}
        )
        lines += page["lines"]
        cursor = page["cursor"]
        if cursor is None:
            return lines


async def filled() -> MemoryStore:
    db = MemoryStore()
    for number in range(3):
        root = f"r{number}"
        await db.add(a_tree(root, *(f"{root}-{at}" for at in range(5))))
        move = a_move(f"{root}-0", "pending", "in_progress", root_id=root, sets={"attempts": 1})
        move.attempts = (
            TaskAttempt(
                task_id=f"{root}-0", number=1, started_at=None, ended_at=None, outcome=AttemptOutcome.FAILED
            ),
        )
        move.events = tuple(an_event(f"{root}-0", root) for _ in range(7))
        await db.move([move])
    return db


def named(lines: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return the kind of each line, and what it is about."""
    keys = {"task": "id", "attempt": "task_id", "event": "sequence"}
    return [(kind, line[kind][keys[kind]]) for line in lines for kind in line]


@pytest.mark.parametrize("limit", [1, 4, 1000])
async def test_pages_together_are_each_tree_with_its_attempts_and_events_in_order(
    limit: int, monkeypatch: pytest.MonkeyPatch
):
    for name, size in (("ROOTS", 2), ("TASKS", 2), ("EVENTS", 5)):
        monkeypatch.setattr(export, name, size)
    lines = await lines_of(TaskService(await filled()), limit)
    assert named(lines) == [
        line
        for root in ("r0", "r1", "r2")
        for line in [
            ("task", root),
            ("task", f"{root}-0"),
            ("attempt", f"{root}-0"),
            *(("task", f"{root}-{at}") for at in range(1, 5)),
            *(("event", number) for number in range(1, 14)),
        ]
    ]
    assert all(len(line) == 1 for line in lines)
    assert "run_ended_at" in lines[0]["task"]


async def test_a_page_ends_after_so_many_lines_or_bytes(monkeypatch: pytest.MonkeyPatch):
    service = TaskService(await filled())
    monkeypatch.setattr(export, "TASKS", 1)
    assert len((await service.export(limit=2))["lines"]) == 3  # the attempt belongs to its task
    monkeypatch.setattr(export, "MAX_PAGE_BYTES", 10)
    page = await service.export()
    assert (len(page["lines"]), page["cursor"] is None) == (1, False)


async def test_a_tree_that_is_deleted_between_pages_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "TASKS", 2)
    db = await filled()
    service = TaskService(db)
    page = await service.export(limit=1)
    await db.remove(["r0", *(f"r0-{at}" for at in range(5))])
    rest = (await service.export(cursor=page["cursor"]))["lines"]
    assert next(each for each in named(rest) if each[0] == "task") == ("task", "r1")


async def test_filters_are_those_of_the_root_and_only_own_trees_are_exported():
    db = MemoryStore()
    await db.add([a_task("a", user_id="ann", tags=["x"]), a_task("a1", "a", inputs={"api_key": "hidden"})])
    await db.add([a_task("b", user_id="bob")])
    everything = await lines_of(TaskService(db), 10)
    assert [each for kind, each in named(everything) if kind == "task"] == ["a", "a1", "b"]
    assert "hidden" not in repr(everything)
    for filters in ({"tags": ["x"]}, {"root_ids": ["a", "ghost"]}, {"user_id": "ann"}):
        found = named(await lines_of(TaskService(db), 10, **filters))
        assert [each for kind, each in found if kind == "task"] == ["a", "a1"], filters
    page = await TaskService(db).export(limit=1)  # within the tree of ann
    stolen = await TaskService(db, "bob").export(cursor=page["cursor"])
    assert {each for _, each in named(stolen["lines"])} == {"b", 1}
    of_bob = named(await lines_of(TaskService(db, "bob"), 10, root_ids=["a", "b"]))
    assert [each for kind, each in of_bob if kind == "task"] == ["b"]
    with pytest.raises(ForbiddenError):
        await lines_of(TaskService(db, "bob"), 10, user_id="ann")


@pytest.mark.parametrize(
    "cursor",
    ["x", "[]", "[1, 2, 3]", '[["x", 0, "r"], null, 0]', "[null, null, {}]", "[null, null, 5]", '"r0"'],
)
async def test_an_invalid_cursor_is_refused(cursor: str):
    with pytest.raises(InvalidInputError, match="This cursor is not valid"):
        await TaskService(MemoryStore()).export(cursor=cursor)


@pytest.mark.parametrize("limit", [1, 1000])
async def test_logs_come_between_the_tasks_and_the_events_of_a_tree(
    limit: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(export, "LOGS", 2)
    db = await filled()
    entries = [LogEntry(utc_now(), 20, "stdout", f"line {number}") for number in range(5)]
    chunk = LogChunk(root_task_id="r1", task_id="r1-0", attempt=1, generation=0, entries=entries)
    await db.add_logs([chunk])
    service = TaskService(db)
    lines = await lines_of(service, limit, root_ids=["r1"], with_logs=True)
    kinds = [next(iter(line)) for line in lines]
    assert kinds == ["task"] * 2 + ["attempt"] + ["task"] * 4 + ["log"] * 5 + ["event"] * 13
    logged = [line["log"] for line in lines if "log" in line]
    assert [each["message"] for each in logged] == [each.message for each in entries]
    assert (logged[0]["task_id"], logged[0]["attempt"], logged[0]["level"]) == ("r1-0", 1, "INFO")
    assert [each for each in await lines_of(service, limit, root_ids=["r1"]) if "log" in each] == []
    assert [
        each for each in await lines_of(service, limit, root_ids=["r0"], with_logs=True) if "log" in each
    ] == []
