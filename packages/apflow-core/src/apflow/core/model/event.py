"""What happens to a tree, as one typed stream.

Changes of state are stored with the change and numbered by the store, per tree. Progress and log
events are live: they carry the number of the last stored event before them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, to_json


class EventType(StrEnum):
    """The types of events."""

    TREE_STARTED = "tree_started"
    """A run of the tree was requested."""
    TASK_CREATED = "task_created"
    """The task was stored: with its tree, or as an element of a list while the tree runs."""
    TASK_STARTED = "task_started"
    """An attempt of the task begins."""
    PROGRESS = "progress"
    """The task reports progress. `message` and `data` are those of the report."""
    LOG = "log"
    """The task has logged lines: `data.lines` has the newest, `data.count` their number."""
    RETRYING = "retrying"
    """The attempt failed, and another one starts after `data.wait` seconds. `data.attempt` is its number."""
    TASK_RESET = "task_reset"
    """The task is pending again: it will be executed again."""
    TASK_COMPLETED = "task_completed"
    """The task has ended. `result` is what its executor returned."""
    TASK_FAILED = "task_failed"
    """The task has ended. `error` says why."""
    TASK_CANCELLED = "task_cancelled"
    """The task has ended because its cancellation was requested."""
    TASK_SKIPPED = "task_skipped"
    """The task has ended without a start: `error` says why, `result.reason` for programs."""
    TASK_MARKED = "task_marked"
    """A user has marked the task as completed: `data.by` says who, `data.from` is its former status."""
    BUDGET_WARNING = "budget_warning"
    """A share of a limit of the task's budget is spent: `data` has `amount`, `limit` and `charged`."""
    BUDGET_EXCEEDED = "budget_exceeded"
    """A call of a model waits for the budget of the task: `data` has `amount`, `limits` and `charged`."""
    APPROVAL_REQUESTED = "approval_requested"
    """Asks: `data` has `question`, `data`, `form`, `approvers`, `asked_at`, `deadline` and `on_timeout`."""
    APPROVAL_DECIDED = "approval_decided"
    """Its approval is decided: `data` has `approved`, `by`, `at`, `reason`, `answers` and `timed_out`."""
    TREE_COMPLETED = "tree_completed"
    """The run has ended, and every failure in it is tolerated."""
    TREE_FAILED = "tree_failed"
    """The run has ended, and a failure in it is not tolerated."""
    TREE_CANCELLED = "tree_cancelled"
    """The run has ended because its cancellation was requested."""


LIVE = frozenset({EventType.PROGRESS, EventType.LOG})
FINAL = frozenset({EventType.TREE_COMPLETED, EventType.TREE_FAILED, EventType.TREE_CANCELLED})


@dataclass(slots=True, kw_only=True)
class TaskEvent:
    """One thing that happened. Not to be changed once published."""

    type: EventType
    """What happened."""
    task_id: str
    """The task that it happened to. For events of the tree, its root."""
    root_task_id: str
    """The root of the tree."""
    timestamp: datetime
    """When it happened, in UTC."""
    status: TaskStatus | None = None
    """The status of the task after it, if the event is about the status."""
    progress: float | None = None
    """The progress of the task, or of the tree for events of the tree, from 0.0 to 1.0."""
    message: str | None = None
    """Text for people."""
    data: Json = None
    """Details, by the type of the event."""
    result: Json = None
    """The result of a task that has completed."""
    error: str | None = None
    """Why a task failed, or why its attempt did."""
    sequence: int = 0
    """Counts per tree from 1, given by the store in the transaction that stores the event."""
    key: str = ""
    """The key of the task, see `Task.key`; by default its id."""

    def __post_init__(self) -> None:
        if not self.key:
            self.key = self.task_id

    def to_dict(self) -> dict[str, Json]:
        """Return the event as plain JSON, every field present; `final` only where a run of the tree ends."""
        shown = {name: to_json(getattr(self, name)) for name in self.__slots__}
        return shown | {"final": True} if self.type in FINAL else shown
