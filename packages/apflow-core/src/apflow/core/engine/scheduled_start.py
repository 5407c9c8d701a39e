"""Starting the tree of a schedule for one due time, once.

The ids of the tree follow from the schedule and the due time. A start that is repeated, here or by another
process, therefore finds the tree that the first one created.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from apflow.core.authoring.creator import TaskCreator
from apflow.core.engine.schedule_store import tasks_of
from apflow.core.engine.submit import check_room, submit
from apflow.core.errors import AlreadyRunningError
from apflow.core.model.schedule import Schedule
from apflow.core.model.task import Json
from apflow.core.payload.inputs import with_run_values
from apflow.core.permissions.origin import read_authors
from apflow.core.store.base import TaskStore


async def start_tree(
    db: TaskStore, schedule: Schedule, scheduled_at: datetime, *, trigger: str | None = None
) -> str:
    """Create the tree of a due time and request its run; return the id of its root.

    Args:
        trigger: identifies a start by hand, which is none of the due times.

    Raises:
        ScheduleNotFoundError: the schedule was deleted.
        LimitExceededError: too many runs are waiting or in progress; nothing is created.
        InvalidInputError: the tasks are not a valid tree any more, by the settings of this process.
    """
    await check_room(db, schedule.user_id)
    run: dict[str, Json] = {"scheduled_at": scheduled_at.isoformat()}
    tasks = [_filled(each, run) for each in await tasks_of(db, schedule.id)]
    authors = read_authors(schedule.written_by or ())
    node = await TaskCreator(db, authors[0] if authors else None).create_task_tree_from_array(
        tasks, user_id=schedule.user_id, idempotency_key=_key(schedule, scheduled_at, trigger)
    )
    with suppress(AlreadyRunningError):  # by another process, for the same due time
        await submit(db, node.task.id, known=[each.task for each in node.walk()], is_first=True)
    return node.task.id


def _key(schedule: Schedule, scheduled_at: datetime, trigger: str | None) -> str:
    parts = ("schedule", schedule.id, trigger or scheduled_at.isoformat())
    return ":".join(parts)


def _filled(entry: Mapping[str, Any], run: Mapping[str, Json]) -> dict[str, Any]:
    inputs = entry.get("inputs")
    return {**entry, "inputs": with_run_values(inputs, run)} if inputs else dict(entry)
