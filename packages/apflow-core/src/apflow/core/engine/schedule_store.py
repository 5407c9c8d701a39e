"""Schedules as records of a store. The tasks of each are in other records, as parts of JSON text."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, cast

from apflow.core.errors import ConflictError, ScheduleNotFoundError
from apflow.core.model.schedule import KIND, TREE_KIND, Schedule, read_schedule
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps, loads
from apflow.core.store.base import Record, TaskStore

logger = logging.getLogger(__name__)

PART_CHARACTERS = 200_000  # of the tasks in one record, which may have 1 MiB
ATTEMPTS = 50  # to change a schedule while other processes change it


class Stored(NamedTuple):
    """A schedule, and the version of its record."""

    schedule: Schedule
    version: int


async def all_schedules(db: TaskStore) -> list[Stored]:
    """Return all schedules. Records that this version cannot read are left out, with a warning."""
    found: list[Stored] = []
    for record in await db.records(KIND):
        with suppress(KeyError, TypeError, ValueError):
            found.append(_read(record))
            continue
        logger.warning("Schedule %s cannot be read by this version of apflow, and is left out.", record.key)
    return found


async def stored_schedule(db: TaskStore, schedule_id: str) -> Stored:
    """Return one schedule.

    Raises:
        ScheduleNotFoundError: there is none.
    """
    record = await db.record(KIND, schedule_id)
    if record is None:
        raise ScheduleNotFoundError(schedule_id)
    return _read(record)


async def tasks_of(db: TaskStore, schedule: Schedule) -> list[dict[str, Json]]:
    """Return the array of tasks of a schedule; the new one if it was replaced since the schedule was read.

    Raises:
        ScheduleNotFoundError: it was deleted.
    """
    prefix = _prefix(schedule.id, schedule.tree)
    records = await db.records(TREE_KIND, prefix=prefix)
    parts = [each for each in records if "/" not in each.key.removeprefix(prefix)]
    with suppress(ValueError):  # the tasks are being removed
        return cast("list[dict[str, Json]]", loads("".join(each.value for each in parts)))
    present = (await stored_schedule(db, schedule.id)).schedule
    if present.tree == schedule.tree:
        raise ScheduleNotFoundError(schedule.id)  # it is being deleted
    return await tasks_of(db, present)


async def add_schedule(db: TaskStore, schedule: Schedule, tasks: Sequence[Mapping[str, Json]]) -> None:
    """Store a new schedule. Its tasks come first: no process sees a schedule without them."""
    await _add_tasks(db, _prefix(schedule.id, schedule.tree), tasks)
    await db.put_record(KIND, schedule.id, schedule.to_json(), version=0)


async def replace_tasks(
    db: TaskStore,
    schedule_id: str,
    tasks: Sequence[Mapping[str, Json]],
    change: Callable[[Schedule], Schedule],
) -> Schedule:
    """Change a schedule together with its tasks, and return it.

    The new tasks are stored first, and the old ones removed last. So a process that ends in between leaves a
    schedule with the old or with the new tasks.

    Raises:
        ScheduleNotFoundError: there is no such schedule.
        ConflictError: other processes change it all the time.
    """
    name = uuid.uuid4().hex
    replaced: list[str] = []

    def renamed(schedule: Schedule) -> Schedule:
        replaced[:] = [schedule.tree]
        return replace(change(schedule), tree=name)

    await stored_schedule(db, schedule_id)
    await _add_tasks(db, _prefix(schedule_id, name), tasks)
    try:
        changed = await change_schedule(db, schedule_id, renamed)
    except BaseException:
        await _remove_tasks(db, schedule_id, name)
        raise
    await _remove_tasks(db, schedule_id, *replaced)
    return changed


async def _add_tasks(db: TaskStore, prefix: str, tasks: Sequence[Mapping[str, Json]]) -> None:
    text = dumps(list(tasks)).decode()
    for number, begin in enumerate(range(0, len(text), PART_CHARACTERS)):
        part = text[begin : begin + PART_CHARACTERS]
        await db.put_record(TREE_KIND, f"{prefix}{number:06}", part, version=0)


async def _remove_tasks(db: TaskStore, schedule_id: str, tree: str) -> None:
    prefix = _prefix(schedule_id, tree)
    for part in await db.records(TREE_KIND, prefix=prefix):
        if "/" not in part.key.removeprefix(prefix):
            await db.remove_record(TREE_KIND, part.key)


def _prefix(schedule_id: str, tree: str) -> str:
    return f"{schedule_id}/{tree}/" if tree else f"{schedule_id}/"


async def replace_schedule(db: TaskStore, stored: Stored, changed: Schedule) -> Stored | None:
    """Store a changed schedule; None if another writer was first."""
    record = await db.put_record(KIND, changed.id, changed.to_json(), version=stored.version)
    return None if record is None else Stored(changed, record.version)


async def change_schedule(
    db: TaskStore, schedule_id: str, change: Callable[[Schedule], Schedule | None]
) -> Schedule:
    """Change a schedule, whatever other processes do to it meanwhile, and return it.

    Args:
        change: returns the changed schedule, or None for no change. It may be called several times.

    Raises:
        ScheduleNotFoundError: there is none.
        ConflictError: other processes change it all the time.
    """
    for _ in range(ATTEMPTS):
        stored = await stored_schedule(db, schedule_id)
        changed = change(stored.schedule)
        if changed is None or changed == stored.schedule:
            return stored.schedule
        if await replace_schedule(db, stored, changed) is not None:
            return changed
    raise ConflictError(f"Other processes keep changing schedule {schedule_id!r}. Try again.")


async def remove_schedule(db: TaskStore, schedule_id: str) -> bool:
    """Remove a schedule, and return whether it was there. What it has started continues."""
    was_there = await db.remove_record(KIND, schedule_id)
    for part in await db.records(TREE_KIND, prefix=f"{schedule_id}/"):
        await db.remove_record(TREE_KIND, part.key)
    return was_there


def _read(record: Record) -> Stored:
    return Stored(read_schedule(record.value), record.version)
