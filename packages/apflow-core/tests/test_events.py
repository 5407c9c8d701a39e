"""Subscribers: every stored event, in order, to the final one, whenever they come, however slow they are."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Iterator
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
from apflow.core.authoring.repository import TaskRepository
from apflow.core.errors import AlreadyRunningError, NotFoundError
from apflow.core.events.bus import bus_of
from apflow.core.events.subscription import FIRST_PAGE
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.task import Task, utc_now
from apflow.core.settings import reset_settings
from apflow.core.store.base import Change, Transition


class Talks(BaseTask):
    """Logs, waits and ends as its inputs request."""

    id = "test_talks"
    started: asyncio.Event
    go_on: asyncio.Event

    async def execute(self, inputs: dict[str, Any]) -> Any:
        for at in range(inputs.get("says", 0)):
            assert self.event_queue is not None
            self.event_queue.put_nowait({"type": "log", "message": f"{at}"})
        if inputs.get("do") == "wait":
            Talks.started.set()
            await Talks.go_on.wait()
        if inputs.get("do") == "fail":
            raise ValueError("as asked")
        return {"n": inputs.get("n")}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_PROGRESS_INTERVAL", "0")
    reset_settings()
    executor_register(Talks, override=True)
    yield
    get_registry().unregister(Talks.id)
    monkeypatch.undo()
    reset_settings()


@pytest.fixture(autouse=True)
async def signals() -> None:
    Talks.started, Talks.go_on = asyncio.Event(), asyncio.Event()


def task(task_id: str, parent: str | None = None, *needs: str, **inputs: Any) -> dict[str, Any]:
    return {
        "id": task_id,
        "name": Talks.id,
        "parent_id": parent,
        "dependencies": list(needs),
        "inputs": inputs,
    }


async def create(db: TaskStore, *tasks: dict[str, Any]) -> TaskTreeNode:
    return await TaskCreator(db).create_task_tree_from_array(tasks)


async def run(db: TaskStore, node: TaskTreeNode) -> None:
    await TaskManager(db).distribute_task_tree(node)


async def heard(events: AsyncIterator[TaskEvent]) -> list[TaskEvent]:
    async with asyncio.timeout(30):
        return [event async for event in events]


def kinds(events: list[TaskEvent]) -> list[str]:
    return [str(event.type) for event in events]


def numbers(events: list[TaskEvent]) -> list[int]:
    return [event.sequence for event in events]


WHOLE = ["task_created", "tree_started", "task_started", "task_completed", "tree_completed"]


async def test_who_comes_after_the_run_is_told_all_of_it(db: TaskStore):
    await run(db, await create(db, task("a")))
    events = await heard(TaskManager(db).subscribe("a", 0))
    assert kinds(events) == WHOLE
    assert numbers(events) == [1, 2, 3, 4, 5]


async def test_who_came_before_the_run_is_told_all_of_it(db: TaskStore):
    node = await create(db, task("a"))
    listening = asyncio.create_task(heard(TaskManager(db).subscribe("a", 0)))
    await asyncio.sleep(0)
    await run(db, node)
    assert kinds(await listening) == WHOLE


async def test_who_comes_in_the_middle_is_told_all_of_it(db: TaskStore):
    running = asyncio.create_task(run(db, await create(db, task("a", do="wait"))))
    await Talks.started.wait()
    listening = asyncio.create_task(heard(TaskManager(db).subscribe("a", 0)))
    await asyncio.sleep(0)
    Talks.go_on.set()
    await running
    assert kinds(await listening) == WHOLE


async def test_who_names_a_number_is_told_what_follows_it(db: TaskStore):
    await run(db, await create(db, task("a")))
    assert numbers(await heard(TaskManager(db).subscribe("a", 3))) == [4, 5]
    assert await heard(TaskManager(db).subscribe("a", 5)) == []


async def test_many_tasks_at_once_leave_no_gap(db: TaskStore):
    node = await create(db, task("r"), *(task(f"t{at}", "r", says=2) for at in range(300)))
    listening = asyncio.create_task(heard(TaskManager(db).subscribe("r", 0)))
    await asyncio.sleep(0)
    await run(db, node)
    stored = [event for event in await listening if event.type not in ("log", "progress")]
    assert numbers(stored) == list(range(1, len(stored) + 1))
    assert stored == await db.events("r")


@pytest.mark.parametrize(
    ("tasks", "final"),
    [
        ([task("a", do="fail")], "tree_failed"),
        ([{"id": "a", "name": "test_nowhere"}], "tree_failed"),
        (
            [
                {"id": "g", "name": "g"},
                {"id": "h", "name": "h", "parent_id": "g"},
                task("b", "h", "c"),
                task("c", "g", "h"),
            ],
            "tree_failed",
        ),
    ],
)  # fmt: skip
async def test_the_final_event_comes_for_failures_too(db: TaskStore, tasks: list[dict[str, Any]], final: str):
    node = await create(db, *tasks)
    listening = asyncio.create_task(heard(TaskManager(db).subscribe(node.task.id, 0)))
    await asyncio.sleep(0)
    await run(db, node)
    events = await listening
    assert events[-1].type == final
    assert events[-1].error


async def test_the_final_event_comes_where_the_tree_was_cancelled(db: TaskStore):
    running = asyncio.create_task(run(db, await create(db, task("a", do="wait"))))
    await Talks.started.wait()
    events = TaskManager(db).subscribe("a")
    await TaskManager(db).cancel_task("a")
    await running
    assert kinds(await heard(events))[-2:] == ["task_cancelled", "tree_cancelled"]


async def test_the_final_event_comes_where_a_tree_is_cancelled_that_nobody_runs(db: TaskStore):
    await create(db, task("a"))
    listening = asyncio.create_task(heard(TaskManager(db).subscribe("a", 0)))
    await asyncio.sleep(0)
    await TaskManager(db).cancel_task("a")
    assert (await listening)[-1].type == "tree_cancelled"


async def test_numbers_go_on_from_run_to_run(db: TaskStore):
    node = await create(db, task("a", do="fail"))
    await run(db, node)
    await run(db, node)
    events = await heard(TaskManager(db).subscribe("a", 0))
    assert numbers(events) == list(range(1, 11))
    assert kinds(events)[5:] == ["task_reset", "tree_started", "task_started", "task_failed", "tree_failed"]


async def test_a_final_event_that_another_run_follows_ends_no_stream(db: TaskStore):
    node = await create(db, task("a", do="fail"))
    await run(db, node)
    await TaskRepository(db).update_task_inputs("a", {"do": "wait"})
    running = asyncio.create_task(run(db, node))
    await Talks.started.wait()
    listening = asyncio.create_task(heard(TaskManager(db).subscribe("a", 2)))
    await asyncio.sleep(0)
    Talks.go_on.set()
    await running
    assert kinds(await listening)[-1] == "tree_completed"


async def test_a_task_added_after_the_end_does_not_keep_a_stream_open(db: TaskStore):
    await run(db, await create(db, task("a")))
    await db.add([Task(id="b", name="b", root_id="a", parent_id="a")])
    assert kinds(await heard(TaskManager(db).subscribe("a", 3)))[-2:] == ["tree_completed", "task_created"]
    assert kinds(await heard(TaskManager(db).subscribe("a")))[0] == "tree_completed"


async def test_without_a_number_events_follow_from_now_on(db: TaskStore):
    running = asyncio.create_task(run(db, await create(db, task("a", do="wait"))))
    await Talks.started.wait()
    listening = asyncio.create_task(heard(TaskManager(db).subscribe("a")))
    await asyncio.sleep(0)
    Talks.go_on.set()
    await running
    assert kinds(await listening) == ["task_completed", "tree_completed"]


async def test_from_now_on_means_from_the_call_not_from_the_first_look(db: TaskStore):
    running = asyncio.create_task(run(db, await create(db, task("a", do="wait"))))
    await Talks.started.wait()
    events = TaskManager(db).subscribe("a")
    Talks.go_on.set()
    await running
    assert kinds(await heard(events)) == ["task_completed", "tree_completed"]


async def test_without_a_number_the_final_event_of_an_ended_run_is_told(db: TaskStore):
    await run(db, await create(db, task("a")))
    assert kinds(await heard(TaskManager(db).subscribe("a"))) == ["tree_completed"]


async def test_a_snapshot_shows_the_tree_and_events_go_on_from_there(db: TaskStore):
    running = asyncio.create_task(run(db, await create(db, task("a", do="wait"))))
    await Talks.started.wait()
    subscription = Subscription(bus_of(db), db, "a")
    snapshot = await subscription.begin()
    assert snapshot is not None
    assert (snapshot["status"], snapshot["last_event"]) == ("in_progress", 3)
    Talks.go_on.set()
    await running
    assert numbers(await heard(aiter(subscription))) == [4, 5]


@pytest.mark.parametrize(
    ("after", "has_snapshot"), [(None, True), (0, False), (3, False), (5, False), (6, True)]
)
async def test_a_snapshot_is_given_where_the_number_tells_too_little(
    db: TaskStore, after: int | None, has_snapshot: bool
):
    await run(db, await create(db, task("a")))
    subscription = Subscription(bus_of(db), db, "a", after=after)
    assert (await subscription.begin() is not None) == has_snapshot
    expected = ["tree_completed"] if has_snapshot else WHOLE[after:]
    assert kinds(await heard(aiter(subscription))) == expected


async def test_a_snapshot_is_given_where_what_follows_is_no_longer_kept():
    db = MemoryStore()
    await run(db, await create(db, task("a")))
    del db._events["a"][:3]  # retention
    assert await Subscription(bus_of(db), db, "a", after=1).begin() is not None
    assert await Subscription(bus_of(db), db, "a", after=3).begin() is None


async def test_a_tree_that_does_not_exist_cannot_be_heard(db: TaskStore):
    with pytest.raises(NotFoundError):
        await heard(TaskManager(db).subscribe("nobody"))
    with pytest.raises(NotFoundError):
        await Subscription(bus_of(db), db, "nobody").begin()


async def test_a_slow_subscriber_blocks_nothing_and_is_told_all_stored_events(db: TaskStore):
    node = await create(db, task("r"), *(task(f"t{at}", "r") for at in range(50)))
    subscription = Subscription(bus_of(db), db, "r", after=0, size=3)
    await run(db, node)  # there is no listener meanwhile
    events = await heard(aiter(subscription))
    assert numbers(events) == list(range(1, 51 + 1 + 51 * 2 + 1 + 1))
    assert events[-1].type == "tree_completed"


async def test_a_slow_subscriber_is_told_how_many_live_events_it_missed(db: TaskStore):
    node = await create(db, task("a", says=10, do="wait"))
    subscription = Subscription(bus_of(db), db, "a", after=1, size=6)
    running = asyncio.create_task(run(db, node))
    await Talks.started.wait()
    events = aiter(subscription)
    told = [await anext(events) for _ in range(7)]
    assert kinds(told) == ["tree_started", "task_started", "log", "log", "log", "log", "log"]
    assert [event.message for event in told[2:6]] == ["0", "1", "2", "3"]
    assert (told[-1].data, told[-1].sequence) == ({"missed": 6}, 3)
    Talks.go_on.set()
    await running
    assert kinds(await heard(events)) == ["task_completed", "tree_completed"]


async def test_who_was_too_slow_for_the_end_is_told_what_it_missed_before_it(db: TaskStore):
    node = await create(db, task("a", says=10))
    subscription = Subscription(bus_of(db), db, "a", after=1, size=4)
    await run(db, node)  # there is no listener meanwhile
    told = kinds(await heard(aiter(subscription)))
    assert told == ["tree_started", "task_started", *["log"] * 3, "task_completed", "tree_completed"]


class Paged(MemoryStore):
    """Notes how much is read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[list[TaskEvent]] = []

    async def events(self, root_id: str, after: int = 0, limit: int | None = None) -> list[TaskEvent]:
        found = await super().events(root_id, after, limit)
        self.pages.append(found)
        return found


@pytest.mark.parametrize(
    ("count", "size", "largest", "reads"), [(100, 300_000, FIRST_PAGE, 20), (2000, 10, 1000, 6)]
)
async def test_of_large_events_few_are_read_at_once_and_of_small_ones_many(
    count: int, size: int, largest: int, reads: int
):
    db = Paged()
    await db.add([Task(id="r", name="r", root_id="r")])
    for _ in range(count):
        ended = TaskEvent(
            type=EventType.TASK_COMPLETED,
            task_id="r",
            root_task_id="r",
            timestamp=utc_now(),
            result="x" * size,
        )
        await db.move([Transition("r", "r", {}, {}, (ended,))])
    told: list[int] = []
    async for batch in Subscription(bus_of(db), db, "r", after=1).batches():
        told += [event.sequence for event in batch]
        if len(told) == count:
            break
    assert told == list(range(2, count + 2))
    assert max(map(len, db.pages)) <= largest
    assert len(db.pages) <= reads


async def test_stored_events_that_were_missed_come_before_later_live_ones(db: TaskStore):
    await create(db, task("a"))
    for at in range(2, 6):
        await db.write(Change(add=[Task(id=f"b{at}", name="b", root_id="a", parent_id="a")]))
    bus, subscription = bus_of(db), Subscription(bus_of(db), db, "a", after=1)
    bus.publish(live("a", 5))
    events = aiter(subscription)
    assert numbers([await anext(events) for _ in range(5)]) == [2, 3, 4, 5, 5]


async def test_live_events_older_than_what_was_told_are_left_out(db: TaskStore):
    await run(db, await create(db, task("a")))
    subscription = Subscription(bus_of(db), db, "a", after=4)
    bus_of(db).publish(live("a", 3))
    assert kinds(await heard(aiter(subscription))) == ["tree_completed"]


def live(root_id: str, number: int) -> TaskEvent:
    return TaskEvent(
        type=EventType.LOG,
        task_id=root_id,
        root_task_id=root_id,
        timestamp=datetime.now(UTC),
        sequence=number,
    )


async def test_live_events_carry_the_number_of_the_stored_one_before_them(db: TaskStore):
    node = await create(db, task("a", says=1), task("b", "a", "a", says=1))
    events: list[TaskEvent] = []

    async def listen() -> None:
        async for event in TaskManager(db).subscribe("a", 0):
            events.append(event)  # noqa: PERF401 - looked at meanwhile

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(30):
        while len(events) < 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)  # it has polled: only a subscriber that is up to date gets live events
    await run(db, node)
    await listening
    assert kinds(events).count("log") == 2
    for before, event in itertools.pairwise(events):
        assert event.sequence == before.sequence + (event.type != "log")


async def test_several_subscribers_hear_alike_and_one_that_leaves_disturbs_nobody(db: TaskStore):
    node = await create(db, task("a", do="wait"))
    first, second = (asyncio.create_task(heard(TaskManager(db).subscribe("a", 0))) for _ in range(2))
    leaves = TaskManager(db).subscribe("a", 0)
    running = asyncio.create_task(run(db, node))
    await Talks.started.wait()
    assert (await anext(leaves)).sequence == 1
    await leaves.aclose()
    Talks.go_on.set()
    await running
    assert kinds(await first) == kinds(await second) == WHOLE


async def test_a_subscription_that_nobody_holds_is_forgotten(db: TaskStore):
    bus = bus_of(db)
    events = TaskManager(db).subscribe("a", 0)
    assert bus.has_subscribers("a")
    del events
    gc.collect()
    assert not bus.has_subscribers("a")


async def test_a_stream_that_ended_or_was_left_is_forgotten(db: TaskStore):
    await run(db, await create(db, task("a")))
    await heard(TaskManager(db).subscribe("a", 0))
    assert not bus_of(db).has_subscribers("a")
    left = TaskManager(db).subscribe("a", 0)
    await anext(left)
    await left.aclose()
    assert not bus_of(db).has_subscribers("a")


def test_a_subscriber_whose_event_loop_is_gone_disturbs_no_run(db: TaskStore):
    kept: list[Subscription] = []

    async def subscribe() -> TaskTreeNode:
        kept.append(Subscription(bus_of(db), db, "a", after=0))
        return await create(db, task("a"))

    node = asyncio.run(subscribe())
    asyncio.run(run(db, node))
    assert not bus_of(db).has_subscribers("a")


def test_a_subscriber_in_another_thread_is_told_everything(db: TaskStore):
    subscribed, told = threading.Event(), list[TaskEvent]()

    async def listen() -> None:
        events = TaskManager(db).subscribe("r", 0)
        subscribed.set()
        told.extend(await heard(events))

    thread = threading.Thread(target=lambda: asyncio.run(listen()))

    async def main() -> None:
        node = await create(db, task("r"), *(task(f"t{at}", "r") for at in range(20)))
        thread.start()
        await asyncio.to_thread(subscribed.wait, 5)
        await run(db, node)

    asyncio.run(main())
    thread.join(5)
    assert told == asyncio.run(db.events("r"))


# --- streaming callbacks ---------------------------------------------------------------------------


async def stream(db: TaskStore, node: TaskTreeNode, *callbacks: Any) -> Any:
    manager = TaskManager(db)
    for callback in callbacks:
        manager.streaming_callbacks.add(callback)
    async with asyncio.timeout(30):
        return await manager.distribute_task_tree_with_streaming(node)


async def test_streaming_callbacks_have_heard_everything_when_the_call_returns(db: TaskStore):
    told: list[dict[str, Any]] = []
    await stream(db, await create(db, task("a")), told.append)
    assert [event["type"] for event in told] == WHOLE[1:]
    assert told[-1]["status"] == "completed"


async def test_a_second_run_streams_only_its_own_events(db: TaskStore):
    node, told = await create(db, task("a", do="fail")), list[dict[str, Any]]()
    await stream(db, node)
    await stream(db, node, told.append)
    assert [event["type"] for event in told] == [
        "task_reset", "tree_started", "task_started", "task_failed", "tree_failed",
    ]  # fmt: skip


async def test_a_run_with_nothing_to_do_streams_nothing_and_returns(db: TaskStore):
    node, told = await create(db, task("a")), list[dict[str, Any]]()
    await TaskRepository(db).update_task_status("a", "in_progress")
    await TaskRepository(db).update_task_status("a", "completed")
    await stream(db, node, told.append)
    assert told == []


async def test_without_use_callback_nobody_is_called(db: TaskStore):
    manager, told = TaskManager(db), list[dict[str, Any]]()
    manager.streaming_callbacks.add(told.append)
    await manager.distribute_task_tree(await create(db, task("a")), use_callback=False)
    assert told == []


async def test_callbacks_may_be_coroutines_and_be_removed(db: TaskStore):
    node, told = await create(db, task("a")), list[str]()

    async def hear(event: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        told.append(event["type"])

    await stream(db, node, hear)
    assert told == WHOLE[1:]
    manager = TaskManager(db)
    manager.streaming_callbacks.add(hear)
    manager.streaming_callbacks.remove(hear)
    await manager.distribute_task_tree_with_streaming(node, force=True)
    assert told == WHOLE[1:]


async def test_a_callback_that_raises_is_logged_by_name_and_fails_nothing(
    db: TaskStore, caplog: pytest.LogCaptureFixture
):
    node, told = await create(db, task("a")), list[str]()

    def breaks(event: dict[str, Any]) -> None:
        told.append(event["type"])
        raise RuntimeError("broken")

    await stream(db, node, breaks)
    assert told == WHOLE[1:]
    assert node["status"] == "completed"
    assert "breaks" in caplog.text


async def test_a_callback_that_never_returns_is_removed_and_holds_up_nobody(
    db: TaskStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_HOOK_TIMEOUT", "0.01")
    reset_settings()
    told: list[dict[str, Any]] = []

    async def stuck(event: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    with caplog.at_level(logging.WARNING):
        await stream(db, await create(db, task("a")), stuck, told.append)
    assert len(told) == 4
    assert caplog.text.count("stuck") == 1


async def test_what_a_callback_does_to_its_event_changes_nothing_else(db: TaskStore):
    told: list[dict[str, Any]] = []

    def spoils(event: dict[str, Any]) -> None:
        if event["result"]:
            event["result"]["n"] = "spoiled"

    await stream(db, await create(db, task("a", n=1), task("b", "a", "a")), spoils, told.append)
    assert (await db.get(["a"]))["a"].result == {"n": 1}
    assert {"n": 1} in [event["result"] for event in told]


async def test_a_refused_run_with_streaming_raises_as_it_is(db: TaskStore):
    node = await create(db, task("a", do="wait"))
    running = asyncio.create_task(run(db, node))
    await Talks.started.wait()
    with pytest.raises(AlreadyRunningError):
        await stream(db, node, lambda event: None)
    Talks.go_on.set()
    await running
    with pytest.raises(NotFoundError):
        await stream(db, TaskTreeNode(Task(id="nobody", name="n", root_id="nobody")), lambda event: None)


async def test_cancelling_a_streaming_call_tells_the_final_event_and_cancels_the_tree(db: TaskStore):
    told: list[dict[str, Any]] = []
    running = asyncio.create_task(stream(db, await create(db, task("a", do="wait")), told.append))
    await Talks.started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert told[-1]["type"] == "tree_cancelled"
    assert not bus_of(db).has_subscribers("a")


async def test_who_takes_events_by_the_batch_gets_the_same_ones(db: TaskStore):
    await run(db, await create(db, task("a"), task("b", "a"), task("c", "a")))
    subscription = Subscription(bus_of(db), db, "a", after=0)
    batches = [batch async for batch in subscription.batches()]
    told = [event for batch in batches for event in batch]
    assert told == await heard(TaskManager(db).subscribe("a", 0))
    assert len(batches) < len(told)
    assert subscription.position == told[-1].sequence
    assert bus_of(db).subscribers("a") == 0


async def test_an_observer_is_told_what_happens_to_any_tree_while_it_observes(db: TaskStore):
    seen: list[TaskEvent] = []
    with bus_of(db).observing(seen.extend):
        await run(db, await create(db, task("a", says=1)))
    await run(db, await create(db, task("b")))
    assert [kind for kind in kinds(seen) if kind != "log"] == WHOLE[1:]
    assert not bus_of(db).has_subscribers("a")
