"""The state machine of a run: its phases, its log, and a recorded run that is replayed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, Task, TaskCreator, TaskManager, TaskStatus, executor_register
from apflow.core.engine.tree_run import TreeRun
from apflow.core.extensions.registry import get_registry
from apflow.core.model.task import utc_now
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.run_events import CancelRequested, EndRun, RunEvent, StartCalls
from apflow.core.planning.run_machine import RunMachine
from apflow.core.planning.run_start import begin_run
from apflow.core.planning.run_state import PHASES, Call, RunPhase, RunState

LOGGER = "apflow.core.engine.tree_run"
Turn = tuple[list[RunEvent], list[str]]  # what happened, and what was written


class Step(BaseTask):
    """Fails as often as its inputs say."""

    id = "step"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        if self.attempts <= inputs.get("failures", 0):
            raise ConnectionError(f"attempt {self.attempts}")
        return {"attempt": self.attempts}


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    executor_register(Step, override=True)
    yield
    get_registry().unregister(Step.id)


def rows() -> list[dict[str, Any]]:
    """A group with a chain in it, a task that is tried again, and one that fails with what needs it."""
    retry = {"retry": {"max_attempts": 3, "delay": 0, "jitter": False}}
    return [
        {"id": "g", "name": "group"},
        {"id": "a", "name": "step", "parent_id": "g"},
        {"id": "b", "name": "step", "parent_id": "g", "dependencies": ["a"]},
        {"id": "again", "name": "step", "parent_id": "g", "inputs": {"failures": 2}, "policy": retry},
        {"id": "bad", "name": "step", "parent_id": "g", "inputs": {"failures": 1}},
        {"id": "needs", "name": "step", "parent_id": "g", "dependencies": ["bad"]},
    ]


def turns(records: list[logging.LogRecord]) -> list[Turn]:
    """Group the log of a run: the events of each turn, and the lines that it wrote."""
    found: list[Turn] = [([], [])]
    for record in records:
        assert isinstance(record.args, tuple)
        if " event " in record.msg:
            if found[-1][1]:
                found.append(([], []))
            found[-1][0].append(record.args[1])  # type: ignore[arg-type]
        elif " writes " in record.msg:
            found[-1][1].append(str(record.args[1]))
    return found


def carry_out(changes: ChangeSet, state: RunState[Call]) -> None:
    """Do what a replayed run does once changes are durable."""
    for instruction in changes.then:
        if isinstance(instruction, StartCalls):
            state.running.update((each, Call(state.by_id[each])) for each in instruction.task_ids)
        elif isinstance(instruction, EndRun):
            state.enter(RunPhase.OVER)


def replay(tasks: list[Task], recorded: list[Turn]) -> tuple[list[list[str]], RunState[Call]]:
    """Give recorded events to a machine, turn by turn, without an event loop; return what it writes."""
    root = tasks[0]
    changes = ChangeSet(root.id, "owner", utc_now(), {"run_owner": "owner"})
    begin_run(tasks, root, changes, named_id=None, force=False, is_known=lambda name: name == "step")
    state = RunState[Call](root.id, "owner", None)
    machine = RunMachine(state, effect=lambda _: "idempotent")
    state.take_tree(tasks)
    written: list[list[str]] = []
    for number, (events, _) in enumerate(recorded):
        if number:
            changes = ChangeSet(root.id, "owner", utc_now(), {"run_owner": "owner"})
        is_request = bool(changes.moves)
        for event in events:
            if str(event).startswith("TasksAdmitted"):
                machine.derive(changes)  # what may start is known only after what follows
                state.plan.take_ready(1000)
            assert machine.handle(event, changes)
        machine.derive(changes)
        if not is_request:
            machine.close(changes, is_carried_out=True)
        changes.change()
        written.append(list(changes.describe()))
        if state.phase is RunPhase.STARTING:
            state.enter(RunPhase.RUNNING)
        carry_out(changes, state)
    return written, state


async def test_a_recorded_run_is_replayed_without_an_event_loop(caplog: pytest.LogCaptureFixture):
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array(rows())
    before = [task.copy() for task in await db.tree("g")]
    with caplog.at_level(logging.DEBUG, LOGGER):
        await TaskManager(db).distribute_task_tree(node)
    recorded = turns([each for each in caplog.records if each.name == LOGGER])

    written, state = replay(before, recorded)

    assert [sorted(lines) for lines in written] == [sorted(lines) for _, lines in recorded]
    assert state.phase is RunPhase.OVER
    stored = {task.id: (task.status, task.attempts) for task in await db.tree("g")}
    assert {task.id: (task.status, task.attempts) for task in state.tasks} == stored
    assert stored["again"] == (TaskStatus.COMPLETED, 3)


async def test_the_log_of_a_run_is_a_sequence_of_events_phases_and_transitions(
    caplog: pytest.LogCaptureFixture,
):
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array([{"id": "r", "name": "step"}])
    with caplog.at_level(logging.DEBUG, "apflow.core"):
        await TaskManager(db).distribute_task_tree(node)
    shown = [each.getMessage() for each in caplog.records if each.getMessage().startswith("Tree r: ")]
    assert [re.sub("was_called.*", "...", line) for line in shown] == [
        "Tree r: event TasksAdmitted(task_ids=[r])",
        "Tree r: writes r: pending -> in_progress",
        "Tree r: phase starting -> running",
        "Tree r: event AttemptEnded(task_id=r, number=1, generation=0, outcome=completed, ...",
        "Tree r: phase running -> ending",
        "Tree r: writes r: in_progress -> completed",
        "Tree r: phase ending -> over",
    ]


async def test_each_step_of_a_chain_takes_one_turn(monkeypatch: pytest.MonkeyPatch):
    taken: list[RunPhase] = []
    turn = TreeRun._turn

    async def counted(self: TreeRun) -> None:
        await turn(self)
        taken.append(self.state.phase)

    monkeypatch.setattr(TreeRun, "_turn", counted)
    tasks: list[dict[str, Any]] = [{"id": "t0", "name": "step"}]
    tasks += [
        {"id": f"t{at}", "name": "step", "parent_id": "t0", "dependencies": [f"t{at - 1}"]}
        for at in range(1, 10)
    ]
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array(tasks)
    await TaskManager(db).distribute_task_tree(node)
    # One that starts the first task, and one for the end of each task.
    assert taken == [RunPhase.RUNNING] * 10 + [RunPhase.OVER]


async def test_nothing_is_logged_of_a_run_where_the_level_is_higher(caplog: pytest.LogCaptureFixture):
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array([{"id": "r", "name": "step"}])
    with caplog.at_level(logging.INFO, "apflow.core"):
        await TaskManager(db).distribute_task_tree(node)
    assert not [each for each in caplog.records if each.getMessage().startswith("Tree r: ")]


def state_of(phase: RunPhase) -> RunState[Call]:
    return RunState[Call]("r", "owner", None, phase)


@pytest.mark.parametrize("old", list(RunPhase))
@pytest.mark.parametrize("new", list(RunPhase))
def test_a_phase_is_entered_only_from_the_phases_of_the_table(old: RunPhase, new: RunPhase):
    state = state_of(old)
    if new in PHASES[old]:
        state.enter(new)
        assert state.phase is new
    else:
        with pytest.raises(RuntimeError, match=f"from {old} to {new}"):
            state.enter(new)
        assert state.phase is old


def test_the_end_of_a_run_can_be_taken_back_to_every_phase_that_may_end():
    for phase, following in PHASES.items():
        if RunPhase.ENDING in following:
            assert phase in PHASES[RunPhase.ENDING]


def test_a_lost_run_and_one_that_is_over_go_nowhere():
    assert not PHASES[RunPhase.LOST]
    assert not PHASES[RunPhase.OVER]


def test_an_event_is_one_short_line():
    event = CancelRequested([f"t{each}" for each in range(9)], "x" * 1000, is_forced=False)
    assert len(str(event)) < 200
    assert str(event).startswith("CancelRequested(task_ids=[t0, t1, t2, t3, t4, ...], message=xxx")
