from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from apflow.core.engine import retention
from apflow.core.engine.retention import purge_expired
from apflow.core.engine.worker import Worker
from apflow.core.errors import ForbiddenError, SettingsError
from apflow.core.model.budget import RECORDS
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task, utc_now
from apflow.core.planning.retention import RetentionRules
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore


def ended(name: str, days: float, *, at: datetime | None = None, **more: Any) -> Task:
    """Return a root that ended so many days ago."""
    when = (at or utc_now()) - timedelta(days=days)
    given: dict[str, Any] = {"status": TaskStatus.COMPLETED, "completed_at": when, "run_ended_at": when}
    return Task(id=name, name=name, root_id=name, **(given | more))


def child(name: str, root: Task, **more: Any) -> Task:
    given: dict[str, Any] = {"status": TaskStatus.COMPLETED, "completed_at": root.completed_at}
    return Task(id=name, name=name, root_id=root.id, parent_id=root.id, **(given | more))


async def left(db: MemoryStore) -> set[str]:
    return {each["id"] for each in await TaskService(db).list(root_only=False, limit=None)}


async def test_only_trees_that_ended_before_the_time_are_deleted():
    db = MemoryStore()
    old, young = ended("old", 31), ended("young", 29)
    await db.add([old, child("old-a", old), child("old-b", old, status=TaskStatus.FAILED)])
    await db.add([young, child("young-a", young)])
    done = await OPERATIONS["tasks.purge"].call(TaskService(db), {"older_than": "30d"})
    assert (done["trees"], done["tasks"], done["has_more"], done["dry_run"]) == (1, 3, False, False)
    assert await left(db) == {"young", "young-a"}


@pytest.mark.parametrize(
    "more",
    [
        {"status": TaskStatus.PENDING, "completed_at": None, "run_ended_at": None},
        {"status": TaskStatus.IN_PROGRESS, "completed_at": None, "run_ended_at": None},
        {"run_requested_at": utc_now()},
        {"run_ended_at": utc_now()},
    ],
)
async def test_a_tree_that_has_not_ended_is_kept(more: dict[str, Any]):
    db = MemoryStore()
    await db.add([ended("r", 31, **more)])
    assert (await TaskService(db).purge("30d"))["trees"] == 0
    assert await left(db) == {"r"}


@pytest.mark.parametrize(
    "more",
    [
        {"status": TaskStatus.PENDING, "completed_at": None},
        {"status": TaskStatus.IN_PROGRESS, "completed_at": None},
        {"completed_at": utc_now()},
    ],
)
async def test_a_tree_is_kept_until_each_of_its_tasks_has_ended(more: dict[str, Any]):
    db = MemoryStore()
    root = ended("r", 31)
    await db.add([root, child("a", root, **more)])
    assert (await TaskService(db).purge("30d"))["trees"] == 0
    assert await left(db) == {"r", "a"}


async def test_a_dry_run_counts_what_a_purge_deletes_and_deletes_nothing():
    db = MemoryStore()
    for at in range(retention.BATCH + 2):
        root = ended(f"r{at}", 31)
        await db.add([root, child(f"c{at}", root)])
    open_root = ended("open", 31)
    await db.add([open_root, child("waits", open_root, status=TaskStatus.PENDING, completed_at=None)])
    service = TaskService(db)
    before = await left(db)
    counted = await service.purge("30d", dry_run=True)
    assert await left(db) == before
    done = await service.purge("30d")
    names = ("trees", "tasks")
    assert [counted[each] for each in names] == [done[each] for each in names] == [12, 24]
    assert await left(db) == {"open", "waits"}


async def test_a_limit_is_kept_and_the_result_says_whether_there_is_more():
    db = MemoryStore()
    for at in range(25):
        await db.add([ended(f"r{at}", 60 - at)])
    service = TaskService(db)
    first = await service.purge("30d", limit=12)
    assert (first["trees"], first["has_more"]) == (12, True)
    assert await left(db) == {f"r{at}" for at in range(12, 25)}  # those that ended first are gone
    second = await service.purge("30d", limit=13)
    assert (second["trees"], second["has_more"]) == (13, False)


def test_a_batch_has_few_trees_and_few_tasks_unless_one_tree_has_more():
    sizes = {"a": 1, "b": 998, "c": 2, "d": 5_000, "e": 1, "f": 999, "g": 1}
    batches = retention.batches_of(sizes, sizes)
    assert list(batches) == [["a", "b"], ["c"], ["d"], ["e", "f"], ["g"]]
    alike = [f"r{at}" for at in range(12)]
    assert [len(each) for each in retention.batches_of(alike, dict.fromkeys(alike, 3))] == [10, 2]
    assert list(retention.batches_of([], {})) == []


async def test_a_page_of_trees_that_are_kept_does_not_hide_the_next_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "PAGE", 2)
    db = MemoryStore()
    for at in range(5):
        root = ended(f"kept{at}", 50)
        await db.add([root, child(f"waits{at}", root, status=TaskStatus.PENDING, completed_at=None)])
    await db.add([ended("old", 40)])
    assert (await TaskService(db).purge("30d"))["trees"] == 1
    assert "old" not in await left(db)


async def test_a_tree_goes_with_the_trees_that_it_started_and_never_before_it():
    db = MemoryStore()
    parent = ended("parent", 10, child_trees=[{"id": "started", "key": "k", "generation": 0, "attempt": 1}])
    await db.add([parent])
    await db.add([ended("started", 50, spawned_by="parent")])
    service = TaskService(db)
    assert (await service.purge("30d"))["trees"] == 0
    assert (await service.purge("5d"))["tasks"] == 2
    assert await left(db) == set()


async def test_the_account_of_a_budget_goes_with_its_task():
    db = MemoryStore()
    await db.add([ended("r", 31, policy={"budget": {"usd": 1}})])
    await db.put_record(RECORDS, "r", {})
    await TaskService(db).purge("30d")
    assert await db.records(RECORDS) == []


async def test_callers_purge_their_own_trees_and_admins_all():
    db = MemoryStore()
    await db.add([ended("ann's", 31, user_id="ann")])
    await db.add([ended("bob's", 31, user_id="bob", tags=["nightly"])])
    with pytest.raises(ForbiddenError):
        await TaskService(db, "ann").purge("30d", user_id="bob")
    assert (await TaskService(db, "ann").purge("30d"))["trees"] == 1
    assert await left(db) == {"bob's"}
    assert (await TaskService(db).purge("30d", tags=["daily"]))["trees"] == 0
    assert (await TaskService(db).purge("30d", tags=["nightly"], user_id="bob"))["trees"] == 1


async def test_only_an_admin_may_vacuum_or_write_a_checkpoint():
    with pytest.raises(ForbiddenError):
        await TaskService(MemoryStore(), "ann").vacuum()
    with pytest.raises(ForbiddenError):
        await TaskService(MemoryStore(), "ann").checkpoint()
    assert await TaskService(MemoryStore()).checkpoint() == {"records_applied": 0, "size_bytes": 0}
    assert await TaskService(MemoryStore()).vacuum() == {"size_bytes_before": 0, "size_bytes_after": 0}


RULES = RetentionRules.from_settings(
    Settings(
        retention_days=30,
        retention_days_of_users={"ann": "90", "cleo": "0"},
        retention_days_of_tags={"nightly": "7", "weekly": "20.5", "audit": "0"},
    )
)


@pytest.mark.parametrize(
    ("user_id", "tags", "days"),
    [
        (None, [], 30),
        ("bob", ["other"], 30),
        ("ann", [], 90),
        ("cleo", [], 0),
        ("ann", ["nightly"], 7),
        (None, ["nightly", "weekly"], 20.5),
        ("ann", ["nightly", "audit"], 0),
    ],
)
def test_tags_decide_before_users_and_the_longest_time_counts(
    user_id: str | None, tags: list[str], days: float
):
    assert RULES.days_of(ended("r", 1, user_id=user_id, tags=tags)) == days


async def test_expired_trees_are_deleted_by_the_rules():
    db = MemoryStore()
    for task in (
        ended("default", 31),
        ended("young", 29),
        ended("nightly", 8, tags=["nightly"]),
        ended("both", 21, tags=["nightly", "weekly"]),
        ended("both-young", 20, tags=["nightly", "weekly"]),
        ended("audit", 400, tags=["nightly", "audit"]),
        ended("ann", 89, user_id="ann"),
        ended("ann-old", 91, user_id="ann"),
        ended("cleo", 400, user_id="cleo"),
    ):
        await db.add([task])
    done = await purge_expired(db, RULES)
    assert (done.trees, done.tasks) == (4, 4)
    assert await left(db) == {"young", "both-young", "audit", "ann", "cleo"}


async def test_a_tag_has_a_time_also_where_trees_are_kept_forever_by_default():
    db = MemoryStore()
    await db.add([ended("kept", 400)])
    await db.add([ended("nightly", 8, tags=["nightly"])])
    rules = RetentionRules.from_settings(Settings(retention_days_of_tags={"nightly": "7"}))
    await purge_expired(db, rules)
    assert await left(db) == {"kept"}


@pytest.mark.parametrize("days", ["soon", "-1", "nan", "36501", ""])
def test_a_setting_that_is_not_a_number_of_days_is_refused(days: str):
    with pytest.raises(SettingsError, match=r"APFLOW_RETENTION_DAYS_OF_TAGS.*nightly="):
        Worker(MemoryStore(), Settings(retention_days_of_tags={"nightly": days}))


async def test_a_worker_deletes_expired_trees():
    db = MemoryStore()
    await db.add([ended("old", 31)])
    worker = Worker(db, Settings(retention_days=30))
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(30):
        while await left(db):
            await asyncio.sleep(0.01)
    worker.drain()
    await running
