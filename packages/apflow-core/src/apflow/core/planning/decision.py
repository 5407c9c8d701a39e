"""Evaluates conditions, creates the elements of lists, and collects their results. Pure.

The work of one call is bounded, so that many conditions do not stop the event loop of a process that runs
other trees: what remains is decided in the next turn of the run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from apflow.core.errors import QueryError
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import Json, Task, task_label
from apflow.core.payload.condition import MAX_WORK, read_condition
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.fan_out import FanOutLimits, collect, expand
from apflow.core.planning.outcome import CONDITION_FALSE, CONDITION_INVALID, Outcome, failed, skipped
from apflow.core.planning.run_state import RunState

MAX_SHOWN: Final = 200  # characters of an expression in a message
WORK_OF_ELEMENT: Final = 20  # in units of `MAX_WORK`: to create a task, or to collect a result


def decide(state: RunState[Any], changes: ChangeSet, limits: FanOutLimits) -> None:
    """Make tasks ready whose conditions are true, and end the others: false skips, an error fails.

    Tasks with `for_each` get their elements, or their results.
    """
    plan, work = state.plan, 0
    for _ in range(len(plan.undecided)):
        if work >= MAX_WORK:
            return
        task_id = plan.undecided.popleft()
        task = state.by_id[task_id]
        if plan.nodes[task_id].status in TERMINAL:
            continue  # it was cancelled
        if changes.changes_status(task_id):  # it is reset, or starts: its end is another change
            plan.undecided.append(task_id)
            continue
        if plan.nodes[task_id].status is TaskStatus.IN_PROGRESS:
            work += _collect(task, state, changes, limits)
            continue
        if not plan.is_undecided(task_id):
            work += _expand(task, state, changes, limits)
            continue
        outcome, cost = evaluate(task, state.by_id)
        work += cost
        if outcome is None:
            plan.accept(task_id)
        else:
            changes.end_unstarted(task, outcome)
            plan.finish(task_id, outcome.status)


def _expand(task: Task, state: RunState[Any], changes: ChangeSet, limits: FanOutLimits) -> int:
    """Create the elements of a task and start it, or fail it; return the work that this took."""
    made = expand(task, state.by_id, state.tasks[-1].position + 1, limits)
    if isinstance(made, Outcome):
        changes.end_unstarted(task, made)
        state.plan.finish(task.id, made.status)
        return 1
    changes.add(made)
    changes.start_group(task)
    state.add(made)
    state.plan.expand(task.id, made)
    return 1 + WORK_OF_ELEMENT * len(made)


def _collect(task: Task, state: RunState[Any], changes: ChangeSet, limits: FanOutLimits) -> int:
    """End a task with the results of its elements; return the work that this took."""
    outcome = collect(task, state.by_id, state.children, limits)
    changes.end(task, outcome)
    state.plan.finish(task.id, outcome.status)
    return 1 + WORK_OF_ELEMENT * len(state.children.get(task.id, ()))


def evaluate(task: Task, tasks: Mapping[str, Task]) -> tuple[Outcome | None, int]:
    """Return how the condition of a task ends it, None if the task runs; and the work that this took."""
    text: str = task.policy["when"]
    shown = repr(text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}...")
    try:
        condition = read_condition(text)
    except QueryError as error:  # creation refuses it; it may have been stored by another version
        return failed(CONDITION_INVALID, f"Its condition {shown} is not valid: {error.cause}."), 0
    verdict = condition.decide(results_of(task, tasks, condition.names))
    if verdict.fault is not None:
        message = f"Its condition {shown} {verdict.fault}."
        absent = sorted(_label(each) for each in _needed(task, tasks) if each.status != TaskStatus.COMPLETED)
        message += f" Without a result, and null in it: {', '.join(absent[:5])}." if absent else ""
        return failed(CONDITION_INVALID, message, condition=text), verdict.work
    if verdict.holds:
        return None, verdict.work
    return skipped(CONDITION_FALSE, f"Skipped, because {shown} is false.", condition=text), verdict.work


def results_of(task: Task, tasks: Mapping[str, Task], names: Collection[str]) -> dict[str, Json]:
    """Return what a condition sees: the result of each dependency by key, None if it did not complete.

    Args:
        names: those that the condition reads. A dependency whose key changed when its tree became a part of
            another one is also found by the name that the task declares for it.
    """
    results: dict[str, Json] = {}
    declared: dict[str, Json] = {}
    for dependency in task.dependencies:
        needed = tasks.get(dependency["id"])
        if needed is not None:
            result = needed.result if needed.status is TaskStatus.COMPLETED else None
            results[needed.key] = result
            name = dependency.get("name")
            if name is not None and name in names:
                declared[name] = result
    return {**declared, **results}


def _needed(task: Task, tasks: Mapping[str, Task]) -> list[Task]:
    return [tasks[each["id"]] for each in task.dependencies if each["id"] in tasks]


def _label(task: Task) -> str:
    return f"{task_label(task)}, {task.status}"
