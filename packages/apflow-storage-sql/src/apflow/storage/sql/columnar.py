"""Rows turned into columns, as set-based statements take them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from apflow.core.model.task import Json
from apflow.storage.sql.columns import TaskColumn, encode, encoder
from apflow.storage.sql.ledger import Added

COUNTERS = ("last_event", "next_position")  # of a tree, kept on its root where several processes count


class Slot(NamedTuple):
    """One column of a statement."""

    name: str
    sql_type: str
    is_same: bool  # one value for all rows, instead of a list


class Column(NamedTuple):
    """A slot of a statement and its parameter: one value where all rows have the same, else a list."""

    slot: Slot
    value: Any


def columns_of_sets(sets: Sequence[Mapping[str, Json]], columns: Sequence[TaskColumn]) -> list[Column]:
    """Return what these changes, which set the same columns, write into each column."""
    return [_column(column, [each[column.name] for each in sets]) for column in columns]


def columns_of_added(
    added: Sequence[Added],
    sets: Mapping[str, Mapping[str, Json]],
    columns: Sequence[TaskColumn],
    now: datetime,
) -> list[Column]:
    """Return the columns of rows to be inserted, less those that are NULL in all.

    `sets` are changes of these tasks that come on top, by id.
    """
    changed = {name for each in sets.values() for name in each}
    numbers = _column(TaskColumn("row_number", "BIGINT"), [each.number for each in added])
    found = [numbers]
    for column in columns:
        values = _values(added, column, now)
        if column.name in changed:
            values = [
                sets[each.task.id][column.name] if column.name in sets.get(each.task.id, ()) else value
                for each, value in zip(added, values, strict=True)
            ]
        filled = _column(column, values)
        if filled.value is not None:
            found.append(filled)
    return found


def _values(added: Sequence[Added], column: TaskColumn, now: datetime) -> list[Json]:
    name = column.name
    if name == "position":
        return [each.position for each in added]
    if name in COUNTERS:
        return [0] * len(added)  # a tree is counted from nothing; what it comes to is among the changes
    if name == "key":
        return [None if each.task.key == each.task.id else each.task.key for each in added]
    if name == "created_at":
        return [each.task.created_at or now for each in added]
    if name == "updated_at":
        return [each.task.updated_at or each.task.created_at or now for each in added]
    if column.is_custom:
        return [each.task.extra.get(name, column.default) for each in added]
    return [getattr(each.task, name) for each in added]


def _column(column: TaskColumn, values: list[Json]) -> Column:
    to_sql = encoder(column.kind)
    first = values[0]
    if all(value is first for value in values):  # as the times of one turn of a run are
        return Column(Slot(column.name, column.sql_type, True), encode(column.kind, first))
    if to_sql is not None:
        values = [None if value is None else to_sql(value) for value in values]
    # Compared as they are stored: True equals 1, but their JSON does not.
    is_same = values.count(values[0]) == len(values)
    return Column(Slot(column.name, column.sql_type, is_same), values[0] if is_same else values)
