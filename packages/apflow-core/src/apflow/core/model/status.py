"""The states of a task and the moves between them.

This is the only place that compares states. Every store enforces the table with conditional writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from apflow.core.errors import IllegalMoveError


class TaskStatus(StrEnum):
    """The state of a task: a string (`task.status == "failed"`) with its constants and questions."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @staticmethod
    def is_terminal(status: str) -> bool:
        """Return whether a task in this state has ended."""
        return status in TERMINAL

    @staticmethod
    def is_active(status: str) -> bool:
        """Return whether a task in this state has started and not ended."""
        return status == TaskStatus.IN_PROGRESS


TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED})

TRANSITIONS: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    # pending -> failed: a dependency cannot complete. pending -> skipped: its condition, or a skipped
    # dependency. pending -> completed: marked by hand.
    TaskStatus.PENDING: frozenset(TaskStatus) - {TaskStatus.PENDING},
    # in_progress -> in_progress: a retry waits or begins. in_progress -> pending: recovery and drain.
    TaskStatus.IN_PROGRESS: frozenset(TaskStatus) - {TaskStatus.SKIPPED},
    # A terminal state is left by explicit re-execution, or because a user marks the task as completed.
    TaskStatus.COMPLETED: frozenset({TaskStatus.PENDING}),
    TaskStatus.FAILED: frozenset({TaskStatus.PENDING, TaskStatus.COMPLETED}),
    TaskStatus.CANCELLED: frozenset({TaskStatus.PENDING, TaskStatus.COMPLETED}),
    TaskStatus.SKIPPED: frozenset({TaskStatus.PENDING, TaskStatus.COMPLETED}),
}

MARKABLE = frozenset(TaskStatus) - {TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED}  # by hand, as completed


def check_transition(task_id: str, old: TaskStatus, new: TaskStatus) -> None:
    """Raise `IllegalMoveError` unless a task may go from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        raise IllegalMoveError(task_id, old, new)
