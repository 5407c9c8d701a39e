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
    TASK_CREATED = "task_created"
    TASK_STARTED = "task_started"
    PROGRESS = "progress"
    LOG = "log"
    RETRYING = "retrying"
    TASK_RESET = "task_reset"
    TASK_COMPLETED = "task_completed"
    TASK_FAILED = "task_failed"
    TASK_CANCELLED = "task_cancelled"
    TASK_MARKED = "task_marked"
    BUDGET_WARNING = "budget_warning"
    BUDGET_EXCEEDED = "budget_exceeded"
    TREE_COMPLETED = "tree_completed"
    TREE_FAILED = "tree_failed"
    TREE_CANCELLED = "tree_cancelled"


LIVE = frozenset({EventType.PROGRESS, EventType.LOG})
FINAL = frozenset({EventType.TREE_COMPLETED, EventType.TREE_FAILED, EventType.TREE_CANCELLED})


@dataclass(slots=True, kw_only=True)
class TaskEvent:
    """One thing that happened. Not to be changed once published."""

    type: EventType
    task_id: str
    root_task_id: str
    timestamp: datetime
    status: TaskStatus | None = None
    progress: float | None = None
    message: str | None = None
    data: Json = None
    result: Json = None
    error: str | None = None
    sequence: int = 0  # given by the store in the transaction that stores it; counts per tree from 1
    key: str = ""  # of the task, see `Task.key`; by default its id

    def __post_init__(self) -> None:
        if not self.key:
            self.key = self.task_id

    def to_dict(self) -> dict[str, Json]:
        """Return the event as plain JSON, every field present; `final` only where a run of the tree ends."""
        shown = {name: to_json(getattr(self, name)) for name in self.__slots__}
        return shown | {"final": True} if self.type in FINAL else shown
