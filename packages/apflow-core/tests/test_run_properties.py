"""The whole engine against the naive model of the rules, on trees that hypothesis makes up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from model import Expected, Scenario, expect, scenarios

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskManager,
    TaskService,
    executor_register,
    get_registry,
)
from apflow.core.extensions.approval import ask_approval
from apflow.core.model.approval import ApprovalRequest
from apflow.core.model.event import FINAL, EventType
from apflow.core.model.task import GROUP
from apflow.core.model.tree import tree_status
from apflow.testing.virtual_time import VirtualTimeLoop


class Scripted(BaseTask):
    """Ends each attempt as its inputs say; may cancel a task first, or wait for an approval."""

    id = "scripted"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        if "cancel" in inputs and self.attempts == 1:
            await TaskManager(inputs_store[0]).cancel_task(inputs["cancel"])
        if "hangs" in inputs:
            await asyncio.sleep(10 * DEADLINE)
        for _ in range(inputs["turns"]):
            await asyncio.sleep(0)
        if inputs.get("asks"):
            await ask_approval(ApprovalRequest(question="May it?"))
        script = inputs["script"]
        return {"status": script[min(self.attempts, len(script)) - 1]}


DEADLINE = 1000.0  # seconds, on the clock of a loop on which time passes without waiting
inputs_store: list[MemoryStore] = []


@pytest.fixture(scope="module", autouse=True)
def scripted() -> Iterator[None]:
    executor_register(Scripted, override=True)
    yield
    get_registry().unregister("scripted")


def as_array(scenario: Scenario, turns: list[int], *, asks: bool = False) -> list[dict[str, Any]]:
    caller, target = scenario.cancel or (None, None)
    array: list[dict[str, Any]] = []
    for number, task in enumerate(scenario.tasks):
        script = task.script if task.each is None else {"$item": "@"}
        inputs: dict[str, Any] = {"script": script, "turns": turns[number % len(turns)]}
        if asks and number % 2:
            inputs["asks"] = True
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


async def approve_everything(db: MemoryStore) -> None:
    while True:
        for found in await TaskService(db).approvals():
            await TaskService(db).approve(found["task_id"])
        await asyncio.sleep(0)


async def run(
    scenario: Scenario, turns: list[int], width: int, *, asks: bool = False
) -> tuple[Any, list[Any], list[Any]]:
    db = MemoryStore()
    inputs_store[:] = [db]
    node = await TaskCreator(db).create_task_tree_from_array(as_array(scenario, turns, asks=asks))
    deciding = asyncio.create_task(approve_everything(db)) if asks else None
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
    return await db.tree("t0"), await db.events("t0"), heard


def check(
    scenario: Scenario, expected: Expected, turns: list[int], width: int, *, asks: bool = False
) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop if scenario.hangs is not None else None) as runner:
        tasks, events, heard = runner.run(run(scenario, turns, width, asks=asks))
    assert {task.key: str(task.status) for task in tasks} == expected.status
    assert {task.key: task.attempts for task in tasks} == expected.attempts
    for task in tasks:
        if task.status == "skipped":
            assert task.error.startswith("Skipped, because ") and task.started_at is None
    error_types = {task.key: task.result["error_type"] for task in tasks if task.key in expected.error_type}
    assert error_types == expected.error_type
    summary = tree_status(tasks)
    assert (str(summary.status), summary.progress) == (expected.tree_status, 1.0)
    assert {task.key for task in tasks if task.id in summary.tolerated} == expected.tolerated
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.to_dict() for event in heard if event.sequence] == [event.to_dict() for event in events]
    assert events[-1].type in FINAL and events[-1].status == expected.tree_status
    check_story(tasks, events)


def check_story(tasks: list[Any], events: list[Any]) -> None:
    """Each task ends once, and starts after what it requires has completed."""
    ends = {
        EventType.TASK_COMPLETED, EventType.TASK_FAILED, EventType.TASK_CANCELLED, EventType.TASK_SKIPPED,
    }  # fmt: skip
    ended: dict[str, Any] = {}
    started: dict[str, int] = {}
    skipped = {event.task_id for event in events if event.type == EventType.TASK_SKIPPED}
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
                    if task.parent_id is None and need["id"] in skipped:
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


@given(scenarios(), st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_a_tree_whose_tasks_wait_for_approvals_ends_as_the_rules_say(
    scenario: Scenario, turns: list[int], width: int
):
    check(scenario, expect(scenario), turns, width, asks=True)


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
