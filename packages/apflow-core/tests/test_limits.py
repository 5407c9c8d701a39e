"""Limits while trees run: places in the store, other trees and event loops, dead holders, cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskService,
    executor_register,
    get_registry,
)
from apflow.core.engine import limit_queue
from apflow.core.errors import TreeInvalidError
from apflow.core.model.limit import RECORDS, Claim, LimitAccount, Rule, account_key
from apflow.core.model.status import TaskStatus
from apflow.core.settings import overridden_defaults
from apflow.core.store.base import TaskStore

ONE = {"key": "k", "concurrency": 1}


class Works(BaseTask):
    """Records how many of its calls run at once, and waits for the test if its inputs say so."""

    id = "works"
    begun: list[str] = []
    running = 0
    most = 0
    go: asyncio.Event
    lock = threading.Lock()

    async def execute(self, inputs: dict[str, Any]) -> Any:
        with Works.lock:
            Works.running += 1
            Works.most = max(Works.most, Works.running)
            Works.begun.append(str(inputs.get("name", self.task_id)))
        try:
            if inputs.get("waits"):
                await Works.go.wait()
            await asyncio.sleep(0)
            if inputs.get("fails") and self.attempts == 1:
                raise ValueError("once")
        finally:
            with Works.lock:
                Works.running -= 1
        return {}


@pytest.fixture(autouse=True)
async def _clean() -> AsyncIterator[None]:
    Works.begun, Works.running, Works.most, Works.go = [], 0, 0, asyncio.Event()
    executor_register()(Works)
    yield
    get_registry().unregister("works")


def work(name: str, limit: Any = None, *, policy: dict[str, Any] | None = None, **inputs: Any) -> Any:
    entry = {"name": name, "schemas": {"method": "works"}, "inputs": {"name": name, **inputs}}
    more = {"limit": limit} if limit else {}
    return entry | {"policy": {**more, **(policy or {})}}


def tree(*tasks: Any) -> list[Any]:
    return [{"name": "root"}, *({**each, "parent_id": "root"} for each in tasks)]


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.005)


async def account(db: TaskStore, key: str = "k", user: str | None = None) -> LimitAccount:
    record = await db.record(RECORDS, account_key(user, key))
    return LimitAccount() if record is None else LimitAccount.from_json(record.value)


async def test_tasks_of_several_trees_share_the_places_of_a_key(db: TaskStore):
    limit = {"key": "k", "concurrency": 2}
    trees = [tree(*(work(f"{name}{number}", limit) for number in range(8))) for name in "abc"]
    outcomes = await asyncio.gather(*(TaskExecutor().execute_tasks(each, db_session=db) for each in trees))
    assert [each["status"] for each in outcomes] == ["completed"] * 3
    assert Works.most == 2
    assert len(Works.begun) == 24
    assert (await account(db)).held == {}
    assert (await account(db)).line == {}


async def test_tasks_of_several_event_loops_share_the_places_of_a_key():
    db = MemoryStore()

    def run(name: str) -> None:
        tasks = tree(*(work(f"{name}{number}", ONE) for number in range(6)))
        asyncio.run(TaskExecutor().execute_tasks(tasks, db_session=db))

    await asyncio.gather(*(asyncio.to_thread(run, name) for name in "ab"))
    assert Works.most == 1
    assert sorted(Works.begun) == sorted(f"{name}{number}" for name in "ab" for number in range(6))


async def test_a_task_that_waits_for_its_limit_holds_no_place_of_the_process():
    db = MemoryStore()
    with overridden_defaults(max_concurrency=2):
        limited = [work(f"limited{number}", ONE, waits=True) for number in range(3)]
        free = [work(f"free{number}") for number in range(5)]
        running = asyncio.create_task(TaskExecutor().execute_tasks(tree(*limited, *free), db_session=db))
        await until(lambda: len(Works.begun) == 6)
        assert [name for name in Works.begun if name.startswith("limited")] == ["limited0"]
        Works.go.set()
        assert (await running)["status"] == "completed"


async def test_tasks_of_a_tree_get_places_in_order():
    db = MemoryStore()
    tasks = [{**work(f"{number}", ONE), "priority": number % 2} for number in range(6)]
    await TaskExecutor().execute_tasks(tree(*tasks), db_session=db)
    assert Works.begun == ["0", "2", "4", "1", "3", "5"]


async def test_a_rate_delays_starts():
    db, loop = MemoryStore(), asyncio.get_running_loop()
    before = loop.time()
    tasks = [work(f"{number}", {"key": "k", "rate": "2/s"}) for number in range(3)]
    assert (await TaskExecutor().execute_tasks(tree(*tasks), db_session=db))["status"] == "completed"
    assert loop.time() - before >= 1.0


async def test_the_tasks_of_each_user_have_their_own_places():
    db = MemoryStore()
    running = [
        asyncio.create_task(
            TaskExecutor().execute_tasks(tree(work("a", ONE, waits=True)), db_session=db, user_id=user)
        )
        for user in ("ann", "bob")
    ]
    await until(lambda: len(Works.begun) == 2)
    Works.go.set()
    await asyncio.gather(*running)


async def test_a_task_that_waits_for_its_retry_holds_no_place():
    db = MemoryStore()
    policy = {"retry": {"max_attempts": 2, "delay": 0.2, "jitter": False}}
    tasks = tree(work("first", ONE, policy=policy, fails=True), work("second", ONE))
    assert (await TaskExecutor().execute_tasks(tasks, db_session=db))["status"] == "completed"
    assert Works.begun == ["first", "second", "first"]
    assert Works.most == 1


async def test_a_call_that_was_not_made_does_not_count_as_a_start():
    db = MemoryStore()
    bad = work("bad", {"key": "k", "rate": "1/h"})
    bad["schemas"]["input_schema"] = {"type": "object", "required": ["missing"]}
    assert (await TaskExecutor().execute_tasks(tree(bad), db_session=db))["status"] == "failed"
    assert await account(db) == LimitAccount()


async def test_places_of_a_process_that_has_died_are_free_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limit_queue, "DEAD_AFTER_SECONDS", 0.0)
    db, gone = MemoryStore(), LimitAccount()
    left = await TaskCreator(db).create_task_tree_from_array(tree(work("left", ONE)))
    gone.grant("gone", "dead", [Claim("left", left.task.id, Rule(concurrency=1))], 1.0)
    await db.put_record(RECORDS, account_key(None, "k"), gone.to_json())
    assert (await TaskExecutor().execute_tasks(tree(work("a", ONE)), db_session=db))["status"] == "completed"


async def test_places_of_a_process_that_lives_stay_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limit_queue, "DEAD_AFTER_SECONDS", 0.0)
    db = MemoryStore()
    first = asyncio.create_task(
        TaskExecutor().execute_tasks(tree(work("first", ONE, waits=True)), db_session=db)
    )
    await until(lambda: Works.begun == ["first"])
    [held] = (await account(db)).held.values()
    root = (await db.get([held.root_id]))[held.root_id]
    assert root.run_owner == held.owner
    second = asyncio.create_task(TaskExecutor().execute_tasks(tree(work("second", ONE)), db_session=db))
    await asyncio.sleep(0.3)  # it checks the holder several times
    assert Works.begun == ["first"]
    Works.go.set()
    await asyncio.gather(first, second)


async def test_a_waiting_task_can_be_cancelled_and_leaves_the_line():
    db = MemoryStore()
    first = asyncio.create_task(
        TaskExecutor().execute_tasks(tree(work("first", ONE, waits=True)), db_session=db)
    )
    await until(lambda: Works.begun == ["first"])
    node = await TaskCreator(db).create_task_tree_from_array(tree(work("second", ONE)))
    second = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    while not (await account(db)).line:
        await asyncio.sleep(0.005)
    await TaskManager(db).cancel_task(node.task.id)
    await second
    assert (await account(db)).line == {}
    Works.go.set()
    await first
    assert (await account(db)) == LimitAccount()
    assert Works.begun == ["first"]


async def test_why_names_the_limit_and_who_holds_it():
    db = MemoryStore()
    limit = {"key": "openai", "rate": "2/h", "concurrency": 1}
    node = await TaskCreator(db).create_task_tree_from_array(
        tree(work("first", limit, waits=True), work("second", limit))
    )
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    await until(lambda: Works.begun == ["first"])
    first, second = (child.task for child in node.children)
    service = TaskService(db)
    while "limit" not in str((why := await service.why(second.id))["reasons"]):
        await asyncio.sleep(0.005)
    assert why["reasons"][0] == "It is ready and waits for the limit 'openai' (2/h, 1 at once)."
    assert why["reasons"][1] == f"Task 'first' ({first.id}) holds a place."
    assert why["advice"] == [f"apflow tasks why {first.id}"]
    assert "1 tasks started in the last 3600 s" in why["reasons"][2]
    assert (await service.why(first.id))["reasons"][1] == (
        "It holds a place of the limit 'openai' (2/h, 1 at once)."
    )
    Works.go.set()
    await running
    assert {each.status for each in await db.tree(node.task.id)} == {TaskStatus.COMPLETED}


@pytest.mark.parametrize(
    ("limit", "fault"),
    [
        ({"rate": "1/s"}, "policy.limit needs a key"),
        ({"key": "k"}, "policy.limit must have a rate"),
        ({"key": "", "rate": "1/s"}, "policy.limit.key must be text"),
        ({"key": "k", "rate": "often"}, "policy.limit.rate must be starts in a period, such as '50/s'"),
        ({"key": "k", "concurrency": 0}, "policy.limit.concurrency must be an integer from 1 to 5,000"),
        ({"key": "k", "concurrency": True}, "policy.limit.concurrency must be an integer"),
        ({"key": "k", "most": 1}, "policy.limit has no key 'most'"),
        ([], "policy.limit must be an object"),
    ],
)
async def test_a_limit_that_cannot_be_is_refused(limit: Any, fault: str):
    task = work("a", policy={"limit": limit})
    with pytest.raises(TreeInvalidError) as refused:
        await TaskCreator(MemoryStore()).create_task_tree_from_array([task])
    assert fault in str(refused.value)


async def test_a_key_has_the_same_limit_in_a_whole_tree():
    create = TaskCreator(MemoryStore()).create_task_tree_from_array
    same = tree(work("a", {"key": "k", "rate": "60/min"}), work("b", {"key": "k", "rate": "60/m"}))
    await create(same)
    with pytest.raises(TreeInvalidError) as refused:
        await create(tree(work("a", {"key": "k", "rate": "1/s"}), work("b", {"key": "k", "rate": "2/s"})))
    assert "policy.limit is 'k' (2/s); tasks[1] ('a') has 'k' (1/s)" in str(refused.value)
