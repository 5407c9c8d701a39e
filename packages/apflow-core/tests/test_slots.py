"""Places for executor calls: never more than the limit over all trees, and none lost whatever happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskCreator, TaskManager, executor_register, get_registry
from apflow.core.concurrency.fair_semaphore import (
    FairSemaphore,
    executor_semaphore,
    host_semaphore,
    process_semaphore,
)
from apflow.core.engine.tree_run import TreeRun
from apflow.core.errors import StoreError
from apflow.core.settings import get_settings, reset_settings
from apflow.core.store.base import Change, Transition, TransitionResult


def nobody() -> None:
    """What wakes a run that never waits."""


def test_no_more_places_are_taken_than_there_are():
    slots = FairSemaphore(3)
    assert [slots.take(2, nobody), slots.take(2, nobody), slots.take(2, nobody), slots.take(0, nobody)] == [
        2,
        1,
        0,
        0,
    ]
    slots.give_back(2)
    assert slots.take(5, nobody) == 2


class Waiting:
    """A run that counts how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def test_a_free_place_goes_to_the_longest_waiting_run():
    slots, first, second = FairSemaphore(1), Waiting(), Waiting()
    slots.take(1, nobody)
    slots.wait(first.wake)
    slots.wait(second.wake)
    slots.give_back()
    assert (first.woken, second.woken) == (1, 0)
    assert slots.take(1, nobody) == 0
    assert slots.take(1, second.wake) == 0
    assert slots.take(1, first.wake) == 1
    slots.give_back()
    assert (first.woken, second.woken) == (1, 1)
    assert slots.take(1, second.wake) == 1


def test_who_takes_less_than_is_free_or_leaves_wakes_the_next():
    slots, first, second, third = FairSemaphore(2), Waiting(), Waiting(), Waiting()
    slots.take(2, nobody)
    for each in (first, second, third):
        slots.wait(each.wake)
    slots.give_back()
    slots.leave(first.wake)
    assert (second.woken, third.woken) == (1, 0)
    slots.take(1, second.wake)
    assert third.woken == 0
    slots.give_back()
    assert third.woken == 1


def test_who_begins_to_wait_when_a_place_is_free_is_woken_at_once():
    slots, waiting = FairSemaphore(1), Waiting()
    slots.wait(waiting.wake)
    assert waiting.woken == 1


def test_a_lower_limit_holds_from_now_on():
    slots = process_semaphore(2)
    taken = slots.take(2, nobody)
    assert process_semaphore(1) is slots
    slots.give_back(1)
    assert slots.take(1, nobody) == 0
    slots.give_back(taken - 1)
    process_semaphore(get_settings().max_concurrency)


def test_executors_have_places_of_their_own():
    assert executor_semaphore("test_a", 2) is executor_semaphore("test_a", 2)
    assert executor_semaphore("test_a", 2) is not executor_semaphore("test_b", 2)


def test_threads_never_take_more_than_there_are():
    slots, most, in_use = FairSemaphore(3), list[int](), list[None]()

    def work() -> None:
        for _ in range(300):
            if slots.take(1, nobody):
                in_use.append(None)
                most.append(len(in_use))
                in_use.pop()
                slots.give_back()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 3
    assert slots.take(9, nobody) == 3


# --- in runs ---------------------------------------------------------------------------------------


class Busy(BaseTask):
    """Counts how many of it run at once, and ends as its inputs say."""

    id = "test_busy"
    now = 0
    most = 0
    started: asyncio.Event

    async def execute(self, inputs: dict[str, Any]) -> Any:
        Busy.now += 1
        Busy.most = max(Busy.most, Busy.now)
        Busy.started.set()
        try:
            match inputs.get("do"):
                case "fail":
                    raise ConnectionError("asked to")
                case "wait":
                    await asyncio.Event().wait()
                case "fail once" if self.attempts == 1:
                    raise ConnectionError("once")
                case _:
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
        finally:
            Busy.now -= 1


class Lonely(Busy):
    """May run twice at once."""

    id = "test_lonely"
    max_concurrency = 2


@pytest.fixture(autouse=True)
async def nothing_started() -> None:
    Busy.now = Busy.most = 0
    Busy.started = asyncio.Event()


@pytest.fixture(autouse=True)
def executors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_MAX_CONCURRENCY", "3")
    reset_settings()
    for each in (Busy, Lonely):
        executor_register(each, override=True)
    yield
    for each in (Busy, Lonely):
        get_registry().unregister(each.id)
    monkeypatch.undo()
    reset_settings()
    process_semaphore(get_settings().max_concurrency)


@pytest.fixture
def db() -> MemoryStore:
    return MemoryStore()


def wide(root_id: str, size: int, executor: str = "test_busy", **more: Any) -> list[dict[str, Any]]:
    tasks = [{"id": f"{root_id}{at}", "name": executor, "parent_id": root_id, **more} for at in range(size)]
    return [{"id": root_id, "name": f"group {root_id}"}, *tasks]


async def run(db: MemoryStore, tasks: list[dict[str, Any]], **options: Any) -> Any:
    node = await TaskCreator(db).create_task_tree_from_array(tasks)
    async with asyncio.timeout(30):
        return await TaskManager(db, **options).distribute_task_tree(node)


async def many_turns() -> None:
    """Yield to the event loop until all ready callbacks have run."""
    for _ in range(100):
        await asyncio.sleep(0)


def assert_all_free() -> None:
    for slots, limit in ((process_semaphore(3), 3), (executor_semaphore("test_lonely", 2), 2)):
        assert slots.take(100, nobody) == limit
        slots.give_back(limit)


async def test_the_limit_holds_over_all_trees_of_the_process(db: MemoryStore):
    other = MemoryStore()
    await asyncio.gather(run(db, wide("a", 10)), run(db, wide("b", 10)), run(other, wide("c", 10)))
    assert Busy.most == 3
    assert_all_free()


def test_the_limit_holds_over_all_event_loops(db: MemoryStore):
    slots = process_semaphore(3)
    most: list[int] = []
    take = slots.take

    def watched(wanted: int, by: Any) -> int:
        taken = take(wanted, by)
        most.append(slots._used)
        return taken

    slots.take = watched  # type: ignore[method-assign]
    try:
        threads = [
            threading.Thread(target=asyncio.run, args=(run(db, wide(name, 30)),)) for name in ("a", "b")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    finally:
        del slots.take  # type: ignore[method-assign]
    assert max(most) <= 3
    assert {str(task.status) for each in "ab" for task in asyncio.run(db.tree(each))} == {"completed"}
    assert_all_free()


async def test_an_executor_has_a_limit_over_all_trees_too(db: MemoryStore):
    await asyncio.gather(run(db, wide("a", 6, "test_lonely")), run(db, wide("b", 6, "test_lonely")))
    assert Busy.most == 2
    assert_all_free()


async def test_a_tree_of_a_full_executor_leaves_the_other_places_to_others(db: MemoryStore):
    holding = asyncio.create_task(run(db, wide("a", 4, "test_lonely", inputs={"do": "wait"})))
    await Busy.started.wait()
    assert (await run(db, wide("b", 5)))["status"] == "completed"
    await TaskManager(db).cancel_task("a")
    await holding
    assert_all_free()


async def test_a_small_tree_does_not_wait_for_the_end_of_a_large_one(db: MemoryStore):
    large = asyncio.create_task(run(db, wide("a", 200)))
    await Busy.started.wait()
    assert (await run(db, wide("b", 5)))["status"] == "completed"
    assert not large.done()
    await large
    assert_all_free()


async def test_many_trees_take_turns_and_all_come_to_their_end(db: MemoryStore):
    trees = [run(db, wide(f"t{at}-", 8, "test_lonely" if at % 3 == 0 else "test_busy")) for at in range(30)]
    answers = await asyncio.gather(*trees)
    assert {answer["status"] for answer in answers} == {"completed"}
    assert_all_free()


async def test_a_full_executor_holds_up_no_other_of_the_same_tree_and_costs_nothing_meanwhile(
    db: MemoryStore, monkeypatch: pytest.MonkeyPatch
):
    turns: list[TreeRun] = []
    turn = TreeRun._turn

    async def counted(self: TreeRun) -> None:
        turns.append(self)
        await turn(self)

    monkeypatch.setattr(TreeRun, "_turn", counted)
    tasks = wide("a", 9, "test_lonely", inputs={"do": "wait"})
    tasks.append({"id": "last", "name": "test_busy", "parent_id": "a"})
    running = asyncio.create_task(run(db, tasks))
    await many_turns()
    assert (await db.get(["last"]))["last"].status == "completed"
    before = len(turns)
    await many_turns()
    assert len(turns) == before
    await TaskManager(db).cancel_task("a", force=True)
    await running
    assert_all_free()


async def test_what_waits_for_its_executor_is_not_forgotten_when_places_are_few(db: MemoryStore):
    go_on = {"test_first": asyncio.Event(), "test_second": asyncio.Event()}

    class First(BaseTask):
        id = "test_first"
        max_concurrency = 1

        async def execute(self, inputs: dict[str, Any]) -> Any:
            await go_on[self.id].wait()

    class Second(First):
        id = "test_second"
        max_concurrency = None

    for each in (First, Second):
        executor_register(each, override=True)
    first = asyncio.create_task(run(db, wide("a", 4, "test_first")))
    await many_turns()
    second = asyncio.create_task(run(db, wide("b", 3, "test_second")))
    await many_turns()
    go_on["test_first"].set()
    await many_turns()
    go_on["test_second"].set()
    for each in (First, Second):
        get_registry().unregister(each.id)
    assert {(await first)["status"], (await second)["status"]} == {"completed"}
    assert_all_free()


@pytest.mark.parametrize("executor", ["test_busy", "test_lonely"])
@pytest.mark.parametrize(
    "more",
    [
        {"inputs": {"do": "fail"}},
        {"params": {"executor_id": "test_nowhere"}},
        {"params": {"no_such": "param"}},
        {"inputs": {"x": {"$secret": "TEST_MISSING"}}},
        {"inputs": {"do": "wait"}, "policy": {"timeout": 0.001}},
        {"inputs": {"do": "fail once"}, "policy": {"retry": {"max_attempts": 3, "delay": 0.001}}},
        {"inputs": {"do": "fail"}, "policy": {"retry": {"max_attempts": 2, "delay": 0.001}}},
    ],
)
async def test_no_place_is_lost_however_a_call_ends(db: MemoryStore, executor: str, more: dict[str, Any]):
    await run(db, wide("a", 7, executor, **more))
    assert Busy.now == 0
    assert_all_free()


@pytest.mark.parametrize("executor", ["test_busy", "test_lonely"])
@pytest.mark.parametrize("is_forced", [True, False])
async def test_no_place_is_lost_where_a_tree_is_cancelled(db: MemoryStore, executor: str, is_forced: bool):
    running = asyncio.create_task(run(db, wide("a", 7, executor, inputs={"do": "wait"})))
    await Busy.started.wait()
    await TaskManager(db).cancel_task("a", force=is_forced)
    await running
    assert Busy.now == 0
    assert_all_free()


@pytest.mark.parametrize("executor", ["test_busy", "test_lonely"])
async def test_no_place_is_lost_where_the_caller_is_cancelled(db: MemoryStore, executor: str):
    running = asyncio.create_task(run(db, wide("a", 7, executor, inputs={"do": "wait"})))
    await Busy.started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert_all_free()


@pytest.mark.parametrize("turns", range(12))
async def test_no_place_is_lost_whenever_the_caller_is_cancelled(db: MemoryStore, turns: int):
    running = asyncio.create_task(run(db, wide("a", 7, "test_lonely")))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert_all_free()


class Interfering(MemoryStore):
    """Makes another writer change a task just before one of the writes of a run."""

    def __init__(self, at: int, error: Exception | None = None) -> None:
        super().__init__()
        self.at = at
        self.error = error

    async def write(self, change: Change) -> TransitionResult:
        if any(move.sets.get("status") for move in change.moves):
            self.at -= 1
            if self.at == 0 and self.error is not None:
                raise self.error
            if self.at == 0:
                move = next(move for move in change.moves if move.sets.get("status"))
                now = (await self.get([move.task_id]))[move.task_id]
                sets = {"generation": now.generation + 1}
                await super().write(
                    Change(moves=[Transition(now.id, now.root_id, {"status": now.status}, sets)])
                )
        return await super().write(change)


@pytest.mark.parametrize("executor", ["test_busy", "test_lonely"])
@pytest.mark.parametrize("at", range(2, 6))
async def test_no_place_is_lost_if_another_process_changes_the_tree(executor: str, at: int):
    db = Interfering(at)
    await run(db, wide("a", 5, executor))
    assert {str(task.status) for task in await db.tree("a")} == {"completed"}
    assert_all_free()


@pytest.mark.parametrize("executor", ["test_busy", "test_lonely"])
@pytest.mark.parametrize("at", range(1, 5))
async def test_no_place_is_lost_where_the_store_fails(executor: str, at: int):
    with pytest.raises(StoreError, match="disk"):
        await run(Interfering(at, StoreError("no disk")), wide("a", 9, executor))
    assert_all_free()


async def test_calls_at_one_host_wait_for_a_place_and_those_at_another_do_not():
    entered: list[str] = []
    leave = asyncio.Event()

    async def call(host: str) -> None:
        async with host_semaphore("rest_executor", host, 2):
            entered.append(host)
            await leave.wait()

    calls = [asyncio.ensure_future(call(host)) for host in ("a", "a", "a", "b")]
    await asyncio.sleep(0.01)
    assert sorted(entered) == ["a", "a", "b"]
    leave.set()
    await asyncio.gather(*calls)
    assert sorted(entered) == ["a", "a", "a", "b"]


async def test_who_no_longer_waits_for_a_host_leaves_the_place_to_others():
    leave = asyncio.Event()

    async def call() -> None:
        async with host_semaphore("rest_executor", "a", 1):
            await leave.wait()

    calls = [asyncio.ensure_future(call()) for _ in range(3)]
    await asyncio.sleep(0.01)
    calls[1].cancel()
    leave.set()
    await calls[0]
    await calls[2]
    assert calls[1].cancelled()
