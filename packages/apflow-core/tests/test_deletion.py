from __future__ import annotations

from datetime import UTC, datetime

import pytest

from apflow.core.authoring.delete_plan import KINDS_OF_TREES, forget, plan_deletion, records_of
from apflow.core.authoring.repository import TaskRepository
from apflow.core.errors import ConflictError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task
from apflow.core.store.base import Change, Transition
from apflow.core.store.memory import MemoryStore
from apflow.core.store.tree_records import keys_of


def task(name: str, parent: str | None = "root", *needs: str, **more: object) -> Task:
    dependencies = [{"id": each, "required": True} for each in needs]
    return Task(id=name, name=name, root_id="root", parent_id=parent, dependencies=dependencies, **more)


def test_a_pending_tree_goes_as_a_whole():
    change = plan_deletion([task("root", None), task("a"), task("b", "a")], "root")
    assert sorted(change.remove) == ["a", "b", "root"]
    assert change.is_strict


def test_a_task_goes_with_what_is_below_it_and_nothing_else():
    change = plan_deletion([task("root", None), task("a"), task("b", "a"), task("c")], "a")
    assert sorted(change.remove) == ["a", "b"]


def test_every_reason_against_a_deletion_is_named():
    root = task("root", None, run_requested_at=datetime.now(UTC))
    running = task("a", status=TaskStatus.IN_PROGRESS)
    with pytest.raises(ConflictError) as caught:
        plan_deletion(
            [root, running, task("b", "a", status=TaskStatus.COMPLETED), task("c", "root", "b")], "a"
        )
    for part in (
        "a run of its tree is requested",
        "'a' (a) is in progress",
        "'b' (b) is completed",
        "'c' (c) depends",
    ):
        assert part in str(caught.value)


def test_what_has_ended_goes_only_by_force():
    tasks = [task("root", None, status=TaskStatus.FAILED)]
    with pytest.raises(ConflictError):
        plan_deletion(tasks, "root")
    assert plan_deletion(tasks, "root", force=True).remove == ["root"]


async def test_a_task_that_started_meanwhile_is_kept():
    store = MemoryStore()
    await store.add([task("root", None), task("a")])
    change = plan_deletion(await store.tree("root"), "root")
    await store.move([Transition("a", "root", {"status": "pending"}, {"status": TaskStatus.IN_PROGRESS})])
    with pytest.raises(ConflictError):
        await store.write(change)
    assert len(await store.tree("root")) == 2


async def test_a_parent_that_loses_its_last_child_has_none():
    store = MemoryStore()
    await store.add([task("root", None), task("a"), task("b", "a")])
    await store.write(plan_deletion(await store.tree("root"), "b"))
    left = {each.id: each.has_children for each in await store.tree("root")}
    assert left == {"root": True, "a": False}


async def test_the_records_of_a_tree_go_with_it_and_no_others():
    store = MemoryStore()
    roots = {name: Task(id=name, name=name, root_id=name) for name in ("a", "a/b")}
    child = Task(id="c", name="c", root_id="a", parent_id="a")
    await store.write(Change(add=[*roots.values(), child]))
    for kind in KINDS_OF_TREES:
        for name in roots:
            await store.put_record(kind, f"{keys_of(name)}1", {"root_id": name})
    repository = TaskRepository(store)
    assert await repository.delete_task("c")
    kept = [each for kind in KINDS_OF_TREES for each in await store.records(kind)]
    assert len(kept) == len(roots) * len(KINDS_OF_TREES)
    assert await repository.delete_task("a")
    left = [each for kind in KINDS_OF_TREES for each in await store.records(kind)]
    assert [each.value for each in left] == [{"root_id": "a/b"}] * len(KINDS_OF_TREES)


async def test_a_record_that_was_changed_after_the_deletion_is_kept():
    store = MemoryStore()
    root = Task(id="a", name="a", root_id="a")
    await store.write(Change(add=[root]))
    await store.put_record(KINDS_OF_TREES[0], f"{keys_of('a')}1", {"root_id": "a"})
    change = plan_deletion([root], "a")
    records = await records_of(store, change)
    await store.write(change)
    later = {"root_id": "a", "is_later": True}  # of a tree that another process has created by now
    await store.put_record(KINDS_OF_TREES[0], f"{keys_of('a')}1", later)
    await forget(store, [root], change, records)
    assert [each.value for each in await store.records(KINDS_OF_TREES[0])] == [later]
