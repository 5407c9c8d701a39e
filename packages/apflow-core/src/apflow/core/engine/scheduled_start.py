"""Starting the tree of a schedule for one due time, once.

The ids of the tree follow from the schedule and the due time. A start that is repeated, here or by another
process, therefore finds the tree that the first one created, even if the tasks were replaced in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from apflow.core.authoring.creator import TaskCreator
from apflow.core.engine.schedule_store import tasks_of
from apflow.core.engine.submit import check_room, submit
from apflow.core.errors import AlreadyRunningError, KeyUsedError
from apflow.core.model.ids import ids_of_key
from apflow.core.model.schedule import Schedule
from apflow.core.model.task import Json, Task
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
    tasks = [_filled(each, run) for each in await tasks_of(db, schedule)]
    authors = read_authors(schedule.written_by or ())
    key = _key(schedule, scheduled_at, trigger)
    try:
        node = await TaskCreator(db, authors[0] if authors else None).create_task_tree_from_array(
            tasks, user_id=schedule.user_id, idempotency_key=key
        )
        created = [each.task for each in node.walk()]
    except KeyUsedError:
        created = await _created_before(db, schedule, key)
    root_id = created[0].root_id
    with suppress(AlreadyRunningError):  # by another process, for the same due time
        await submit(db, root_id, known=created, is_first=True)
    return root_id


async def _created_before(db: TaskStore, schedule: Schedule, key: str) -> list[Task]:
    """Return the tree that was created for a due time before the tasks of the schedule were replaced.

    Raises:
        KeyUsedError: they were not, so that the tree is another one.
    """
    first = ids_of_key(key, schedule.user_id, 1)[0]
    found = (await db.get([first])).get(first)
    if not schedule.tree or found is None:
        raise KeyUsedError(key)
    return await db.existing_tree(found.root_id)


def _key(schedule: Schedule, scheduled_at: datetime, trigger: str | None) -> str:
    parts = ("schedule", schedule.id, trigger or scheduled_at.isoformat())
    return ":".join(parts)


def _filled(entry: Mapping[str, Any], run: Mapping[str, Json]) -> dict[str, Any]:
    inputs = entry.get("inputs")
    return {**entry, "inputs": with_run_values(inputs, run)} if inputs else dict(entry)
