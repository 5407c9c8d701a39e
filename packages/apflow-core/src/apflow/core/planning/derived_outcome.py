"""Builds the outcomes of tasks whose end follows from other tasks, without a call of an executor. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apflow.core.model.for_each import ForEach, has_for_each
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task, task_label
from apflow.core.planning.outcome import (
    CHILD_FAILED,
    DEPENDENCY_FAILED,
    DEPENDENCY_SKIPPED,
    NOTHING_FAILED,
    Outcome,
    failed,
    skipped,
)
from apflow.core.planning.plan import DerivedOutcome


def outcome_of(
    derived: DerivedOutcome, tasks: Mapping[str, Task], children: Mapping[str, Sequence[str]]
) -> Outcome:
    """Return the stored outcome for a derived end of a group or of a task with dependencies."""
    task = tasks[derived.task_id]
    cause = tasks.get(derived.cause) if derived.cause else None
    if task.executor == GROUP and task.status is TaskStatus.IN_PROGRESS and has_for_each(task):
        return _fan_out_outcome(derived, task, cause, len(children.get(task.id, ())))
    if task.executor == GROUP and task.status is TaskStatus.IN_PROGRESS:
        return _with_children(_group_outcome(derived, cause), task, tasks, children)
    if derived.status is TaskStatus.FAILED:
        message = f"It needs {_shown(cause)}, which failed"
        return failed(DEPENDENCY_FAILED, message, failed_task_id=derived.cause)
    if derived.status is TaskStatus.SKIPPED and derived.cause is None:
        return skipped(NOTHING_FAILED, "Skipped, because nothing that it depends on has failed.")
    if derived.status is TaskStatus.SKIPPED:
        message = f"Skipped, because it needs {_shown(cause)}, which was skipped."
        return skipped(DEPENDENCY_SKIPPED, message, skipped_task_id=derived.cause)
    message = f"Cancelled, because it needs {_shown(cause)}, which was cancelled."
    return Outcome(derived.status, None, message, None)


def _group_outcome(derived: DerivedOutcome, cause: Task | None) -> Outcome:
    if derived.status is TaskStatus.FAILED:
        message = f"In this group {_shown(cause)} failed first"
        return failed(CHILD_FAILED, message, failed_task_id=derived.cause)
    return Outcome(
        derived.status, None, "Cancelled." if derived.status is TaskStatus.CANCELLED else None, None
    )


def _fan_out_outcome(derived: DerivedOutcome, task: Task, cause: Task | None, count: int) -> Outcome:
    """Return the outcome of a task with `for_each` that has failed or was cancelled."""
    for_each = ForEach.of(task)
    if derived.status is not TaskStatus.FAILED or for_each is None:
        return _group_outcome(derived, cause)
    allowed = for_each.allowed(count)
    message = f"{derived.failures:,} of {count:,} elements failed"
    message += f", more than the {allowed:,} that may" if allowed else ""
    message += f"; {_shown(cause)} failed first"
    numbers = {"elements": count, "failed": derived.failures, "allowed": allowed}
    return failed(CHILD_FAILED, message, failed_task_id=derived.cause, **numbers)


def _with_children(
    outcome: Outcome, group: Task, tasks: Mapping[str, Task], children: Mapping[str, Sequence[str]]
) -> Outcome:
    """Add the outcomes of the direct children."""
    ends = {each: str(tasks[each].status) for each in children.get(group.id, ())}
    return Outcome(
        outcome.status, {**(outcome.result or {}), "children": ends}, outcome.error, outcome.error_type
    )


def _shown(task: Task | None) -> str:
    return f"task {task_label(task)}" if task is not None else "a task"
