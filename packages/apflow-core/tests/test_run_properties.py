"""The whole engine against the naive model of the rules, on trees that hypothesis makes up."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import model
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from model import DECIDED_LATE, Expected, Scenario, expect, scenarios

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskManager,
    TaskService,
    executor_register,
    get_registry,
)
from apflow.core.errors import ApprovalClosedError
from apflow.core.extensions.approval import ask_approval
from apflow.core.model.approval import KIND, ApprovalRequest, OnTimeout
from apflow.core.model.event import FINAL, EventType
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import GROUP
from apflow.core.model.tree import tree_status
from apflow.testing.virtual_time import VirtualTimeLoop


class Scripted(BaseTask):
    """Ends each attempt as its inputs say; may cancel a task first, or wait for an approval."""

    id = "scripted"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        if "hangs" in inputs:
            await asyncio.sleep(10 * DEADLINE)
        for _ in range(inputs["turns"]):
            await asyncio.sleep(0)
        if "cancel" in inputs and self.attempts == 1:
            await TaskManager(inputs_store[0]).cancel_task(inputs["cancel"])
        if inputs["approval"] is not None:
            approval = await ask_approval(request_of(inputs["approval"]))
            if approval.status in REFUSED:
                return {"status": "failed", "error_type": REFUSED[approval.status]}
        script = inputs["script"]
        return {"status": script[min(self.attempts, len(script)) - 1]}


REFUSED = {"rejected": "ApprovalRejected", "timed_out": "ApprovalTimeout"}
TIMEOUT = 0.002  # seconds after which an approval is decided by default
DEADLINE = 1000.0  # seconds, on the clock of a loop on which time passes without waiting
inputs_store: list[MemoryStore] = []


@pytest.fixture(scope="module", autouse=True)
def scripted() -> Iterator[None]:
    executor_register(Scripted, override=True)
    yield
    get_registry().unregister("scripted")


def request_of(approval: str) -> ApprovalRequest:
    """Return the request of an approval, whose question says how it is decided."""
    if approval not in DECIDED_LATE:
        return ApprovalRequest(question=approval)
    on_timeout = OnTimeout(DECIDED_LATE[approval])
    return ApprovalRequest(question=approval, timeout=TIMEOUT, on_timeout=on_timeout)


def as_array(scenario: Scenario, turns: list[int]) -> list[dict[str, Any]]:
    caller, target = scenario.cancel or (None, None)
    array: list[dict[str, Any]] = []
    for number, task in enumerate(scenario.tasks):
        script = task.script if task.each is None else {"$item": "@"}
        inputs = {"script": script, "turns": turns[number % len(turns)], "approval": task.approval}
        if task.id == caller:
            inputs["cancel"] = target
        if task.id == scenario.hangs:
            inputs["hangs"] = True
        array.append(
            {
                "id": task.id,
                "name": "group" if task.script is None and task.each is None else "scripted",
                "parent_id": task.parent,
                "priority": task.priority,
                "dependencies": [{"id": need, "required": required} for need, required in task.needs],
                "inputs": {} if task.script is None and task.each is None else inputs,
                "policy": {
                    "retry": {"max_attempts": task.max_attempts, "delay": 0},
                    "effect": task.effect,
                    "when": task.expression,
                    "trigger": task.trigger,
                    "for_each": None
                    if task.each is None
                    else {
                        "items": task.each,
                        "allow_failures": task.allow_failures,
                        "max_parallel": task.max_parallel,
                    },
                },
            }
        )
    if scenario.hangs is not None:
        array[0]["policy"] |= {"deadline": DEADLINE, "cleanup_timeout": DEADLINE}
    return array


async def decide_everything(db: MemoryStore, moments: list[int]) -> None:
    """Decide each approval as its question says, twice, so many turns of the loop after it was asked."""
    left = itertools.cycle(moments)
    turns: dict[str, int] = {}
    while True:
        for found in await TaskService(db).approvals():
            task_id, question = found["task_id"], found["question"]
            turns[task_id] = turns.get(task_id, next(left)) - 1
            if turns[task_id] < 0 and not question.endswith("_late"):
                decide = TaskService(db).approve if question == "approved" else TaskService(db).reject
                answers = await asyncio.gather(decide(task_id), decide(task_id), return_exceptions=True)
                refused = [each for each in answers if isinstance(each, BaseException)]
                assert refused
                assert all(isinstance(each, ApprovalClosedError) for each in refused)
        await asyncio.sleep(0)


@dataclass
class Ended:
    """A run that has ended: what is stored, and the events that a subscriber received."""

    tasks: list[Any]
    events: list[Any]
    heard: list[Any]
    approvals: list[dict[str, Any]]
    waiting: list[Any]  # the records of approvals that wait


async def run(scenario: Scenario, turns: list[int], width: int, moments: list[int]) -> Ended:
    db = MemoryStore()
    inputs_store[:] = [db]
    node = await TaskCreator(db).create_task_tree_from_array(as_array(scenario, turns))
    deciding = asyncio.create_task(decide_everything(db, moments)) if moments else None
    heard: list[Any] = []
    manager = TaskManager(db, max_concurrency=width)

    async def listen() -> None:
        heard.extend([event async for event in manager.subscribe("t0", 0)])

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    await manager.distribute_task_tree(node)
    async with asyncio.timeout(30):
        await listening
    if deciding is not None:
        deciding.cancel()
        await asyncio.wait({deciding})
        assert deciding.cancelled() or deciding.exception() is None
    approvals = await TaskService(db).approvals(status="all")
    waiting = await db.records(KIND)
    return Ended(await db.tree("t0"), await db.events("t0"), heard, approvals, waiting)


def check(
    scenario: Scenario, expected: Expected, turns: list[int], width: int, moments: list[int] | None = None
) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop if scenario.hangs is not None else None) as runner:
        ended = runner.run(run(scenario, turns, width, moments or []))
    if moments:
        scenario = replace(scenario, decided=check_approvals(ended))
        expected = expect(scenario)
    tasks, events = ended.tasks, ended.events
    assert {task.key: str(task.status) for task in tasks} == expected.status
    assert {task.key: task.attempts for task in tasks} == expected.attempts
    for task in tasks:
        if task.status == "skipped":
            assert task.error.startswith("Skipped, because ") and task.started_at is None
    error_types = {task.key: task.result["error_type"] for task in tasks if task.key in expected.error_type}
    assert error_types == expected.error_type
    names = {task.id: task.key for task in tasks}
    assert {names[each["task_id"]] for each in ended.approvals} == expected.asked
    summary = tree_status(tasks)
    assert (str(summary.status), summary.progress) == (expected.tree_status, 1.0)
    assert {task.key for task in tasks if task.id in summary.tolerated} == expected.tolerated
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    heard = [event.to_dict() for event in ended.heard if event.sequence]
    assert heard == [event.to_dict() for event in events]
    assert events[-1].type in FINAL and events[-1].status == expected.tree_status
    check_story(tasks, events)


def check_approvals(ended: Ended) -> dict[str, str]:
    """Check that each approval was asked and decided once; return the decisions of races, by task."""
    names = {task.id: task.key for task in ended.tasks}
    decided: dict[str, str] = {}
    assert ended.waiting == []
    for approval in ended.approvals:
        kinds = [each.type for each in ended.events if each.task_id == approval["task_id"]]
        assert kinds.count(EventType.APPROVAL_REQUESTED) == 1
        assert kinds.count(EventType.APPROVAL_DECIDED) == 1
        assert approval["decision"]["timed_out"] or not approval["question"].endswith("_late")
        if approval["question"] == "raced":
            is_late = approval["decision"]["timed_out"]
            decided[names[approval["task_id"]]] = "approved_late" if is_late else "rejected"
    return decided


def check_story(tasks: list[Any], events: list[Any]) -> None:
    """Each task ends once, and starts after what it requires has completed."""
    ends = {
        EventType.TASK_COMPLETED, EventType.TASK_FAILED, EventType.TASK_CANCELLED, EventType.TASK_SKIPPED,
    }  # fmt: skip
    ended: dict[str, Any] = {}
    started: dict[str, int] = {}
    uncalled = {task.id for task in tasks if not task.attempts}
    groups = {task.id: task for task in tasks if task.executor == GROUP}
    for event in events:
        if event.type in ends:
            assert event.task_id not in ended
            ended[event.task_id] = event
        elif event.type == EventType.TASK_STARTED:
            started[event.task_id] = event.sequence
            task = next(each for each in tasks if each.id == event.task_id)
            for need in task.dependencies:
                if need["required"] and need["id"] not in groups:
                    if task.parent_id is None and need["id"] in uncalled:
                        continue  # of one change, the events of the root come first
                    end = ended[need["id"]].type
                    trigger = task.policy["trigger"]
                    is_skip_accepted = end == EventType.TASK_SKIPPED and trigger == "unless_failed"
                    is_accepted = is_skip_accepted or trigger in ("on_failure", "always")
                    assert end == EventType.TASK_COMPLETED or is_accepted
    assert len(ended) == len(tasks)


@given(scenarios(), st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(1, 5))
@settings(deadline=None)
def test_a_tree_ends_as_the_rules_say(scenario: Scenario, turns: list[int], width: int):
    check(scenario, expect(scenario), turns, width)


MOMENTS = st.lists(st.integers(0, 40), min_size=1, max_size=5)


@given(
    scenarios(with_approvals=True),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.integers(1, 5),
    MOMENTS,
)
@settings(deadline=None)
def test_a_tree_whose_tasks_wait_for_approvals_ends_as_the_rules_say(
    scenario: Scenario, turns: list[int], width: int, moments: list[int]
):
    check(scenario, expect(scenario), turns, width, moments)


CANCELLED_WHILE_IT_WAITS = Scenario(
    (
        model.Scripted("t0", None, script=None),
        model.Scripted("t1", "t0", approval="approved"),
        model.Scripted("t2", "t0"),
    ),
    cancel=("t2", "t1"),
)


@example(CANCELLED_WHILE_IT_WAITS, [0, 0, 60], 2, [10_000])
@given(
    scenarios(with_cancel=True, with_always=False, with_approvals=True),
    st.lists(st.integers(0, 60), min_size=1, max_size=4),
    st.integers(1, 5),
    MOMENTS,
)
@settings(deadline=None)
def test_a_cancelled_tree_leaves_no_approval_that_waits(
    scenario: Scenario, turns: list[int], width: int, moments: list[int]
):
    ended = asyncio.run(run(scenario, turns, width, moments))
    assert {task.status for task in ended.tasks} <= TERMINAL
    assert ended.waiting == []
    tasks = {task.id: task for task in ended.tasks}
    for approval in ended.approvals:
        assert approval["decision"] is not None
        if approval["status"] != "approved":
            assert tasks[approval["task_id"]].status in ("failed", "cancelled")


# Without `always`: the task that cancels waits for the end of what it cancels, which waits for its slot.
@given(scenarios(with_cancel=True, with_always=False), st.lists(st.integers(0, 3), min_size=1, max_size=4))
@settings(deadline=None)
def test_a_tree_with_a_cancellation_ends_as_the_rules_say(scenario: Scenario, turns: list[int]):
    expected = expect(scenario)
    assume(not expected.hangs_on_order)
    check(scenario, expected, turns, 1)


@given(scenarios(with_deadline=True), st.lists(st.integers(0, 3), min_size=1, max_size=4))
@settings(deadline=None)
def test_a_tree_whose_deadline_passes_ends_as_the_rules_say(scenario: Scenario, turns: list[int]):
    expected = expect(scenario)
    assume(not expected.hangs_on_order)
    check(scenario, expected, turns, 1)
