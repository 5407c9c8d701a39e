"""The record of one attempt of a task, and what the row of the task itself says about its last attempt.

A store keeps a record of each attempt that failed, was interrupted or is followed by another one. The row of
the task has the data of any other attempt, so a task that completes at its first attempt needs no record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Json, Task, to_json
from apflow.core.model.tolerance import error_type
from apflow.core.process.traceback_text import shortened

MAX_ERROR = 4000  # characters of the error in a record


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # its process ended during the call


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAttempt:
    """One attempt of a task: a call of its executor."""

    task_id: str
    number: int  # from 1; continues across re-executions and interruptions
    started_at: datetime | None  # None: not known
    ended_at: datetime | None  # None while it runs; of an interrupted one, when that was noticed
    outcome: AttemptOutcome | None  # None while it runs
    error: str | None = None
    error_type: str | None = None
    traceback: str | None = None  # without frames of apflow's core

    def to_dict(self) -> dict[str, Json]:
        """Return the attempt as plain JSON, without the id of its task."""
        return {name: to_json(getattr(self, name)) for name in _SHOWN}


_SHOWN = tuple(each.name for each in fields(TaskAttempt) if each.name != "task_id")


def started_at(task: Task) -> datetime | None:
    """Return when the last attempt of a task started; None if its row does not say it."""
    if task.attempts <= 1:
        return task.started_at
    is_unchanged = task.status is TaskStatus.IN_PROGRESS and task.cancel_requested_at is None
    return task.updated_at if is_unchanged else None


def last_attempt(task: Task) -> TaskAttempt | None:
    """Return the last attempt of a task as its row shows it; None if there is no such attempt."""
    is_waiting = task.status is TaskStatus.PENDING or task.not_before is not None
    if task.attempts == 0 or task.executor == GROUP or is_waiting:
        return None
    has_ended = TaskStatus.is_terminal(task.status)
    return TaskAttempt(
        task_id=task.id,
        number=task.attempt_number,
        started_at=started_at(task),
        ended_at=task.completed_at if has_ended else None,
        outcome=AttemptOutcome(task.status) if has_ended else None,
        error=None if task.error is None else shortened(task.error, MAX_ERROR),
        error_type=error_type(task) if task.status is TaskStatus.FAILED else None,
    )


def may_have_records(task: Task) -> bool:
    """Return whether a store may have records of a task's attempts."""
    if task.attempt_number != 1:
        return task.attempt_number > 1
    is_first = task.status is TaskStatus.IN_PROGRESS and task.not_before is None
    # A task that is marked as completed by hand loses its owner. Its attempt may have failed.
    return not (is_first or (task.status is TaskStatus.COMPLETED and task.owner is not None))


def all_attempts(task: Task, stored: Iterable[TaskAttempt]) -> list[TaskAttempt]:
    """Return all attempts of a task in order, from its row and the stored records.

    A task whose attempt has failed may be marked as completed, or cancelled while it waits for a retry. If it
    is reset later, its row is stored as a second record of that attempt: the failure is the true one.
    """
    found: dict[int, TaskAttempt] = {}
    for each in stored:
        if each.number not in found or each.outcome in _TRUE:
            found[each.number] = each
    last = last_attempt(task)
    if last is not None:
        found.setdefault(last.number, last)
    return [found[number] for number in sorted(found)]


_TRUE = (AttemptOutcome.FAILED, AttemptOutcome.INTERRUPTED)
