"""Approvals: a task asks, waits without a place, and continues with the decision of those who may decide."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pydantic import TypeAdapter

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskExecutor,
    TaskService,
    Worker,
    executor_register,
    get_registry,
)
from apflow.core.engine import approvals
from apflow.core.engine.approval_events import store_event
from apflow.core.engine.approval_store import add_approval, add_decision, approval_of, note_announced
from apflow.core.engine.recovery import recover
from apflow.core.errors import (
    ApprovalClosedError,
    ApprovalNotFoundError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    StoreOutcomeUnknownError,
    StoreUnavailableError,
    ValidationError,
)
from apflow.core.extensions.approval import ask_approval
from apflow.core.model.approval import (
    DECIDED_KIND,
    KIND,
    Approval,
    ApprovalRequest,
    Decision,
    OnTimeout,
)
from apflow.core.model.event import LIVE, EventType
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import ONLY_WAITS, Task, utc_now
from apflow.core.permissions.secret_policy import Author
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.run_start import recover_task
from apflow.core.service.operations import OPERATIONS
from apflow.core.settings import overridden_defaults
from apflow.core.webhooks.webhook import EVENTS as WEBHOOK_EVENTS

Json = Any
FORM = {"type": "object", "properties": {"window": {"enum": ["day", "night"]}}, "required": ["window"]}


class Asks(BaseTask):
    """Asks what its inputs say, and returns the decision; a rejection raises."""

    id = "asks"
    only_waits = True

    async def execute(self, inputs: dict[str, Any]) -> Any:
        given = {"question": "May it?"} | {each: value for each, value in inputs.items() if each != "note"}
        given["on_timeout"] = OnTimeout(given.get("on_timeout", "reject"))
        approval = await ask_approval(ApprovalRequest(**given))
        assert approval.decision is not None
        return approval.decision.to_json() | {"kind": approval.status}


class Says(BaseTask):
    id = "says"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return inputs


@pytest.fixture(autouse=True)
async def executors() -> AsyncIterator[None]:
    for each in (Asks, Says):
        executor_register(each, override=True)
    yield
    for each in (Asks, Says):
        get_registry().unregister(each.id)


@pytest.fixture
async def db() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


def asking(**inputs: Any) -> list[dict[str, Any]]:
    return [{"id": "r", "name": "asks", "user_id": "ann", "inputs": inputs}]


def run(db: MemoryStore, tasks: list[dict[str, Any]]) -> asyncio.Task[Any]:
    return asyncio.create_task(TaskExecutor().execute_tasks(tasks, db_session=db))


async def opened(db: MemoryStore, count: int = 1) -> list[dict[str, Json]]:
    """Wait until so many approvals are asked, with their events, and return them."""
    async with asyncio.timeout(30):
        while True:
            records = await db.records(KIND)
            if sum(each.value["is_announced"] for each in records) >= count:
                return await TaskService(db).approvals()
            await asyncio.sleep(0.005)


async def kinds(db: MemoryStore) -> list[str]:
    return [each.type for each in await db.events("r") if each.type.startswith("approval")]


async def test_a_task_continues_with_who_decided_when_and_why(db: MemoryStore):
    running = run(db, asking(data={"version": 2}, form=FORM))
    [found] = await opened(db)
    assert (found["question"], found["data"], found["form"]) == ("May it?", {"version": 2}, FORM)
    assert (found["status"], found["may_decide"], found["decision"]) == ("open", True, None)
    why = await TaskService(db).why("r")
    assert why["reasons"] == ["It waits for the approval of user 'ann'. May it?"]
    assert why["advice"] == ["apflow approvals show r"]
    before = utc_now()
    answered = await TaskService(db, "ann").approve("r", answers={"window": "night"}, reason="Tested.")
    done = await running
    decision = done["result"]
    assert (decision["approved"], decision["by"], decision["reason"]) == (True, "ann", "Tested.")
    assert decision["answers"] == {"window": "night"}
    assert before.isoformat() <= decision["at"] <= utc_now().isoformat()
    assert answered["status"] == "approved"
    assert (await TaskService(db, "ann").approval("r"))["decision"] == answered["decision"]
    asked, decided = [each for each in await db.events("r") if each.type.startswith("approval")]
    assert asked.data["question"] == "May it?"
    assert (decided.data["by"], decided.data["answers"]) == ("ann", {"window": "night"})
    assert await TaskService(db).approvals() == []
    [kept] = await TaskService(db).approvals(status="decided")
    assert kept["status"] == "approved"
    assert await db.records(KIND) == []


async def test_a_task_that_waits_holds_no_place(db: MemoryStore):
    with overridden_defaults(max_concurrency=1):
        tasks = [
            {"id": "r", "name": "says", "dependencies": ["a", "b", "c"]},
            {"id": "a", "name": "asks", "parent_id": "r", "priority": 0},
            {"id": "b", "name": "asks", "parent_id": "r", "priority": 0},
            {"id": "c", "name": "says", "parent_id": "r"},
        ]
        running = run(db, tasks)
        await opened(db, 2)
        async with asyncio.timeout(30):
            while (await db.get(["c"]))["c"].status != "completed":
                await asyncio.sleep(0.005)
        service = TaskService(db)
        await service.approve("a")
        await service.approve("b")
        assert (await running)["status"] == "completed"


@pytest.mark.parametrize(
    ("default", "kind", "is_approved"),
    [("reject", "rejected", False), ("approve", "approved", True), ("fail", "timed_out", False)],
)
async def test_the_default_decides_when_the_time_is_over(
    db: MemoryStore, default: str, kind: str, is_approved: bool
):
    form = {"properties": {"window": {"default": "day"}}}
    done = await run(db, asking(timeout=0.05, on_timeout=default, form=form))
    found = done["result"]
    assert (found["kind"], found["approved"], found["timed_out"], found["by"]) == (
        kind,
        is_approved,
        True,
        None,
    )
    assert found["answers"] == ({"window": "day"} if is_approved else {})
    assert await kinds(db) == ["approval_requested", "approval_decided"]
    with pytest.raises(ApprovalClosedError, match=r"There was no decision within 0.05 s"):
        await TaskService(db).approve("r")


async def test_the_deadline_counts_from_the_first_question_and_ends_what_no_process_runs(db: MemoryStore):
    running = run(db, asking(timeout=3600))
    [found] = await opened(db)
    running.cancel()
    task = (await db.get(["r"]))["r"]
    [record] = await db.records(KIND)
    value = record.value | {"asked_at": (utc_now() - timedelta(hours=2)).isoformat()}
    await db.put_record(KIND, record.key, value)
    assert task.generation == 0
    with pytest.raises(ApprovalClosedError, match="Its time was over at"):
        await TaskService(db).approve("r")
    assert await TaskService(db).approvals() == []
    assert found["deadline"] is not None
    await asyncio.gather(running, return_exceptions=True)


# --- who may decide ------------------------------------------------------------------------------


def caller(db: MemoryStore, user: str, *roles: str) -> TaskService:
    return TaskService(db, user, is_admin="admin" in roles, author=Author(user, roles))


async def test_only_those_who_may_decide_can_and_others_do_not_see_it(db: MemoryStore):
    running = run(db, asking(users=("bob",), roles=("boss",)))
    await opened(db)
    ann, eve = caller(db, "ann"), caller(db, "eve", "staff")
    for attempt in (eve.approve("r"), eve.reject("r"), eve.approval("r")):
        with pytest.raises(NotFoundError, match="There is no task 'r'"):
            await attempt
    assert await eve.approvals() == []
    assert [each["may_decide"] for each in await ann.approvals()] == [False]
    for attempt in (ann.approve("r"), ann.reject("r")):  # the owner of the task sees it
        with pytest.raises(
            ForbiddenError, match=r"Only user 'bob', the role 'boss' or an admin may decide\."
        ):
            await attempt
    for service in (
        caller(db, "bob"),
        caller(db, "cat", "boss"),
        caller(db, "root", "admin"),
        TaskService(db),
    ):
        assert [each["may_decide"] for each in await service.approvals()] == [True]
        with pytest.raises(NotFoundError):
            await service.approval("no-such-task")
    with pytest.raises(NotFoundError):
        await caller(db, "bob").get("r")  # the approval, not the task
    await caller(db, "cat", "boss").reject("r", reason="No.")
    assert (await running)["result"]["by"] == "cat"


async def test_without_approvers_the_owner_decides(db: MemoryStore):
    running = run(db, asking())
    await opened(db)
    with pytest.raises(NotFoundError):
        await caller(db, "bob", "boss").approve("r")
    await caller(db, "ann").approve("r")
    assert (await running)["result"]["by"] == "ann"


# --- answers that are refused --------------------------------------------------------------------


async def test_answers_that_break_the_form_are_refused_and_change_nothing(db: MemoryStore):
    running = run(db, asking(form=FORM))
    await opened(db)
    service = TaskService(db)
    with pytest.raises(ValidationError, match=r"answers.window"):
        await service.approve("r", answers={"window": "noon"})
    with pytest.raises(ValidationError, match="window"):
        await service.approve("r")
    with pytest.raises(InvalidInputError, match="reason"):
        await service.reject("r", reason="x" * 10_001)
    assert [each["status"] for each in await service.approvals()] == ["open"]
    await service.approve("r", answers={"window": "day"})
    assert (await running)["result"]["answers"] == {"window": "day"}


async def test_an_approval_without_a_form_takes_no_answers(db: MemoryStore):
    running = run(db, asking())
    await opened(db)
    with pytest.raises(ValidationError, match="no form"):
        await TaskService(db).approve("r", answers={"window": "day"})
    await TaskService(db).approve("r")
    await running


class Interleaves(MemoryStore):
    """Lets others continue before it answers."""

    async def records(self, kind: str, *, prefix: str = "", limit: int | None = None) -> Any:
        await asyncio.sleep(0)
        return await super().records(kind, prefix=prefix, limit=limit)


async def test_of_several_who_decide_at_once_one_has_decided():
    db = Interleaves()
    running = run(db, asking())
    await opened(db)
    service = TaskService(db, "ann")
    deciding = [service.approve("r"), service.reject("r"), service.approve("r"), service.reject("r")]
    outcomes = await asyncio.gather(*deciding, return_exceptions=True)
    won = [each for each in outcomes if isinstance(each, dict)]
    lost = [each for each in outcomes if isinstance(each, ApprovalClosedError)]
    assert (len(won), len(lost)) == (1, 3)
    assert (await running)["result"]["approved"] is (won[0]["status"] == "approved")
    assert await kinds(db) == ["approval_requested", "approval_decided"]
    with pytest.raises(ApprovalClosedError, match=r"User 'ann' has (approved|rejected) it"):
        await service.approve("r")


async def test_nothing_is_decided_about_tasks_that_have_ended_or_asked_nothing(db: MemoryStore):
    running = run(db, asking())
    await opened(db)
    await TaskService(db).cancel(["r"])
    await running
    service = TaskService(db)
    assert await service.approvals(status="all") == []
    with pytest.raises(ApprovalNotFoundError):  # what was asked is forgotten with the cancellation
        await service.approve("r")
    await run(db, [{"id": "s", "name": "says"}])
    with pytest.raises(ApprovalNotFoundError, match="'s' has not asked for an approval"):
        await service.reject("s")


async def test_a_task_that_was_ended_by_its_policy_leaves_an_approval_that_is_closed(db: MemoryStore):
    tasks = asking()
    tasks[0]["policy"] = {"timeout": 0.1}
    assert (await run(db, tasks))["status"] == "failed"
    service = TaskService(db)
    assert await service.approvals() == []
    assert (await service.approval("r"))["status"] == "closed"
    with pytest.raises(ApprovalClosedError, match="Its task has ended: it is failed"):
        await service.approve("r")


# --- once for each execution ---------------------------------------------------------------------


async def test_an_execution_asks_once_and_the_next_one_asks_again(db: MemoryStore):
    tasks = asking()
    tasks[0]["policy"] = {"timeout": 0.1, "retry": {"max_attempts": 3, "delay": 0, "jitter": False}}
    await run(db, tasks)
    assert await kinds(db) == ["approval_requested"]
    task = (await db.get(["r"]))["r"]
    assert task.attempts == 3
    again = asyncio.create_task(TaskExecutor().execute_task_by_id("r", db_session=db))
    async with asyncio.timeout(30):
        while len(await kinds(db)) < 2:
            await asyncio.sleep(0.005)
    assert (await approval_of(db, (await db.get(["r"]))["r"])).generation == 1  # type: ignore[union-attr]
    await TaskService(db).approve("r")
    assert (await again)["status"] == "completed"


async def test_the_records_go_with_the_tree(db: MemoryStore):
    running = run(db, asking())
    await opened(db)
    await TaskService(db).approve("r")
    await running
    assert len(await db.records(DECIDED_KIND)) == 1
    await TaskService(db).delete("r", force=True)
    assert await db.records(DECIDED_KIND) == []


async def test_secrets_of_the_task_are_masked_in_what_people_see(
    db: MemoryStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_PIN", "a-long-secret")
    running = run(db, asking(data={"a": {"$secret": "PIN"}, "password": "plain"}))
    [found] = await opened(db)
    assert found["data"] == {"a": "***", "password": "***"}
    assert "a-long-secret" not in str([each.value for each in await db.records(KIND)])
    assert "a-long-secret" not in str(await db.events("r"))
    await TaskService(db).approve("r")
    await running


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        ({"question": " "}, "needs a question"),
        ({"timeout": 0.0}, "positive number of seconds"),
        ({"form": {"type": "nothing"}}, "JSON Schema"),
        ({"form": FORM, "timeout": 1.0, "on_timeout": "approve"}, "on_timeout cannot approve"),
        ({"data": "x" * ((1 << 20) - 100)}, "MiB|bytes"),
    ],
)
async def test_a_request_that_cannot_be_asked_fails_the_task(
    db: MemoryStore, inputs: dict[str, Any], fault: str
):
    done = await run(db, asking(**inputs))
    assert done["status"] == "failed"
    assert re.search(fault, done["error"]), done["error"]
    assert await db.records(KIND) == []


async def test_outside_of_a_task_the_default_follows_after_the_timeout():
    approval = await ask_approval(ApprovalRequest(question="?", timeout=0.01, on_timeout=OnTimeout.APPROVE))
    assert approval.status == "approved"
    with pytest.raises(InvalidInputError, match="outside of a task"):
        await ask_approval(ApprovalRequest(question="?"))


# --- restarts ------------------------------------------------------------------------------------


def test_a_process_that_dies_does_not_count_against_a_task_that_only_waits():
    task = Task(id="r", root_id="r", name="asks", executor="asks")
    for attempt in range(5):
        task.status, task.attempts = TaskStatus.IN_PROGRESS, attempt + 1
        recover_task(task, ChangeSet("r", "owner", utc_now()), ONLY_WAITS, 0)
        assert (task.status, task.interruptions) == (TaskStatus.PENDING, 0)


async def test_trees_that_wait_use_no_place_of_a_worker(db: MemoryStore):
    with overridden_defaults(max_concurrency=2):
        worker = Worker(db)
        working = asyncio.create_task(worker.run())
        for at in range(4):
            await TaskService(db).submit([{"id": f"r{at}", "name": "asks"}])
        await opened(db, 4)
        await TaskService(db).submit([{"id": "s", "name": "says"}])
        async with asyncio.timeout(30):
            while (await db.get(["s"]))["s"].status != "completed":
                await asyncio.sleep(0.005)
        worker.drain()
        await working


async def test_results_have_the_form_that_the_table_of_operations_tells(db: MemoryStore):
    running = run(
        db, [{"id": "r", "name": "says"}, *({**each, "id": "a", "parent_id": "r"} for each in asking())]
    )
    await opened(db)
    service = TaskService(db)
    for name, given in (
        ("approvals.list", {"status": "all"}),
        ("approvals.get", {"id": "a"}),
        ("approvals.reject", {"task_id": "a", "reason": "No."}),
        ("approvals.list", {"status": "decided", "limit": 1}),
        ("approvals.get", {"task_id": "a"}),
    ):
        answer = await OPERATIONS[name].call(service, given)
        TypeAdapter(OPERATIONS[name].result).validate_python(answer)
    with pytest.raises(InvalidInputError, match=r"approvals.approve"):
        await OPERATIONS["approvals.approve"].call(service, {"task_id": "a", "answers": [1]})
    await running


async def test_a_task_waits_on_in_the_next_worker_whatever_its_policy_says(db: MemoryStore):
    tasks = asking(timeout=3600)
    tasks[0]["policy"] = {"effect": "once"}
    await TaskService(db).submit(tasks)
    deadlines = set[str]()
    for _ in range(3):
        worker = Worker(db)
        working = asyncio.create_task(worker.run())
        async with asyncio.timeout(30):
            while (await db.get(["r"]))["r"].status != "in_progress":
                await asyncio.sleep(0.005)
        [found] = await opened(db)
        deadlines.add(found["deadline"])
        worker.drain()
        async with asyncio.timeout(20):  # less than the time that code has to end
            await working
        task = (await db.get(["r"]))["r"]
        assert (task.status, task.interruptions) == ("pending", 0)
    assert len(deadlines) == 1
    await TaskService(db).approve("r")  # while no process runs the tree
    worker = Worker(db)
    working = asyncio.create_task(worker.run())
    async with asyncio.timeout(30):
        while (await db.get(["r"]))["r"].status != "completed":
            await asyncio.sleep(0.005)
    worker.drain()
    await working
    assert await kinds(db) == ["approval_requested", "approval_decided"]


class LosesAnswers(MemoryStore):
    """Writes records, and loses each second answer."""

    is_losing = False

    async def put_record(self, kind: str, key: str, value: Json, *, version: int | None = None) -> Any:
        written = await super().put_record(kind, key, value, version=version)
        self.is_losing = not self.is_losing
        if self.is_losing and kind in (KIND, DECIDED_KIND):
            raise StoreOutcomeUnknownError(self.url, OSError("lost"))
        return written


class SlowToAnnounce(MemoryStore):
    """Stores the event of a question when it may, and counts how often approvals that wait are read."""

    def __init__(self) -> None:
        super().__init__()
        self.may_announce = asyncio.Event()
        self.reads = 0

    async def write(self, change: Any) -> Any:
        if any(event.type is EventType.APPROVAL_REQUESTED for move in change.moves for event in move.events):
            await self.may_announce.wait()
        return await super().write(change)

    async def record(self, kind: str, key: str) -> Any:
        self.reads += kind == KIND
        return await super().record(kind, key)


async def test_who_decides_before_the_event_of_the_question_is_stored_waits_for_it_and_stores_no_other():
    async with SlowToAnnounce() as db, asyncio.timeout(30):
        running = run(db, asking())
        while not await db.records(KIND):
            await asyncio.sleep(0)
        before = db.reads
        deciding = asyncio.create_task(TaskService(db).approve("r"))
        while db.reads < before + 2:
            await asyncio.sleep(0)
        db.may_announce.set()
        assert (await deciding)["status"] == "approved"
        await running
        assert await kinds(db) == ["approval_requested", "approval_decided"]


async def test_a_start_of_the_task_that_was_superseded_stores_no_event(db: MemoryStore):
    running = run(db, asking())
    await opened(db)
    task = (await db.get(["r"]))["r"]
    approval = await approval_of(db, task)
    assert approval is not None
    assert task.started_at is not None
    for superseded in (
        {"owner": "another", "started_at": task.started_at},
        {"owner": task.owner, "started_at": task.started_at - timedelta(seconds=1)},
    ):
        before = task.copy()
        before.owner, before.started_at = superseded["owner"], superseded["started_at"]
        with pytest.raises(ConflictError, match="started again"):
            await store_event(db, approval, before, is_first=True, is_runner=True)
    await TaskService(db).approve("r")
    await running
    assert await kinds(db) == ["approval_requested", "approval_decided"]


async def test_answers_of_the_store_that_are_lost_lose_no_question():
    async with LosesAnswers() as db:
        done = await run(db, asking(timeout=0.05, on_timeout="approve"))
        assert done["result"]["timed_out"] is True


async def test_the_event_of_a_decision_is_stored_although_the_process_that_decided_has_died(
    db: MemoryStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(approvals, "ANNOUNCE_SECONDS", 0.05)
    await TaskService(db).create(asking())
    task = (await db.get(["r"]))["r"]
    approval = Approval(
        task_id="r", root_id="r", generation=0, name="asks", user_id="ann",
        request=ApprovalRequest(question="?"), asked_at=utc_now(),
    )  # fmt: skip
    await add_approval(db, approval)
    await note_announced(db, approval)
    await add_decision(db, approval.decided(Decision(is_approved=True, by="bob", at=utc_now())))
    assert task.status == "pending"
    await TaskExecutor().execute_task_by_id("r", db_session=db)
    assert await kinds(db) == ["approval_decided"]
    assert (await db.get(["r"]))["r"].result["by"] == "bob"


class Dying(MemoryStore):
    """A store whose process dies after a number of writes: these last, and no code runs after them."""

    data = ("_tasks", "_trees", "_positions", "_events", "_sequences", "_attempts", "_records")

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.writes_left = writes
        self.survivor = MemoryStore()
        self.has_died = asyncio.Event()

    async def write(self, change: Any) -> Any:
        written = await super().write(change)
        await self._count()
        return written

    async def put_record(self, kind: str, key: str, value: Json, *, version: int | None = None) -> Any:
        written = await super().put_record(kind, key, value, version=version)
        await self._count()
        return written

    async def remove_record(self, kind: str, key: str, *, version: int | None = None) -> bool:
        was_there = await super().remove_record(kind, key, version=version)
        await self._count()
        return was_there

    async def _count(self) -> None:
        self.writes_left -= 1
        if self.writes_left == 0:
            for name in self.data:
                setattr(self.survivor, name, copy.deepcopy(getattr(self, name)))
            self.has_died.set()
        if self.writes_left <= 0:
            await asyncio.Event().wait()


async def approve_when_asked(db: MemoryStore) -> None:
    while not (task := (await db.get(["r"])).get("r")) or task.status != "completed":
        for found in await TaskService(db).approvals():
            with contextlib.suppress(ApprovalClosedError):
                await TaskService(db, "ann").approve(found["task_id"])
        await asyncio.sleep(0.002)


async def lived(db: MemoryStore, live: Callable[[], Awaitable[object]]) -> None:
    """Run a tree and approve what it asks, until something happens; then end all that was begun."""
    before = asyncio.all_tasks()
    deciding = asyncio.create_task(approve_when_asked(db))
    async with asyncio.timeout(30):
        await live()
    deciding.cancel()
    left = asyncio.all_tasks() - before
    for each in left:
        each.cancel()
    if left:
        await asyncio.wait(left, timeout=5)


async def test_a_process_may_die_after_any_write_and_an_approval_is_decided_once(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(approvals, "ANNOUNCE_SECONDS", 0.02)
    whole = Dying(10**6)
    await lived(whole, lambda: run(whole, asking()))
    writes = 10**6 - whole.writes_left
    assert writes > 8
    with overridden_defaults(cancel_grace=0.01, cancel_wait=0.01):
        for at in range(1, writes + 1):
            first = Dying(at)
            await lived(first, partial(dies, first))
            db = first.survivor
            await lived(db, partial(ended, db))
            task = (await db.get(["r"]))["r"]
            assert (task.status, task.interruptions, task.result["by"]) == ("completed", 0, "ann"), at
            assert (len(await db.records(KIND)), len(await db.records(DECIDED_KIND))) == (0, 1), at
            found = await kinds(db)
            assert (found.count("approval_requested"), found.count("approval_decided")) == (1, 1), at


async def dies(db: Dying) -> None:
    running = run(db, asking())
    await db.has_died.wait()
    assert not running.done()


async def ended(db: MemoryStore) -> None:
    """Resume the run of the tree; start it, if it was not requested."""
    await recover(db)
    if (await db.get(["r"]))["r"].status != "completed":
        await TaskExecutor().execute_task_by_id("r", db_session=db)


def test_the_types_of_events_are_stored_ones():
    assert {EventType.APPROVAL_REQUESTED, EventType.APPROVAL_DECIDED}.isdisjoint(LIVE)
    assert {EventType.APPROVAL_REQUESTED, EventType.APPROVAL_DECIDED} <= set(WEBHOOK_EVENTS)


class FailsOnce(MemoryStore):
    """Cannot store the event of a decision."""

    is_failing = True

    async def write(self, change: Any) -> Any:
        events = [event.type for move in change.moves for event in move.events]
        if self.is_failing and EventType.APPROVAL_DECIDED in events:
            self.is_failing = False
            raise StoreUnavailableError(self.url, "full", "is full.")
        return await super().write(change)


async def test_a_decision_wakes_its_task_although_the_store_fails_then(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(approvals, "ANNOUNCE_SECONDS", 0.02)
    async with FailsOnce() as db:
        running = run(db, asking())
        await opened(db)
        with pytest.raises(StoreUnavailableError):
            await TaskService(db).approve("r")
        async with asyncio.timeout(30):
            assert (await running)["result"]["approved"] is True
        assert await kinds(db) == ["approval_requested", "approval_decided"]


class StallsAtTheEvent(MemoryStore):
    """Holds the first write of the event of a question, by the process that asks, until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.is_held, self.released = asyncio.Event(), asyncio.Event()

    async def write(self, change: Any) -> Any:
        events = [event.type for move in change.moves for event in move.events]
        if EventType.APPROVAL_REQUESTED in events and not self.is_held.is_set():
            self.is_held.set()
            await self.released.wait()
        return await super().write(change)


@pytest.mark.parametrize("after_decision", [False, True])
async def test_a_process_that_stalls_before_its_event_does_not_store_it_twice(
    monkeypatch: pytest.MonkeyPatch, after_decision: bool
):
    monkeypatch.setattr(approvals, "ANNOUNCE_SECONDS", 0.02)
    async with StallsAtTheEvent() as db:
        running = run(db, asking())
        await db.is_held.wait()
        deciding = asyncio.create_task(TaskService(db).approve("r"))
        while not await kinds(db):  # another process stores the event in its place
            await asyncio.sleep(0.001)
        if after_decision:
            await deciding
        db.released.set()
        await deciding
        async with asyncio.timeout(30):
            assert (await running)["result"]["approved"] is True
        assert await kinds(db) == ["approval_requested", "approval_decided"]
