"""The executor in a tree: what decisions and timeouts lead to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apflow.core import MemoryStore, TaskExecutor, TaskService, plugins
from apflow.core.model.approval import KIND
from apflow.executor.approval import ApprovalExecutor


@pytest.fixture
async def db() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


def asking(**inputs: Any) -> list[dict[str, Any]]:
    return [{"id": "ask", "name": "approval_executor", "inputs": {"question": "May it?", **inputs}}]


async def decided(db: MemoryStore, tasks: list[dict[str, Any]], **decision: Any) -> Any:
    """Run tasks, approve or reject as soon as one asks, and return the outcome."""
    running = asyncio.create_task(TaskExecutor().execute_tasks(tasks, db_session=db))
    async with asyncio.timeout(30):
        while not await db.records(KIND):
            await asyncio.sleep(0.005)
    service = TaskService(db)
    [found] = await service.approvals()
    if decision.pop("approved"):
        await service.approve(found["task_id"], **decision)
    else:
        await service.reject(found["task_id"], **decision)
    return await running


async def test_an_approval_completes_the_task_with_its_answers(db: MemoryStore):
    form = {"properties": {"count": {"type": "integer"}, "note": {"default": "none"}}}
    done = await decided(db, asking(form=form), approved=True, answers={"count": 2}, reason="Fine.")
    result = done["result"]
    assert (done["status"], result["approved"], result["timed_out"]) == ("completed", True, False)
    assert (result["answers"], result["reason"]) == ({"count": 2, "note": "none"}, "Fine.")


async def test_a_rejection_fails_the_task_with_who_and_why(db: MemoryStore):
    done = await decided(db, asking(), approved=False, reason="Too risky.")
    assert done["status"] == "failed"
    assert "The owner of the database has rejected it: Too risky." in done["error"]
    result = (await db.get(["ask"]))["ask"].result
    assert (result["error_type"], result["approved"], result["reason"]) == (
        "ApprovalRejected", False, "Too risky.",
    )  # fmt: skip


async def test_a_rejection_completes_the_task_where_its_inputs_say_so(db: MemoryStore):
    done = await decided(db, asking(on_reject="complete"), approved=False)
    assert (done["status"], done["result"]["approved"]) == ("completed", False)


async def test_a_rejection_is_no_reason_to_ask_again(db: MemoryStore):
    tasks = asking()
    tasks[0]["policy"] = {"retry": {"max_attempts": 5, "delay": 0}}
    assert (await decided(db, tasks, approved=False))["status"] == "failed"
    assert (await db.get(["ask"]))["ask"].attempts == 1


@pytest.mark.parametrize(
    ("default", "status", "error_type"),
    [
        ("reject", "failed", "ApprovalRejected"),
        ("fail", "failed", "ApprovalTimeout"),
        ("approve", "completed", None),
    ],
)
async def test_the_default_of_a_timeout(db: MemoryStore, default: str, status: str, error_type: str | None):
    tasks = asking(timeout="0.05s", on_timeout=default)
    done = await TaskExecutor().execute_tasks(tasks, db_session=db)
    assert done["status"] == status
    result = (await db.get(["ask"]))["ask"].result
    assert (result.get("error_type"), result["timed_out"]) == (error_type, True)


async def test_what_a_task_depends_on_cannot_choose_who_decides(db: MemoryStore):
    tasks = [
        {"id": "r", "name": "group"},
        {**asking(on_reject="complete")[0], "id": "first", "parent_id": "r"},
        {
            **asking(data={"$from": "first", "path": "approved"})[0],
            "parent_id": "r",
            "dependencies": ["first"],
        },
    ]
    running = asyncio.create_task(TaskExecutor().execute_tasks(tasks, db_session=db))
    service, names = TaskService(db), list[str]()
    async with asyncio.timeout(30):
        while len(names) < 2:
            for found in await service.approvals():
                names.append(found["task_id"])
                assert found["approvers"] == {"users": [], "roles": []}
                await service.reject(found["task_id"])
            await asyncio.sleep(0.005)
    assert (await running)["status"] == "failed"
    assert names == ["first", "ask"]


async def test_inputs_that_cannot_be_asked_are_refused(db: MemoryStore):
    for inputs, fault in (
        ({"approvers": {"groups": ["a"]}}, "approvers"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "9999999w"}, "at most 100 years"),
        ({"on_timeout": "ignore"}, "on_timeout"),
        ({"question": ""}, "question"),
        ({"form": {"type": 3}}, "JSON Schema"),
        ({"unknown": 1}, "unknown"),
    ):
        done = await TaskExecutor().execute_tasks(
            [{"name": "approval_executor", "inputs": {"question": "May it?", **inputs}}], db_session=db
        )
        assert done["status"] == "failed"
        assert fault in done["error"], done["error"]
    assert await db.records(KIND) == []


def test_the_installed_package_offers_the_executor():
    assert plugins.load("apflow.executors", "approval_executor") is ApprovalExecutor
