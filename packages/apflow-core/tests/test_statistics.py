from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from apflow.core.errors import ForbiddenError, InvalidInputError
from apflow.core.model.statistics import quantile
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task, utc_now
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.store.memory import MemoryStore


def ended(name: str, *, days: float = 0.0, seconds: float = 1.0, **more: Any) -> Task:
    end = utc_now() - timedelta(days=days)
    given: dict[str, Any] = {"status": TaskStatus.COMPLETED, "executor": "x", "attempts": 1}
    started = end - timedelta(seconds=seconds)
    return Task(id=name, name=name, root_id=name, started_at=started, completed_at=end, **(given | more))


async def stats(service: TaskService, **given: Any) -> dict[str, Any]:
    return await OPERATIONS["tasks.stats"].call(service, given)


async def test_times_are_those_of_the_end():
    db = MemoryStore()
    for days in (0.5, 2, 5, 9):
        await db.add([ended(f"t{days}", days=days)])
    service = TaskService(db)
    for given, tasks in (
        ({}, 4),
        ({"since": "3d"}, 2),
        ({"until": "3d"}, 2),
        ({"since": "1w", "until": "1d"}, 2),
        ({"since": (utc_now() - timedelta(days=6)).isoformat()}, 3),
    ):
        found = await stats(service, **given)
        assert found["total"]["tasks"] == tasks, given
    assert (await stats(service))["since"] is None
    with pytest.raises(InvalidInputError) as caught:
        await stats(service, since="yesterday")
    assert caught.value.violations[0].startswith("since: Value error, 'yesterday' is not a span")


async def test_a_caller_gets_figures_of_its_own_tasks_alone_and_an_admin_of_all():
    db = MemoryStore()
    await db.add([ended("a", user_id="ann", seconds=5)])
    await db.add([ended("b", user_id="bob", seconds=9)])
    of_ann = await stats(TaskService(db, "ann"), group_by="user")
    assert [each["group"] for each in of_ann["groups"]] == ["ann"]
    assert (of_ann["total"]["tasks"], [each["id"] for each in of_ann["slowest"]]) == (1, ["a"])
    with pytest.raises(ForbiddenError):
        await stats(TaskService(db, "ann"), user_id="bob")
    admin = TaskService(db, "root", is_admin=True)
    assert [each["group"] for each in (await stats(admin, group_by="user"))["groups"]] == ["ann", "bob"]
    assert [each["id"] for each in (await stats(admin, user_id="bob"))["slowest"]] == ["b"]


async def test_more_groups_than_the_limit_are_reported_as_more():
    db = MemoryStore()
    for name in ("a", "b", "c"):
        await db.add([ended(name)])
    found = await stats(TaskService(db), group_by="name", limit=2, slowest=0)
    assert ([each["group"] for each in found["groups"]], found["has_more"]) == (["a", "b"], True)
    assert (found["total"]["tasks"], found["slowest"]) == (3, [])
    assert (await stats(TaskService(db), group_by="name", limit=3))["has_more"] is False


async def test_a_database_without_ended_tasks_has_zeros_and_no_rates():
    found = await stats(TaskService(MemoryStore()))
    assert (found["groups"], found["slowest"], found["total"]["tasks"]) == ([], [], 0)
    assert (found["total"]["failure_rate"], found["total"]["p95_seconds"]) == (None, None)


def test_quantiles_interpolate_between_neighbours():
    assert quantile([], 0.5) is None
    assert quantile([7.0], 0.95) == 7.0
    assert quantile([1.0, 2.0, 3.0, 5.0], 0.5) == 2.5
    assert quantile([0.0, 10.0], 1.0) == 10.0
