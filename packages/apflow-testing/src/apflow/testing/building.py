"""Small builders for tasks, moves and events, as the contract suites use them."""

from __future__ import annotations

from typing import Any

from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.store.base import Transition


def a_task(task_id: str, root_id: str | None = None, **fields: Any) -> Task:
    """Return a task of that id, named like it; a root where no root is named."""
    root = root_id or task_id
    parent = None if root == task_id else root
    given: dict[str, Any] = {"id": task_id, "name": task_id, "root_id": root, "parent_id": parent, **fields}
    return Task(**given)


def a_tree(root_id: str, *children: str) -> list[Task]:
    """Return a root and its children."""
    return [a_task(root_id), *(a_task(child, root_id) for child in children)]


def an_event(
    task_id: str, root_id: str, kind: EventType = EventType.TASK_STARTED, **fields: Any
) -> TaskEvent:
    """Return an event about a task, not numbered yet."""
    return TaskEvent(type=kind, task_id=task_id, root_task_id=root_id, timestamp=utc_now(), **fields)


def a_move(
    task: Task | str,
    old: TaskStatus | str,
    new: TaskStatus | str,
    *,
    root_id: str | None = None,
    expects: dict[str, Json] | None = None,
    sets: dict[str, Json] | None = None,
) -> Transition:
    """Return a move between two states, with one event; of the tree `r` where only an id is given."""
    task_id, root = (task, root_id or "r") if isinstance(task, str) else (task.id, task.root_id)
    return Transition(
        task_id,
        root,
        {"status": TaskStatus(old), **(expects or {})},
        {"status": TaskStatus(new), **(sets or {})},
        (an_event(task_id, root, status=TaskStatus(new)),),
    )
