"""What every store does alike: who loses with whom, which events creation stores, what may be named."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from apflow.core.events import EventType, TaskEvent
from apflow.core.store import Change
from apflow.core.task import Task
from apflow.core.taskmodel import check_columns, check_extra


def check_names(change: Change) -> None:
    """Raise `InvalidInputError` where a change names a field that tasks do not have."""
    for task in change.add:
        if task.extra:
            check_extra(task.extra)
    for move in change.moves:
        check_columns(move.sets)
        check_columns(move.expects)


def repeated(tasks: Sequence[Task]) -> list[str]:
    """Return the ids that stand more than once among these tasks."""
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for task in tasks:
        if task.id in seen:
            twice[task.id] = None
        seen.add(task.id)
    return list(twice)


def created_event(task: Task, timestamp: datetime) -> TaskEvent:
    """Return the event that is stored with an added task."""
    return TaskEvent(
        type=EventType.TASK_CREATED,
        task_id=task.id,
        root_task_id=task.root_id,
        timestamp=timestamp,
        status=task.status,
        progress=task.progress,
        data={"name": task.name, "parent_id": task.parent_id},
    )
