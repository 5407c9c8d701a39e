"""Trees that executors start: they belong to the task, hold no place while it waits, and run once."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskBuilder,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskService,
    executor_register,
    get_registry,
    run_child,
)
from apflow.core.concurrency.fair_semaphore import process_semaphore
from apflow.core.engine.recovery import recover
from apflow.core.engine.worker import Worker
from apflow.core.errors import AlreadyRunningError, ConflictError, InvalidInputError, KeyUsedError
from apflow.core.model.task import Task, utc_now
from apflow.core.settings import reset_settings
from apflow.core.store.base import Change, TaskQuery, TaskStore, Transition

Code = Callable[["Coded", dict[str, Any]], Awaitable[Any]]


class Coded(BaseTask):
    """Runs a function of the test."""

    id = "coded"
    code: Code
    calls: list[str] = []

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return await Coded.code(self, inputs)


class Item(BaseTask):
    """Notes its call; fails or waits if its inputs ask for it."""

    id = "item"
    calls: list[str] = []
    go_on: asyncio.Event
    failures: dict[str, int] = {}

    async def execute(self, inputs: dict[str, Any]) -> Any:
        name = str(inputs.get("n", ""))
        Item.calls.append(name)
        if inputs.get("waits"):
            await Item.go_on.wait()
        if Item.failures.get(name, 0) > 0:
            Item.failures[name] -= 1
            raise RuntimeError("not yet")
        return {"n": name}


@pytest.fixture(autouse=True)
async def executors(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("APFLOW_MAX_CONCURRENCY", "1")
    monkeypatch.setenv("APFLOW_CANCEL_GRACE", "0.2")
    reset_settings()
    Item.calls.clear()
    Item.failures.clear()
    Item.go_on = asyncio.Event()
    for executor in (Coded, Item):
        executor_register(executor, override=True)
    yield
    for executor in (Coded, Item):
        get_registry().unregister(executor.id)
    reset_settings()


def items(*names: str, **more: Any) -> list[dict[str, Any]]:
    """Return a tree of items below a group."""
    children = [
        {"id": name, "name": "item", "parent_id": "all", "inputs": {"n": name, **more}} for name in names
    ]
    return [{"id": "all", "name": "all"}, *children]


async def run(db: TaskStore, code: Code, **more: Any) -> dict[str, Any]:
    """Run a tree of one task with this code."""
    Coded.code = code  # type: ignore[method-assign]
    async with asyncio.timeout(30):
        return await TaskExecutor().execute_tasks([{"name": "coded", **more}], db_session=db)


async def start(db: TaskStore, code: Code, **more: Any) -> asyncio.Task[dict[str, Any]]:
    """Start such a tree, and return when its first item waits."""
    running = asyncio.create_task(run(db, code, **more))
    async with asyncio.timeout(30):
        while not Item.calls and not running.done():
            await asyncio.sleep(0.005)
    return running


async def roots(db: TaskStore) -> tuple[Task, Task]:
    """Return the parent task and the root of the one tree that it started."""
    found = await db.find(TaskQuery(root_only=True))
    parent = next(task for task in found if task.spawned_by is None)
    (child,) = [task for task in found if task.spawned_by is not None]
    return parent, child


async def statuses(db: TaskStore) -> set[str]:
    return {str(task.status) for task in await db.find(TaskQuery())}


async def test_a_child_tree_is_linked_with_its_task_both_ways(db: TaskStore) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        outcome = await self.run_child(items("a", "b"), key="all")
        assert outcome.results["b"] == {"n": "b"}
        return outcome

    outcome = await run(db, code, user_id="ann")
    parent, child = await roots(db)
    assert outcome["result"]["status"] == "completed"
    assert outcome["result"]["root_task_id"] == child.id
    assert child.spawned_by == parent.id
    assert parent.to_dict()["child_trees"] == [child.id]
    assert {task.user_id for task in await db.tree(child.id)} == {"ann"}
    assert process_semaphore(1).take(1, lambda: None) == 1  # every place was given back
    process_semaphore(1).give_back()


async def test_three_levels_end_with_one_place(db: TaskStore) -> None:
    async def code(self: Coded, inputs: dict[str, Any]) -> Any:
        left = inputs.get("left", 3)
        if left == 0:
            return 0
        tree = [{"name": "coded", "inputs": {"left": left - 1}}]
        return (await self.run_child(tree, key="next"))["result"] + 1

    assert (await run(db, code))["result"] == 3
    assert len(await db.find(TaskQuery())) == 4


@pytest.mark.parametrize("way", ["executor", "builder", "manager", "function", "thread", "sync"])
async def test_every_way_to_run_a_tree_inside_a_task_is_linked_and_holds_no_place(
    db: TaskStore, way: str
) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        if way == "executor":
            await TaskExecutor().execute_tasks(items("a"), db_session=db)
        elif way == "builder":
            await TaskBuilder("all").add("item", inputs={"n": "a"}).run(db)
        elif way == "manager":
            await TaskManager(db).distribute_task_tree(
                await TaskCreator(db).create_task_tree_from_array(items("a"))
            )
        elif way == "function":
            await run_child(items("a"))
        elif way == "thread":
            await asyncio.to_thread(
                lambda: asyncio.run(TaskExecutor().execute_tasks(items("a"), db_session=db))
            )
        else:
            await asyncio.to_thread(self.run_child_sync, TaskBuilder("all").add("item", inputs={"n": "a"}))

    assert (await run(db, code))["status"] == "completed"
    parent, child = await roots(db)
    assert (child.spawned_by, parent.to_dict()["child_trees"]) == (parent.id, [child.id])
    assert Item.calls == ["a"]


async def test_trees_that_a_task_runs_at_once_share_the_places(db: TaskStore) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        return await asyncio.gather(*(self.run_child(items(name), key=name) for name in "abc"))

    outcome = await run(db, code)
    assert [each["status"] for each in outcome["result"]] == ["completed"] * 3
    assert sorted(Item.calls) == ["a", "b", "c"]


async def test_nesting_does_not_use_up_the_limit_of_an_executor(
    db: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APFLOW_MAX_CONCURRENCY", "16")
    monkeypatch.setattr(Coded, "max_concurrency", 1)
    reset_settings()
    executor_register(Coded, override=True)

    async def code(self: Coded, inputs: dict[str, Any]) -> Any:
        left = inputs.get("left", 3)
        tree = [{"name": "coded", "inputs": {"left": left - 1}}]
        return (await self.run_child(tree, key="next"))["result"] + 1 if left else 0

    assert (await run(db, code))["result"] == 3


async def test_tasks_that_wait_for_their_trees_keep_the_limit_of_their_run(
    db: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APFLOW_MAX_CONCURRENCY", "16")
    reset_settings()
    most = present = waiting = 0

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        nonlocal most, present, waiting
        waiting += 1
        if waiting == 5:
            Item.go_on.set()
        await self.run_child(items("a", waits=True), key="k")
        present += 1
        most = max(most, present)
        await asyncio.sleep(0.01)
        present -= 1

    Coded.code = code  # type: ignore[method-assign]
    array = [{"id": "all", "name": "all"}]
    array += [{"id": str(n), "name": "coded", "parent_id": "all"} for n in range(5)]
    node = await TaskCreator(db).create_task_tree_from_array(array)
    async with asyncio.timeout(30):
        await TaskManager(db, max_concurrency=1).distribute_task_tree(node)
    assert (node["status"], most) == ("completed", 1)
    assert waiting == 5  # each starts while the others wait


@pytest.mark.timeout(30, method="signal")  # a run that takes turns without a pause stops the event loop
async def test_a_run_with_ready_tasks_keeps_a_place_for_a_task_that_wants_it_back(
    db: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APFLOW_MAX_CONCURRENCY", "16")
    reset_settings()
    order: list[str] = []

    async def code(self: Coded, inputs: dict[str, Any]) -> Any:
        order.append(inputs["n"])
        if inputs["n"] == "first":
            await self.run_child(items("a", waits=True))
        elif inputs["n"] == "second":
            Item.go_on.set()
            child = next(each for each in await db.find(TaskQuery(root_only=True)) if each.spawned_by)
            while (await db.get([child.id]))[child.id].run_ended_at is None:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)  # the first task waits for the place of this one now
            await self.run_child(items("b"))
        order.append(f"end of {inputs['n']}")

    Coded.code = code  # type: ignore[method-assign]
    names = ("first", "second", "third")
    root = {"id": "root", "name": "root"}
    tasks = [{"id": n, "name": "coded", "parent_id": "root", "inputs": {"n": n}} for n in names]
    node = await TaskCreator(db).create_task_tree_from_array([root, *tasks])
    async with asyncio.timeout(20):
        await TaskManager(db, max_concurrency=1).distribute_task_tree(node)
    assert node["status"] == "completed"
    assert order[:3] == ["first", "second", "end of first"]


async def test_a_failed_child_tree_fails_the_task_that_returns_its_outcome(db: TaskStore) -> None:
    Item.failures["a"] = 1

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        return await self.run_child(items("a", "b"), key="k")

    outcome = await run(db, code)
    assert outcome["status"] == "failed"
    assert "not yet" in outcome["error"]


async def test_a_retry_runs_only_what_did_not_complete(db: TaskStore) -> None:
    Item.failures["b"] = 1

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        return await self.run_child(items("a", "b", "c"), key="k")

    outcome = await run(db, code, policy={"retry": {"max_attempts": 2, "delay": 0}})
    assert outcome["status"] == "completed"
    assert sorted(Item.calls) == ["a", "b", "b", "c"]
    await roots(db)  # there is one child tree


async def test_an_execution_by_a_user_starts_new_trees(db: TaskStore) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a"), key="k")

    root_id = (await run(db, code))["root_task_id"]
    await TaskExecutor().execute_task_by_id(root_id, db_session=db, force=True)
    assert Item.calls == ["a", "a"]
    assert len((await db.get([root_id]))[root_id].to_dict()["child_trees"]) == 2


async def test_a_cancelled_task_cancels_its_tree(db: TaskStore) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a", "b", waits=True), key="k")

    running = await start(db, code)
    parent, child = await roots(db)
    assert (await TaskManager(db).cancel_task(parent.id, "enough"))["status"] == "cancelled"
    assert (await running)["status"] == "cancelled"
    assert {str(task.status) for task in await db.tree(child.id)} == {"cancelled"}
    assert Item.calls == ["a"]


async def test_a_timeout_cancels_the_tree_of_the_task(db: TaskStore) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a", "b", waits=True), key="k")

    outcome = await run(db, code, policy={"timeout": 0.3})
    parent, child = await roots(db)
    assert outcome["status"] == "failed"
    assert parent.result["error_type"] == "TimeoutError"
    assert {str(task.status) for task in await db.tree(child.id)} == {"cancelled"}


async def test_cancelling_the_caller_cancels_every_level(db: TaskStore) -> None:
    async def code(self: Coded, inputs: dict[str, Any]) -> Any:
        if inputs.get("left", 2) == 0:
            return await self.run_child(items("a", waits=True), key="k")
        return await self.run_child([{"name": "coded", "inputs": {"left": inputs.get("left", 2) - 1}}])

    running = await start(db, code)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await statuses(db) == {"cancelled"}


async def test_a_cancelled_tree_is_an_outcome_for_its_task(db: TaskStore) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        return (await self.run_child(items("a", waits=True), key="k"))["status"]

    running = await start(db, code)
    _, child = await roots(db)
    await TaskManager(db).cancel_task(child.id)
    assert (await running)["result"] == "cancelled"


@pytest.mark.parametrize("is_thread", [False, True])
async def test_a_tree_that_the_code_leaves_running_ends_with_the_task(db: TaskStore, is_thread: bool) -> None:
    left: list[Any] = []

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        if is_thread:
            waiting = partial(self.run_child_sync, items("a", waits=True))
            context = contextvars.copy_context()
            left.append(asyncio.get_running_loop().run_in_executor(None, lambda: context.run(waiting)))
        else:
            left.append(asyncio.create_task(self.run_child(items("a", waits=True))))
        while not Item.calls:
            await asyncio.sleep(0.005)
        return "done"

    # The code holds no place while it waits for the tree, so that the item can start.
    outcome = await run(db, code)
    _, child = await roots(db)
    assert outcome["result"] == "done"
    assert {str(task.status) for task in await db.tree(child.id)} == {"cancelled"}
    await asyncio.wait(left)


async def test_code_that_continues_after_its_task_cannot_start_a_tree(db: TaskStore) -> None:
    kept: list[Coded] = []

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        kept.append(self)

    await run(db, code)
    with pytest.raises(ConflictError, match="has ended"):
        await kept[0].run_child(items("a"))
    assert Item.calls == []


async def test_outside_of_a_task_there_is_no_child_tree() -> None:
    with pytest.raises(InvalidInputError, match="outside of a task"):
        await Coded().run_child(items("a"))
    with pytest.raises(InvalidInputError, match="outside of a task"):
        await run_child(items("a"))


async def test_the_form_for_threads_refuses_an_event_loop(db: TaskStore) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        self.run_child_sync(items("a"))

    assert "await run_child()" in (await run(db, code))["error"]


@pytest.mark.parametrize("key", ["", "  ", ":a", "x" * 256])
async def test_a_key_that_cannot_be_used_is_refused(key: str) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a"), key=key)

    assert "key" in (await run(MemoryStore(), code))["error"]
    assert Item.calls == []


async def test_one_key_stands_for_one_tree() -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        first = await self.run_child(items("a"), key="k")
        second = await self.run_child(items("a"), key="k")
        with pytest.raises(KeyUsedError):
            await self.run_child(items("b"), key="k")
        return first["root_task_id"] == second["root_task_id"]

    assert (await run(MemoryStore(), code))["result"] is True
    assert Item.calls == ["a"]


async def test_an_invalid_array_creates_nothing() -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child([{"name": "a", "parent_id": "missing"}], key="k")

    db = MemoryStore()
    assert (await run(db, code))["status"] == "failed"
    assert len(await db.find(TaskQuery())) == 1


async def test_a_tree_of_another_user_is_refused() -> None:
    db = MemoryStore()
    await TaskCreator(db).create_task_tree_from_array(items("a"), user_id="bob")

    async def child(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child([{"name": "item", "user_id": "bob"}])

    async def by_hand(self: Coded, _: dict[str, Any]) -> Any:
        await TaskExecutor().execute_task_by_id("all", db_session=db)

    for code in (child, by_hand):
        outcome = await run(db, code, user_id="ann")
        assert "user 'bob'" in outcome["error"]
    assert Item.calls == []


async def test_a_tree_has_the_authors_of_the_tree_of_its_task() -> None:
    db = MemoryStore()
    authors: list[dict[str, Any]] = [{"user": "ann", "roles": []}]

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a"))
        await TaskExecutor().execute_tasks(items("b"), db_session=db)

    Coded.code = code  # type: ignore[method-assign]
    node = await TaskCreator(db).create_task_tree_from_array([{"name": "coded", "user_id": "ann"}])
    await db.move([Transition(node.task.id, node.task.id, {}, {"written_by": authors})])
    await TaskManager(db).distribute_task_tree(node)
    children = [root for root in await db.find(TaskQuery(root_only=True)) if root.spawned_by is not None]
    assert [child.written_by for child in children] == [authors, authors]


async def test_the_tree_of_the_task_itself_is_refused_at_once() -> None:
    db = MemoryStore()

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        with pytest.raises(AlreadyRunningError):
            await TaskExecutor().execute_task_by_id(str(self.root_task_id), db_session=db)

    assert (await run(db, code))["status"] == "completed"


async def test_a_tree_that_starts_itself_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apflow.core.engine.child_trees.MAX_DEPTH", 5)

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        return await self.run_child([{"name": "coded"}])

    db = MemoryStore()
    assert "Check that the tree does not start itself" in (await run(db, code))["error"]
    assert len(await db.find(TaskQuery(root_only=True))) <= 7


async def leave_behind(db: TaskStore, owner: str = "dead") -> None:
    """Make everything look as if the process that ran it had died."""
    moves: list[Transition] = []
    for task in await db.find(TaskQuery()):
        sets: dict[str, Any] = {}
        if task.status == "in_progress":
            sets |= {"owner": owner}
        if task.id == task.root_id:
            sets |= {"run_owner": owner}
        moves.append(Transition(task.id, task.root_id, {}, sets))
    await db.write(Change(moves=moves))


async def crash(db: TaskStore, running: asyncio.Task[Any]) -> MemoryStore:
    """Return a store with what was stored at this moment, as a new process finds it; end the run."""
    tasks = await db.find(TaskQuery())
    running.cancel()
    await asyncio.wait({running})
    after = MemoryStore()
    await after.add(tasks)
    await leave_behind(after)
    return after


@pytest.mark.parametrize("is_by_hand", [False, True])
async def test_after_a_crash_the_tree_is_found_and_continued(is_by_hand: bool) -> None:
    db = MemoryStore()

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        array = items("a", "b", "c", waits=True)
        if is_by_hand:
            return await TaskExecutor().execute_tasks(array, db_session=self_db[0])
        return await self.run_child(array, key="k")

    self_db: list[TaskStore] = [db]
    running = await start(db, code)
    Item.go_on.set()
    async with asyncio.timeout(30):
        while Item.calls != ["a", "b"]:
            await asyncio.sleep(0)
    Item.go_on.clear()
    after = self_db[0] = await crash(db, running)
    Item.calls.clear()
    Item.go_on.set()
    async with asyncio.timeout(30):
        await recover(after)
    assert await statuses(after) == {"completed"}
    await roots(after)  # there is still one child tree
    assert sorted(Item.calls) in (["b", "c"], ["c"])  # b was in progress when the process died


async def test_after_a_crash_the_outcome_of_an_ended_tree_is_used_even_if_it_failed() -> None:
    db = MemoryStore()
    Item.failures["a"] = 1
    is_after = asyncio.Event()

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        outcome = await self.run_child(items("a"), key="k")
        if not is_after.is_set():
            Item.calls.append("waits")
            await asyncio.Event().wait()
        return {"child": outcome["status"]}

    running = await start(db, code)
    async with asyncio.timeout(30):
        while Item.calls != ["a", "waits"]:
            await asyncio.sleep(0.005)
    after = await crash(db, running)
    is_after.set()
    await recover(after)
    parent, _ = await roots(after)
    assert (parent.status, parent.result) == ("completed", {"child": "failed"})
    assert Item.calls == ["a", "waits"]


async def test_a_task_that_must_not_run_again_takes_its_tree_with_it() -> None:
    db = MemoryStore()

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a", waits=True), key="k")

    running = await start(db, code, policy={"effect": "once"})
    after = await crash(db, running)
    Item.calls.clear()
    await recover(after)
    parent, child = await roots(after)
    assert parent.result["error_type"] == "Interrupted"
    assert {str(task.status) for task in await after.tree(child.id)} == {"cancelled"}
    assert Item.calls == []


async def test_cancelling_a_task_of_a_dead_process_cancels_its_tree() -> None:
    db = MemoryStore()

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a", waits=True), key="k")

    after = await crash(db, await start(db, code))
    parent, _ = await roots(after)
    assert (await TaskManager(after).cancel_task(parent.id))["status"] == "cancelled"
    assert await statuses(after) == {"cancelled"}


@pytest.mark.parametrize("effect", ["idempotent", "once"])
async def test_a_drain_puts_back_the_task_and_its_tree(monkeypatch: pytest.MonkeyPatch, effect: str) -> None:
    monkeypatch.setenv("APFLOW_SHUTDOWN_TIMEOUT", "0.2")
    reset_settings()
    db = MemoryStore()

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a", "b", waits=True), key="k")

    Coded.code = code  # type: ignore[method-assign]
    array = [{"name": "coded", "policy": {"effect": effect}}]
    node = await TaskCreator(db).create_task_tree_from_array(array)
    now = utc_now()
    await db.move([Transition(node.task.id, node.task.id, {}, {"run_requested_at": now})])
    worker = Worker(db)
    working = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):  # less than `shutdown_timeout`
        while not Item.calls:
            await asyncio.sleep(0.005)
        worker.drain()
        await working
    parent, child = await roots(db)
    of_child = {str(task.status) for task in await db.tree(child.id)}
    if effect == "once":
        assert (parent.result["error_type"], of_child) == ("Interrupted", {"cancelled"})
        return
    assert (parent.status, parent.attempts, parent.interruptions) == ("pending", 0, 0)
    assert of_child <= {"pending", "in_progress"}  # the group stays open
    assert [task.interruptions for task in await db.tree(child.id)] == [0, 0, 0]
    assert parent.run_owner is None
    assert child.run_owner is None
    Item.calls.clear()
    Item.go_on.set()
    again = Worker(db)
    working = asyncio.create_task(again.run())
    async with asyncio.timeout(30):
        while await statuses(db) != {"completed"}:
            await asyncio.sleep(0.01)
        again.drain()
        await working
    assert sorted(Item.calls) == ["a", "b"]
    await roots(db)


async def test_the_stores_may_differ(db: TaskStore) -> None:
    other = MemoryStore()

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await TaskExecutor().execute_tasks(items("a"), db_session=other)

    assert (await run(db, code))["status"] == "completed"
    assert await statuses(other) == {"completed"}


async def test_why_counts_the_tree_that_a_task_waits_for(db: TaskStore) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        array = items("a", "b", waits=True)
        await self.run_child(array, key="k")

    running = await start(db, code)
    parent, child = await roots(db)
    service = TaskService(db)
    found = await service.why(parent.id)
    assert (
        f"It waits for the tree 'all' ({child.id}), which it started: 0 of 3 tasks have ended."
        in found["reasons"]
    )
    assert f"apflow tasks why {child.id}" in found["advice"]
    assert f"Task {parent.id} started its tree." in (await service.why(child.id))["reasons"]
    Item.go_on.set()
    await running


async def test_why_says_that_a_tree_continues_with_its_task() -> None:
    db = MemoryStore()

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a", waits=True), key="k")

    after = await crash(db, await start(db, code))
    _, child = await roots(after)
    found = await TaskService(after).why(child.id)
    assert "Its tree continues when the task that started it does." in found["reasons"]
    assert not any("tasks resume" in each for each in found["advice"])


async def test_a_deleted_task_takes_its_trees_with_it(db: TaskStore) -> None:
    async def code(self: Coded, inputs: dict[str, Any]) -> Any:
        if inputs.get("left", 1) == 0:
            return await self.run_child(items("a"), key="k")
        return await self.run_child([{"name": "coded", "inputs": {"left": 0}}], key="k")

    root_id = (await run(db, code))["root_task_id"]
    service = TaskService(db)
    with pytest.raises(ConflictError, match="which it started"):
        await service.delete(root_id)
    assert (await service.delete(root_id, force=True))["deleted_count"] == 4
    assert await db.find(TaskQuery()) == []


async def test_a_tree_that_a_running_task_started_cannot_be_deleted(db: TaskStore) -> None:
    async def code(self: Coded, _: dict[str, Any]) -> Any:
        await self.run_child(items("a"), key="first")
        await self.run_child(items("b", waits=True), key="second")

    Coded.code = code  # type: ignore[method-assign]
    running = asyncio.create_task(run(db, code))
    async with asyncio.timeout(30):
        while "b" not in Item.calls:
            await asyncio.sleep(0.005)
    (parent,) = [task for task in await db.find(TaskQuery()) if task.name == "coded"]
    first, second = parent.to_dict()["child_trees"]
    with pytest.raises(ConflictError, match=r"'coded' .*, which started the tree, is in progress"):
        await TaskService(db).delete(first, force=True)
    Item.go_on.set()
    await running
    await TaskService(db).delete(first, force=True)
    assert (await db.get([parent.id]))[parent.id].to_dict()["child_trees"] == [second]


async def test_the_number_of_trees_of_one_task_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apflow.core.planning.child_trees.MAX_CHILD_TREES", 2)
    db = MemoryStore()

    async def code(self: Coded, _: dict[str, Any]) -> Any:
        for name in "ab":
            await self.run_child(items(name))
        await TaskExecutor().execute_tasks(items("c"), db_session=db)  # runs, but is not linked
        with pytest.raises(InvalidInputError, match="Put the work into fewer trees"):
            await self.run_child(items("d"))

    assert (await run(db, code))["status"] == "completed"
    assert Item.calls == ["a", "b", "c"]
