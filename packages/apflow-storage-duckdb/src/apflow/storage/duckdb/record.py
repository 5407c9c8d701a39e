"""Batches as bytes: the records of the journal.

A record is JSON. Of an added task, it has the fields that differ from a new `Task`. Every record can be
applied: a batch that the database could refuse, or that has custom columns, whose values may be of any type,
cannot be encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

import orjson

from apflow.core.model.attempt import AttemptOutcome, TaskAttempt
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.storage.duckdb.batch import Batch, StoredRow
from apflow.storage.sql.columns import BASE, Kind, TaskColumn
from apflow.storage.sql.ledger import Added

_INTEGERS: Final = {"INTEGER": 31, "BIGINT": 63}  # bits besides the sign
_REQUIRED: Final = frozenset(
    ("id", "root_id", "name", "status", "priority", "progress", "has_children", "attempts", "created_at",
     "has_copy", "position", "generation", "interruptions", "last_event")
)  # fmt: skip
_TIMES: Final = frozenset(column.name for column in BASE if column.kind is Kind.TIME)
_STORED: Final = tuple(each for each in fields(Task) if each.name != "extra")
_NAMES: Final = tuple(each.name for each in _STORED)
_DEFAULTS: Final = tuple(
    each.default_factory() if each.default_factory is not MISSING else each.default for each in _STORED
)
_values_of = attrgetter(*_NAMES)
_ATTEMPT: Final = tuple(each.name for each in fields(TaskAttempt))
_attempt_of = attrgetter(*_ATTEMPT)


def encoded(batch: Batch) -> bytes | None:
    """Return a batch as a record; None if it has values that a record cannot keep."""
    if not all(map(_are_storable, batch.sets.values())):
        return None
    added = [(_task_fields(each.task, batch.now), each) for each in batch.added.values()]
    if any(each.task.extra or not _are_storable(values) for values, each in added):
        return None
    try:
        return orjson.dumps(
            {
                "now": batch.now,
                "added": [(values, each.number, each.position, each.sequence) for values, each in added],
                "sets": batch.sets,
                "rows": {task_id: tuple(row) for task_id, row in batch.rows.items()},
                "removed": batch.removed,
                "ended": batch.ended,
                "reduced": list(batch.reduced),
                "events": {
                    root_id: [tuple(each) for part in parts for each in part]
                    for root_id, parts in batch.events.items()
                },
                "attempts": {
                    task_id: [_attempt_of(each) for each in attempts]
                    for task_id, attempts in batch.attempts.items()
                },
            }
        )
    except TypeError:  # such as a lone surrogate: the database says what it does not store
        return None


def decoded(record: bytes, number: int = 0) -> Batch:
    """Return the batch of a record with its number."""
    found = orjson.loads(record)
    now = datetime.fromisoformat(found["now"])
    batch = Batch(now, number)
    for values, number, position, sequence in found["added"]:
        task = Task(**_with_types(values))
        batch.added[task.id] = Added(task, number, position, sequence)
    batch.sets = {task_id: _with_types(sets) for task_id, sets in found["sets"].items()}
    batch.rows = {task_id: StoredRow(*row) for task_id, row in found["rows"].items()}
    batch.removed, batch.ended, batch.reduced = found["removed"], found["ended"], set(found["reduced"])
    for root_id, events in found["events"].items():
        batch.events[root_id] = [events]
        batch.last_events[root_id] = events[-1][0]
        batch.stored_at[root_id] = now.replace(tzinfo=None)
    batch.attempts = {
        task_id: [_attempt(values) for values in attempts] for task_id, attempts in found["attempts"].items()
    }
    return batch


def _are_storable(values: Mapping[str, Json]) -> bool:
    """Return whether columns of a task take these values."""
    for name, value in values.items():
        if value is None:
            if name in _REQUIRED:
                return False
        elif name not in _CHECKS or not _CHECKS[name](value):
            return False
    return True


def _check_of(column: TaskColumn) -> Callable[[Any], bool]:
    """Return a function that says whether a column takes a value other than None."""
    if column.kind is Kind.TIME:
        return lambda value: type(value) is datetime and value.tzinfo is not None
    if column.kind in (Kind.JSON, Kind.OBJECT, Kind.LIST):
        return lambda _: True
    if column.sql_type in _INTEGERS:
        limit = 1 << _INTEGERS[column.sql_type]
        return lambda value: type(value) is int and -limit <= value < limit
    if column.sql_type == "BOOLEAN":
        return lambda value: type(value) is bool
    if column.sql_type == "VARCHAR":
        return lambda value: isinstance(value, str)
    return lambda value: type(value) in (float, int)


_CHECKS: Final = {column.name: _check_of(column) for column in BASE}


def _task_fields(task: Task, now: datetime) -> dict[str, Json]:
    values = {
        name: value
        for name, value, default in zip(_NAMES, _values_of(task), _DEFAULTS, strict=True)
        if value != default
    }
    values.setdefault("created_at", now)
    values.setdefault("updated_at", values["created_at"])
    return values


def _with_types(values: Mapping[str, Json]) -> dict[str, Any]:
    """Return the values of columns with times and states instead of texts."""
    typed = dict(values)
    for name in _TIMES.intersection(typed):
        if typed[name] is not None:
            typed[name] = datetime.fromisoformat(typed[name])
    if "status" in typed:
        typed["status"] = TaskStatus(typed["status"])
    return typed


def _attempt(values: list[Any]) -> TaskAttempt:
    given = dict(zip(_ATTEMPT, values, strict=True))
    for name in ("started_at", "ended_at"):
        given[name] = given[name] and datetime.fromisoformat(given[name])
    given["outcome"] = given["outcome"] and AttemptOutcome(given["outcome"])
    return TaskAttempt(**given)
