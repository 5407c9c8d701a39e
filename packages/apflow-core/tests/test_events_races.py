"""Subscribers that look while something is being written: each event once, in order, and the final one.

The store is stopped at the point that matters, so that what may happen once in a thousand runs happens here.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    Subscription,
    TaskCreator,
    TaskManager,
    TaskStore,
    TaskTreeNode,
    executor_register,
    get_registry,
)
from apflow.core.events.bus import bus_of
from apflow.core.model.event import FINAL, LIVE, EventType, TaskEvent
from apflow.core.model.task import Json, Task


class Waits(BaseTask):
    """Waits until it may continue."""

    id = "test_waits"
    started: asyncio.Event
    go_on: asyncio.Event

    async def execute(self, inputs: dict[str, Any]) -> None:
        Waits.started.set()
        await Waits.go_on.wait()
        if inputs.get("fails"):
            raise ValueError("as asked")


class Dawdles(BaseTask):
    """Says something now and then, and gives others a turn, or many."""

    id = "test_dawdles"

    async def execute(self, inputs: dict[str, Any]) -> None:
        for at in range(inputs["turns"]):
            await asyncio.sleep(0)
            if at % 3 == 0:
                await self.report_progress(at / inputs["turns"])


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    for each in (Waits, Dawdles):
        executor_register(each, override=True)
    yield
    for each in (Waits, Dawdles):
        get_registry().unregister(each.id)


@pytest.fixture(autouse=True)
async def signals() -> None:
    Waits.started, Waits.go_on = asyncio.Event(), asyncio.Event()


class Point:
    """Where a call stops: its work is done, and it has not returned."""

    def __init__(self) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()


def stop_after(db: TaskStore, name: str) -> Point:
    """Make the next call of an operation stop before it returns."""
    call: Callable[..., Awaitable[Any]] = getattr(db, name)
    point = Point()

    async def stopping(*args: Any, **named: Any) -> Any:
        setattr(db, name, call)
        done = await call(*args, **named)
        point.reached.set()
        await point.go_on.wait()
        return done

    setattr(db, name, stopping)
    return point


async def created(db: TaskStore, **inputs: Json) -> TaskTreeNode:
    tasks = [{"id": "a", "name": Waits.id, "inputs": inputs}]
    return await TaskCreator(db).create_task_tree_from_array(tasks)


async def begun(db: TaskStore, node: TaskTreeNode) -> asyncio.Task[None]:
    """Run a tree until its executor waits: the start is stored and told."""
    Waits.started.clear()
    Waits.go_on.clear()
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    await Waits.started.wait()
    return running


async def ended(running: asyncio.Task[None]) -> None:
    Waits.go_on.set()
    await running


async def heard(events: Any) -> list[tuple[str, int]]:
    async with asyncio.timeout(30):
        return [(str(event.type), event.sequence) async for event in events]


def live(number: int) -> TaskEvent:
    return TaskEvent(
        type=EventType.LOG, task_id="a", root_task_id="a", timestamp=datetime.now(UTC), sequence=number
    )


END = [("task_completed", 4), ("tree_completed", 5)]


async def test_what_is_stored_and_not_told_yet_is_not_missed_by_who_came_before_it(db: TaskStore):
    running = await begun(db, await created(db))
    events = TaskManager(db).subscribe("a")
    writing = stop_after(db, "write")
    Waits.go_on.set()
    await writing.reached.wait()  # the end is in the store, and the run does not know it
    assert await heard(events) == END
    writing.go_on.set()
    await running


async def test_who_comes_while_the_end_is_stored_and_not_told_is_told_what_is_told_from_then_on(
    db: TaskStore,
):
    running = await begun(db, await created(db))
    writing = stop_after(db, "write")
    Waits.go_on.set()
    await writing.reached.wait()
    assert await heard(TaskManager(db).subscribe("a")) == END
    writing.go_on.set()
    await running


async def test_who_comes_before_a_run_is_told_what_it_stores_before_the_first_look(db: TaskStore):
    node = await created(db)
    events = TaskManager(db).subscribe("a")
    writing, reading = stop_after(db, "write"), stop_after(db, "events")
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    await writing.reached.wait()  # the start is in the store, and the run does not know it
    listening = asyncio.create_task(heard(events))
    await reading.reached.wait()
    writing.go_on.set()
    await Waits.started.wait()
    reading.go_on.set()
    await ended(running)
    assert await listening == [("tree_started", 2), ("task_started", 3), *END]


async def test_what_is_said_live_before_the_first_look_brings_nothing_older_with_it(db: TaskStore):
    running = await begun(db, await created(db))
    events = TaskManager(db).subscribe("a")
    bus_of(db).publish(live(3))
    await ended(running)
    assert await heard(events) == [("log", 3), *END]


async def test_what_another_process_says_live_brings_nothing_older_with_it(db: TaskStore):
    await db.add([Task(id="a", name="a", root_id="a"), Task(id="b", name="b", root_id="a", parent_id="a")])
    events = TaskManager(db).subscribe("a")
    bus_of(db).publish(live(2))
    async with asyncio.timeout(30):
        event = await anext(events)
    assert (event.type, event.sequence) == ("log", 2)
    await events.aclose()


async def test_what_is_stored_after_the_end_while_a_stream_ends_is_told_and_ends_it(db: TaskStore):
    await ended(await begun(db, await created(db)))
    read = db.events
    is_added = False

    async def reading(root_id: str, after: int = 0, limit: int | None = None) -> list[TaskEvent]:
        nonlocal is_added
        found = await read(root_id, after, limit)
        if not found and not is_added:  # the subscriber believes that it has heard all there is
            is_added = True
            await db.add([Task(id="b", name="b", root_id="a", parent_id="a")])
        return found

    db.events = reading  # type: ignore[method-assign]
    assert await heard(TaskManager(db).subscribe("a", 4)) == [("tree_completed", 5), ("task_created", 6)]


async def test_a_run_that_begins_before_the_snapshot_is_read_is_followed_to_its_end(db: TaskStore):
    node = await created(db, fails=True)
    await ended(await begun(db, node))
    looking = stop_after(db, "get")
    subscription = Subscription(bus_of(db), db, "a")
    beginning = asyncio.create_task(subscription.begin())
    await looking.reached.wait()  # it has seen a run that has ended
    running = await begun(db, node)
    looking.go_on.set()
    snapshot = await beginning
    assert snapshot is not None
    assert (snapshot["status"], snapshot["last_event"]) == ("in_progress", 8)
    reading = stop_after(db, "events")
    listening = asyncio.create_task(heard(aiter(subscription)))
    await reading.reached.wait()  # nothing follows by now: is that the end?
    reading.go_on.set()
    await asyncio.sleep(0)
    await ended(running)
    assert await listening == [("task_failed", 9), ("tree_failed", 10)]


async def test_a_snapshot_is_given_where_nothing_of_what_follows_is_kept():
    db = MemoryStore()
    await ended(await begun(db, await created(db)))
    db._events["a"].clear()  # retention
    assert await Subscription(bus_of(db), db, "a", after=3).begin() is not None
    assert await Subscription(bus_of(db), db, "a", after=5).begin() is None


# --- at random moments -----------------------------------------------------------------------------


class Follower:
    """One subscriber, and what it knew when it came."""

    def __init__(self, db: TaskStore, kind: str, told: int, size: int) -> None:
        self.kind, self.told = kind, told
        after = 0 if kind == "whole" else None
        self.subscription = Subscription(bus_of(db), db, "r", after=after, size=size)
        self.snapshot: dict[str, Any] | None = None
        self.events: list[TaskEvent] = []

    async def follow(self) -> None:
        if self.kind == "snapshot":
            self.snapshot = await self.subscription.begin()
        async with asyncio.timeout(30):
            self.events = [event async for event in self.subscription]

    def check(self, stored: list[TaskEvent]) -> None:
        own = [event for event in self.events if event.type not in LIVE]
        began = len(stored) - len(own)
        assert own == stored[began:]  # each once, in order
        assert self.events[-1].type in FINAL
        for before, event in itertools.pairwise(self.events):
            assert event.sequence == before.sequence + (event.type not in LIVE)
        if self.kind == "whole":
            assert began == 0
        elif self.snapshot is None:
            assert began == min(self.told, len(stored) - 1)
        else:
            assert shown(self.snapshot) == replayed(stored[: self.snapshot["last_event"]])


def shown(tree: dict[str, Any]) -> dict[str, str]:
    below = [pair for child in tree.get("children", ()) for pair in shown(child).items()]
    return {tree["id"]: str(tree["status"]), **dict(below)}


def replayed(events: list[TaskEvent]) -> dict[str, str]:
    return {event.task_id: str(event.status or "pending") for event in events if event.type in STEPS}


STEPS = (EventType.TASK_CREATED, EventType.TASK_STARTED, EventType.TASK_COMPLETED)


@pytest.mark.parametrize("seed", range(5))
async def test_whoever_comes_at_any_moment_is_told_each_event_once_and_the_final_one(
    db: TaskStore, seed: int
):
    dice, told, followers = random.Random(seed), 0, list[Follower]()
    tasks: list[dict[str, Any]] = [{"id": "r", "name": Dawdles.id, "inputs": {"turns": 3}}]
    for at in range(8):
        needs = [f"t{each}" for each in range(at) if dice.random() < 0.3]
        inputs = {"turns": dice.randrange(20)}
        tasks.append(
            {"id": f"t{at}", "name": Dawdles.id, "parent_id": "r", "dependencies": needs, "inputs": inputs}
        )
    node = await TaskCreator(db).create_task_tree_from_array(tasks)

    def note(events: tuple[TaskEvent, ...]) -> None:
        nonlocal told
        told = max(told, events[-1].sequence)

    with bus_of(db).observing(note):
        async with asyncio.TaskGroup() as group:
            running = group.create_task(TaskManager(db).distribute_task_tree(node))
            while not running.done():
                for _ in range(dice.randrange(12)):
                    await asyncio.sleep(0)
                kind = dice.choice(["from now on", "snapshot", "whole"])
                if told and len(followers) < 30:
                    followers.append(Follower(db, kind, told, dice.choice([3, 1000])))
                    group.create_task(followers[-1].follow())
    stored = await db.events("r")
    for each in followers:
        each.check(stored)
