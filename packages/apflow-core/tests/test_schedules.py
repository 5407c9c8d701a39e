"""Schedules: stored, looked at by schedulers, and started once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from apflow.core import BaseTask, MemoryStore, Worker, executor_register, get_registry
from apflow.core.engine.schedule_store import (
    PART_CHARACTERS,
    all_schedules,
    change_schedule,
    remove_schedule,
    replace_schedule,
    stored_schedule,
    tasks_of,
)
from apflow.core.engine.scheduled_start import start_tree
from apflow.core.engine.scheduler import Scheduler
from apflow.core.errors import (
    AmbiguousTaskError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    ScheduleLimitError,
    ScheduleNotFoundError,
    TreeInvalidError,
)
from apflow.core.model.schedule import KIND, TREE_KIND, Schedule
from apflow.core.model.task import Task, utc_now
from apflow.core.permissions.secret_policy import Author
from apflow.core.planning.scheduling import decide
from apflow.core.service.task_service import TaskService
from apflow.core.settings import reset_settings
from apflow.core.store.base import Capabilities, TaskQuery, TaskStore

HOUR = timedelta(hours=1)
TREE = [
    {"name": "report", "schemas": {"method": "test_scheduled"}, "inputs": {"day": {"$run": "scheduled_at"}}},
]


class Scheduled(BaseTask):
    """Returns its inputs, or waits."""

    id = "test_scheduled"
    go_on: asyncio.Event

    async def execute(self, inputs: dict[str, Any]) -> Any:
        if inputs.get("do") == "wait":
            await Scheduled.go_on.wait()
        return inputs


class SharedStore(MemoryStore):
    """A store that several processes could share."""

    capabilities = Capabilities(is_shared=True)


@pytest.fixture(autouse=True)
async def executors() -> AsyncIterator[None]:
    Scheduled.go_on = asyncio.Event()
    executor_register(Scheduled, override=True)
    yield
    get_registry().unregister(Scheduled.id)


class Clock:
    """The present moment, moved by hand."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


async def created(db: TaskStore, tasks: Any = None, **fields: Any) -> tuple[Schedule, Clock]:
    """Create a schedule that is due each hour, and a clock that shows its creation."""
    given = {"every": "1h", **fields}
    made = await TaskService(db).create_schedule(tasks or TREE, **given)
    schedule = (await stored_schedule(db, made["id"])).schedule
    return schedule, Clock(schedule.created_at)


async def roots(db: TaskStore) -> list[Task]:
    return await db.find(TaskQuery(root_only=True))


def days(found: list[Task], schedule: Schedule) -> list[int]:
    """Return for which hour after the creation of its schedule each tree was started, in order."""
    return sorted(
        (datetime.fromisoformat(each.inputs["day"]) - schedule.created_at) // HOUR for each in found
    )


async def test_a_tree_is_started_at_each_due_time(db: TaskStore):
    schedule, clock = await created(db)
    scheduler = Scheduler(db, clock)
    for _ in range(3):
        await scheduler.look()
        await scheduler.look()
        clock.now += HOUR
        # What does not overlap: the trees of this test end at once.
        for root in await roots(db):
            await TaskService(db).cancel([root.id])
    found = await roots(db)
    assert days(found, schedule) == [1, 2]
    stored = (await stored_schedule(db, schedule.id)).schedule
    assert (stored.started_count, stored.starting) == (2, ())
    assert {each.task_id for each in stored.runs} == {each.id for each in found}


async def test_a_worker_starts_and_runs_what_is_due():
    db = MemoryStore()
    schedule, clock = await created(db)
    clock.now += HOUR
    worker = Worker(db, scheduler=Scheduler(db, clock))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        while not (found := await roots(db)) or found[0].status != "completed":
            await asyncio.sleep(0.01)
        worker.drain()
    assert found[0].result == {"day": (schedule.created_at + HOUR).isoformat()}


async def test_a_worker_looks_at_a_new_schedule_at_once():
    db = MemoryStore()
    worker = Worker(db, scheduler=Scheduler(db, lambda: utc_now() + 2 * HOUR, look_seconds=1000.0))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        while not worker.is_sweeping:
            await asyncio.sleep(0.01)
        await created(db)
        while not await roots(db):
            await asyncio.sleep(0.01)
        worker.drain()


async def test_a_time_in_inputs_is_that_of_the_run_without_a_schedule():
    db = MemoryStore()
    tree = {**TREE[0], "inputs": {"day": {"$run": "scheduled_at"}, "list": [{"$run": "scheduled_at"}, 1]}}
    found = await TaskService(db).execute(tasks=[tree], wait=True)
    root = (await db.get([found["task_id"]]))[found["task_id"]]
    assert abs(datetime.fromisoformat(found["result"]["day"]) - utc_now()) < timedelta(minutes=10)
    assert found["result"]["list"] == [found["result"]["day"], 1]
    assert root.inputs == tree["inputs"]


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        ({"a": [{"$run": "now"}]}, r"inputs\.a\[0\]\.\$run: must be scheduled_at"),
        ({"a": {"$run": ["scheduled_at"]}}, r"inputs\.a\.\$run: must be scheduled_at"),
        ({"$run": "scheduled_at"}, r"inputs\.\$run: is text"),
    ],
)
async def test_a_value_of_the_run_that_does_not_exist_is_refused(inputs: dict[str, Any], fault: str):
    with pytest.raises(TreeInvalidError, match=fault):
        await TaskService(MemoryStore()).create([{"name": "report", "inputs": inputs}])


async def test_the_due_time_is_in_the_inputs_of_nested_tasks_too():
    db = MemoryStore()
    child = {"name": "child", "inputs": {"at": [{"$run": "scheduled_at"}], "other": {"$run": 1, "a": 2}}}
    schedule, clock = await created(db, {"name": "root", "children": [child]})
    clock.now += HOUR
    await Scheduler(db, clock).look()
    [found] = await db.find(TaskQuery(name="child"))
    assert found.inputs == {
        "at": [(schedule.created_at + HOUR).isoformat()],
        "other": {"$run": 1, "a": 2},
    }


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
async def test_several_schedulers_start_each_due_time_once(overlap: str):
    db = SharedStore()
    schedule, clock = await created(db, overlap=overlap, catch_up="all")
    schedulers = [Scheduler(db, clock, take_over_seconds=0) for _ in range(4)]
    for _ in range(10):
        clock.now += HOUR
        await asyncio.gather(*(each.look() for each in schedulers))
        for root in await roots(db):
            await TaskService(db).cancel([root.id])
    for _ in range(10):
        await asyncio.gather(*(each.look() for each in schedulers))
    assert days(await roots(db), schedule) == list(range(1, 11))
    assert (await stored_schedule(db, schedule.id)).schedule.started_count == 10


async def test_a_start_is_finished_where_its_process_has_ended_before_it_created_the_tree(db: TaskStore):
    schedule, clock = await created(db)
    clock.now += HOUR
    stored = await stored_schedule(db, schedule.id)
    assert await replace_schedule(db, stored, decide(stored.schedule, clock.now, ()).schedule)
    await Scheduler(db, clock).look()
    assert days(await roots(db), schedule) == [1]


@pytest.mark.parametrize("is_run", [False, True], ids=["not-run", "run"])
async def test_a_start_is_not_repeated_where_its_process_has_ended_after_it_created_the_tree(
    db: TaskStore, is_run: bool
):
    schedule, clock = await created(db)
    clock.now += HOUR
    stored = await stored_schedule(db, schedule.id)
    decided = decide(stored.schedule, clock.now, ()).schedule
    assert await replace_schedule(db, stored, decided)
    root_id = await start_tree(db, schedule, decided.starting[0])
    if is_run:
        await TaskService(db).cancel([root_id])
    before = (await db.get([root_id]))[root_id]
    await Scheduler(db, clock).look()
    [root] = await roots(db)
    assert (root.id, root.generation, root.status) == (root_id, 0, before.status)
    found = (await stored_schedule(db, schedule.id)).schedule
    assert (found.starting, found.runs[0].task_id, found.started_count) == ((), root_id, 1)


async def test_a_decision_of_another_process_is_left_to_it_for_a_while():
    db = SharedStore()
    schedule, clock = await created(db)
    clock.now += HOUR
    stored = await stored_schedule(db, schedule.id)
    assert await replace_schedule(db, stored, decide(stored.schedule, clock.now, ()).schedule)
    patient = Scheduler(db, clock, take_over_seconds=1000)
    for _ in range(3):
        await patient.look()
    assert await roots(db) == []
    await Scheduler(db, clock, take_over_seconds=0).look()
    assert days(await roots(db), schedule) == [1]


async def test_a_scheduler_whose_decision_comes_second_starts_nothing():
    class Late(MemoryStore):
        """Another process decides just before this one writes."""

        async def put_record(self, kind: str, key: str, value: Any, *, version: int | None = None) -> Any:
            if kind == KIND and version:
                await super().put_record(kind, key, (await self.records(KIND))[0].value)
            return await super().put_record(kind, key, value, version=version)

    db = Late()
    schedule, clock = await created(db)
    clock.now += HOUR
    await Scheduler(db, clock).look()
    assert await roots(db) == []
    with pytest.raises(ConflictError):
        await change_schedule(db, schedule.id, lambda each: replace(each, error="x"))


async def test_a_clock_that_is_set_back_starts_nothing_twice(db: TaskStore):
    schedule, clock = await created(db, overlap="allow")
    scheduler = Scheduler(db, clock)
    for hours in (1, 0, 1, -5, 2, 1, 2):
        clock.now = schedule.created_at + hours * HOUR
        await scheduler.look()
    assert days(await roots(db), schedule) == [1, 2]


async def test_a_start_waits_while_there_are_too_many_runs(monkeypatch: pytest.MonkeyPatch):
    db = MemoryStore()
    schedule, clock = await created(db)
    await TaskService(db).submit([{"name": "test_scheduled"}])
    monkeypatch.setenv("APFLOW_MAX_REQUESTED", "1")
    reset_settings()
    clock.now += HOUR
    scheduler = Scheduler(db, clock)
    await scheduler.look()
    found = await TaskService(db).schedule(schedule.id)
    assert "1 runs are waiting" in found["error"]
    assert (found["status"], len(found["starting"]), len(await roots(db))) == ("active", 1, 1)
    monkeypatch.delenv("APFLOW_MAX_REQUESTED")
    reset_settings()
    await scheduler.look()
    found = await TaskService(db).schedule(schedule.id)
    assert (found["error"], found["starting"], len(await roots(db))) == (None, [], 2)


async def test_tasks_that_are_not_valid_any_more_are_not_tried_again(monkeypatch: pytest.MonkeyPatch):
    db = MemoryStore()
    schedule, clock = await created(db, [{"name": "a"}, {"name": "b", "parent_id": "a"}])
    monkeypatch.setenv("APFLOW_MAX_TASKS", "1")
    reset_settings()
    clock.now += HOUR
    try:
        await Scheduler(db, clock).look()
    finally:
        monkeypatch.delenv("APFLOW_MAX_TASKS")
        reset_settings()
    found = await TaskService(db).schedule(schedule.id)
    assert found["starting"] == []
    assert "tasks" in found["error"]
    assert await roots(db) == []


async def test_the_running_tree_is_cancelled_where_the_next_one_replaces_it():
    db = MemoryStore()
    tasks = [{"name": "test_scheduled", "inputs": {"do": "wait"}}]
    _, clock = await created(db, tasks, overlap="cancel")
    scheduler = Scheduler(db, clock, look_seconds=0.02)
    worker = Worker(db, scheduler=scheduler)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        clock.now += HOUR
        scheduler.wake()
        while not any(each.status == "in_progress" for each in await roots(db)):
            await asyncio.sleep(0.01)
        clock.now += HOUR
        scheduler.wake()
        while sorted(each.status for each in await roots(db)) != ["cancelled", "in_progress"]:
            await asyncio.sleep(0.01)
        Scheduled.go_on.set()
        worker.drain()
    [cancelled] = [each for each in await roots(db) if each.status == "cancelled"]
    assert "next due time" in (cancelled.error or "")


async def test_trees_have_the_user_and_the_author_of_the_schedule():
    db = MemoryStore()
    author = Author("ann", ("writer",))
    made = await TaskService(db, "ann", author=author).create_schedule(TREE, every="1h")
    clock = Clock(datetime.fromisoformat(made["created_at"]) + HOUR)
    await Scheduler(db, clock).look()
    [root] = await roots(db)
    assert (root.user_id, root.written_by) == ("ann", [{"user": "ann", "roles": ["writer"]}])


async def test_a_user_sees_and_changes_only_its_own_schedules():
    db = MemoryStore()
    ann, ben, admin = TaskService(db, "ann"), TaskService(db, "ben"), TaskService(db)
    made = await ann.create_schedule(TREE, every="1h", name="mine")
    assert await ben.schedules() == []
    assert [each["name"] for each in await admin.schedules()] == ["mine"]
    assert await admin.schedules(user_id="ben") == []
    for named in (made["id"], "mine", made["id"][:8]):
        for operation in (
            ben.schedule,
            partial(ben.update_schedule, every="2h"),
            ben.pause_schedule,
            ben.resume_schedule,
            ben.trigger_schedule,
            ben.delete_schedule,
            ben.next_due_times,
        ):
            with pytest.raises(ScheduleNotFoundError, match="no schedule"):
                await operation(named)
        assert (await ann.schedule(named))["id"] == made["id"]
    with pytest.raises(ForbiddenError):
        await ben.schedules(user_id="ann")
    with pytest.raises(ForbiddenError):
        await ben.create_schedule(TREE, every="1h", user_id="ann")
    with pytest.raises(ForbiddenError):
        await ben.create_schedule([{**TREE[0], "user_id": "ann"}], every="1h")
    with pytest.raises(ForbiddenError):
        await ben.create_schedule({**TREE[0], "children": [{"name": "c", "user_id": "ann"}]}, every="1h")


async def test_a_schedule_is_paused_resumed_and_deleted(db: TaskStore):
    service = TaskService(db)
    schedule, clock = await created(db, name="hourly")
    assert (await service.pause_schedule("hourly"))["status"] == "paused"
    clock.now += HOUR
    await Scheduler(db, clock).look()
    assert await roots(db) == []
    assert (await service.resume_schedule("hourly"))["status"] == "active"
    await Scheduler(db, clock).look()
    assert len(await roots(db)) == 1
    assert await service.delete_schedule("hourly") == {"success": True, "schedule_id": schedule.id}
    assert await db.records(KIND) == await db.records(TREE_KIND) == []
    clock.now += HOUR
    await Scheduler(db, clock).look()
    assert len(await roots(db)) == 1
    with pytest.raises(ScheduleNotFoundError):
        await service.delete_schedule("hourly")


async def test_a_tree_can_be_started_by_hand_also_while_the_schedule_is_paused(db: TaskStore):
    service = TaskService(db)
    schedule, _ = await created(db)
    await service.pause_schedule(schedule.id)
    first, second = await service.trigger_schedule(schedule.id), await service.trigger_schedule(schedule.id)
    found = {each.id: each for each in await roots(db)}
    assert set(found) == {first["task_id"], second["task_id"]}
    assert found[first["task_id"]].inputs == {"day": first["scheduled_at"]}
    shown = await service.schedule(schedule.id)
    assert (shown["started_count"], shown["open_trees"]) == (2, [first["task_id"], second["task_id"]])
    assert shown["next_due"] == (schedule.created_at + HOUR).isoformat()


async def test_the_next_due_times_are_shown():
    db = MemoryStore()
    schedule, _ = await created(db, every=None, cron="0 9 * * 1-5", timezone="Europe/Berlin")
    found = await TaskService(db).next_due_times(schedule.id, 3)
    assert found["timezone"] == "Europe/Berlin"
    assert len(found["due_times"]) == 3
    assert found["due_times"][0] == schedule.next_due.isoformat() if schedule.next_due else False
    once, _ = await created(db, every=None, at=utc_now() + HOUR)
    assert len((await TaskService(db).next_due_times(once.id, 3))["due_times"]) == 1


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "Give one of cron, every and at."),
        ({"cron": "@daily", "every": "1h"}, "Give one of cron, every and at."),
        ({"cron": "0 0 * *"}, "cron: '0 0 * *' is not valid: it has 4 fields"),
        ({"cron": "@daily", "timezone": "Berlin"}, "timezone: 'Berlin'"),
        ({"every": "soon"}, "every: 'soon' is not a span of time"),
        ({"every": "0.5s"}, "every: '0.5s' is 0.5 seconds; 1 to"),
        ({"every": "1h", "jitter": "2d"}, "jitter: '2d' is 172800 seconds; 0 to 86400"),
        ({"every": "1h", "name": ""}, "name: give 1 to 255"),
        ({"every": "1h", "start": utc_now() + HOUR, "end": utc_now()}, "end: it is before start."),
        ({"every": "1h", "end": utc_now() - HOUR}, "no due time in the future"),
        ({"at": utc_now() - HOUR}, "no due time in the future"),
        ({"at": datetime(2040, 1, 1)}, "at: give the time with its zone"),  # noqa: DTZ001
    ],
)
async def test_a_schedule_that_cannot_work_is_refused(fields: dict[str, Any], fault: str):
    db = MemoryStore()
    with pytest.raises(InvalidInputError) as caught:
        await TaskService(db).create_schedule(TREE, **fields)
    assert fault in str(caught.value)
    assert await db.records(KIND) == await db.records(TREE_KIND) == []


async def test_every_fault_is_named_at_once():
    with pytest.raises(InvalidInputError) as caught:
        await TaskService(MemoryStore()).create_schedule(TREE, cron="x", timezone="y", jitter="z")
    assert [each.partition(":")[0] for each in caught.value.violations] == ["cron", "timezone", "jitter"]


async def test_tasks_that_are_not_a_tree_are_refused_when_the_schedule_is_created():
    with pytest.raises(TreeInvalidError):
        await TaskService(MemoryStore()).create_schedule([{"name": "a"}, {"name": "b"}], every="1h")


async def test_a_large_tree_is_stored_in_parts(db: TaskStore):
    text = '\u00e9"\\' * 100_000
    tasks = [
        {"name": "root"},
        *({"name": f"n{at}", "parent_id": "root", "inputs": {"t": text}} for at in range(5)),
    ]
    schedule, clock = await created(db, tasks)
    assert len(await db.records(TREE_KIND)) > 5
    assert (await TaskService(db).schedule(schedule.id))["tasks"] == tasks
    clock.now += HOUR
    await Scheduler(db, clock).look()
    assert [each.inputs for each in await db.find(TaskQuery(name="n4"))] == [{"t": text}]
    await TaskService(db).delete_schedule(schedule.id)
    assert await db.records(TREE_KIND) == []


async def test_there_is_a_limit_of_schedules_per_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_MAX_SCHEDULES_PER_USER", "1")
    reset_settings()
    db = MemoryStore()
    try:
        for user in ("ann", "ben"):
            service = TaskService(db, user)
            await service.create_schedule(TREE, every="1h")
            with pytest.raises(ScheduleLimitError, match=f"User '{user}' has 1 schedules"):
                await service.create_schedule(TREE, every="1h")
    finally:
        monkeypatch.delenv("APFLOW_MAX_SCHEDULES_PER_USER")
        reset_settings()


async def test_a_name_that_several_schedules_have_is_not_enough():
    db = MemoryStore()
    for _ in range(2):
        await created(db, name="twice")
    with pytest.raises(AmbiguousTaskError, match="2 schedules"):
        await TaskService(db).pause_schedule("twice")


async def test_values_of_secret_like_keys_are_masked():
    db = MemoryStore()
    schedule, clock = await created(db, [{"name": "n", "inputs": {"password": "clear"}}])
    assert (await TaskService(db).schedule(schedule.id))["tasks"][0]["inputs"] == {"password": "***"}
    with pytest.raises(InvalidInputError):
        await created(db, [{"name": "n", "inputs": {"password": "***"}}])
    clock.now += HOUR
    await Scheduler(db, clock).look()
    assert (await roots(db))[0].inputs == {"password": "clear"}


async def test_a_record_that_cannot_be_read_hides_no_other_schedule(caplog: pytest.LogCaptureFixture):
    db = MemoryStore()
    schedule, _ = await created(db)
    await db.put_record(KIND, "strange", {"id": "strange"})
    assert [each.schedule.id for each in await all_schedules(db)] == [schedule.id]
    assert "strange" in caplog.text


async def test_the_ids_of_a_tree_follow_from_the_schedule_also_where_ids_are_given():
    db = MemoryStore()
    tasks = [
        {"id": "b", "name": "n", "parent_id": "a", "dependencies": []},
        {"id": "a", "name": "n"},
    ]
    schedule, clock = await created(db, tasks, overlap="allow")
    for _ in range(2):
        clock.now += HOUR
        await Scheduler(db, clock).look()
    first, second = await roots(db)
    assert (first.key, second.key) == ("a", "a")
    assert len({first.id, second.id, "a"}) == 3
    assert await start_tree(db, schedule, schedule.created_at + HOUR) in (first.id, second.id)
    assert len(await roots(db)) == 2


async def test_a_schedule_that_is_deleted_while_it_starts_ends_quietly(caplog: pytest.LogCaptureFixture):
    class Deleting(MemoryStore):
        """The schedule is deleted just before its tasks are read."""

        is_deleted = False

        async def records(self, kind: str, *, prefix: str = "", limit: int | None = None) -> Any:
            if kind == TREE_KIND and not self.is_deleted:
                self.is_deleted = True
                await remove_schedule(self, prefix.rstrip("/"))
            return await super().records(kind, prefix=prefix, limit=limit)

    db = Deleting()
    _, clock = await created(db)
    clock.now += HOUR
    await Scheduler(db, clock).look()
    assert await db.records(KIND) == await roots(db) == []
    assert caplog.text == ""


async def test_a_schedule_gets_other_due_times_and_settings(db: TaskStore):
    service = TaskService(db)
    schedule, _ = await created(db, jitter="30s", end=utc_now() + 99 * HOUR, name="old")
    found = await service.update_schedule(
        "old",
        name="new",
        cron="0 9 * * *",
        timezone="Europe/Berlin",
        overlap="queue",
        clear=["end", "jitter"],
    )
    stored = (await stored_schedule(db, schedule.id)).schedule
    assert (stored.name, stored.every, stored.cron, stored.end, stored.jitter) == (
        "new", None, "0 9 * * *", None, None,
    )  # fmt: skip
    assert (str(stored.overlap), str(stored.catch_up)) == ("queue", "latest")
    assert datetime.fromisoformat(found["next_due"]) > utc_now()
    assert datetime.fromisoformat(found["next_due"]).astimezone(ZoneInfo("Europe/Berlin")).hour == 9
    assert await tasks_of(db, stored) == TREE


async def test_a_schedule_gets_other_tasks(db: TaskStore):
    schedule, clock = await created(db)
    large = [{**TREE[0], "name": "other", "inputs": {"text": "x" * (2 * PART_CHARACTERS)}}]
    await TaskService(db).update_schedule(schedule.id, tasks=large)
    clock.now += HOUR
    await Scheduler(db, clock).look()
    assert [each.name for each in await roots(db)] == ["other"]
    for _ in range(2):
        await TaskService(db).update_schedule(schedule.id, tasks=TREE)
    assert (await TaskService(db).schedule(schedule.id))["tasks"] == TREE
    assert len(await db.records(TREE_KIND)) == 1  # the tasks that were replaced are removed
    await TaskService(db).delete_schedule(schedule.id)
    assert await db.records(TREE_KIND) == []


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, "Nothing to change"),
        ({"cron": "0 9 * * *", "every": "1h"}, "Give one of cron, every and at"),
        ({"cron": "99 * * * *"}, "cron"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"at": datetime(2020, 1, 1, tzinfo=UTC)}, "no due time in the future"),
        ({"end": datetime(2020, 1, 1, tzinfo=UTC)}, "no due time in the future"),
        ({"tasks": [{"name": "a", "dependencies": ["nothing"]}]}, "not a task of the array"),
        ({"tasks": TREE, "every": "0s"}, "every"),
    ],
)
async def test_a_change_that_cannot_work_changes_nothing(given: dict[str, Any], fault: str):
    db = MemoryStore()
    schedule, _ = await created(db)
    before = await stored_schedule(db, schedule.id), await db.records(TREE_KIND)
    with pytest.raises(InvalidInputError, match=fault):
        await TaskService(db).update_schedule(schedule.id, **given)
    assert (await stored_schedule(db, schedule.id), await db.records(TREE_KIND)) == before


async def test_changes_of_several_writers_do_not_undo_each_other():
    db = MemoryStore()
    service = TaskService(db)
    schedule, clock = await created(db)
    clock.now += HOUR
    await asyncio.gather(
        service.update_schedule(schedule.id, overlap="allow"),
        service.update_schedule(schedule.id, tasks=[{**TREE[0], "name": "other"}]),
        Scheduler(db, clock).look(),
        service.update_schedule(schedule.id, name="renamed"),
        service.pause_schedule(schedule.id),
    )
    stored = (await stored_schedule(db, schedule.id)).schedule
    assert (stored.name, str(stored.overlap), stored.is_paused) == ("renamed", "allow", True)
    assert (await tasks_of(db, stored))[0]["name"] == "other"
    assert stored.started_count == len(await roots(db)) <= 1


async def test_a_start_that_another_process_began_before_the_tasks_changed_happens_once():
    """The first process creates the tree and ends before it records that; the second one has other tasks."""
    db = MemoryStore()
    schedule, clock = await created(db)
    due = clock.now + HOUR
    decided = decide(schedule, due, ()).schedule
    await change_schedule(db, schedule.id, lambda _: decided)
    first = await start_tree(db, decided, due)
    await TaskService(db).update_schedule(schedule.id, tasks=[{**TREE[0], "name": "other"}])
    changed = (await stored_schedule(db, schedule.id)).schedule
    assert await start_tree(db, changed, due) == first
    assert [each.name for each in await roots(db)] == ["report"]


async def test_a_start_that_has_read_the_schedule_before_its_tasks_changed_has_the_new_ones():
    db = MemoryStore()
    schedule, clock = await created(db)
    await TaskService(db).update_schedule(schedule.id, tasks=[{**TREE[0], "name": "other"}])
    await start_tree(db, schedule, clock.now + HOUR)
    assert [each.name for each in await roots(db)] == ["other"]


async def test_new_tasks_have_the_author_who_gives_them():
    db = MemoryStore()
    schedule, clock = await created(db, user_id="ann")
    author = Author("ann", ("writer",))
    service = TaskService(db, "ann", author=author)
    await service.update_schedule(schedule.id, name="mine")
    assert (await stored_schedule(db, schedule.id)).schedule.written_by is None
    await service.update_schedule(schedule.id, tasks=TREE)
    clock.now += HOUR
    await Scheduler(db, clock).look()
    assert (await roots(db))[0].written_by == [{"user": "ann", "roles": ["writer"]}]
