"""Rows of the table of tasks, and the tasks that they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from functools import cache
from typing import Any

from apflow.core.jsonvalue import loads
from apflow.core.states import TaskStatus
from apflow.core.task import Json, Task
from apflow.storage.sql.columns import BASE, Kind, TaskColumn, quoted, task_columns

_STATUS = {str(status): status for status in TaskStatus}
SHARED = ("root_id", "parent_id", "user_id", "name", "executor", "owner")  # alike in many rows
_IS_BASE = frozenset(column.name for column in BASE)


class TaskRows:
    """Reads rows that hold the given columns, in their order."""

    def __init__(self, columns: Sequence[TaskColumn]) -> None:
        self._names = tuple(column.name for column in columns)
        self._custom = tuple(name for name in self._names if name not in _IS_BASE)
        self._times = tuple(column.name for column in columns if column.kind is Kind.TIME)
        self._json = tuple(column.name for column in columns if column.kind is Kind.JSON)
        self._objects = tuple(column.name for column in columns if column.kind is Kind.OBJECT)
        self._lists = tuple(column.name for column in columns if column.kind is Kind.LIST)
        self.selected = ", ".join(map(quoted, self._names))  # what stands after SELECT

    def tasks(self, rows: Iterable[Sequence[Any]]) -> list[Task]:
        """Return the tasks that rows are. What many rows have in common is held once."""
        shared: dict[Any, Any] = {}
        return [self.task(row, shared) for row in rows]

    def task(self, row: Sequence[Any], shared: dict[Any, Any]) -> Task:
        """Return the task that a row is; `shared` holds the texts and times of the rows before."""
        fields: dict[str, Json] = dict(zip(self._names, row, strict=True))
        fields["status"] = _STATUS[fields["status"]]
        for name in SHARED:
            if fields[name] is not None:
                fields[name] = shared.setdefault(fields[name], fields[name])
        for name in self._times:
            time = fields[name]
            if time is not None:
                known = shared.get(time)
                fields[name] = known or shared.setdefault(time, time.replace(tzinfo=UTC))
        for name in self._json:
            if fields[name] is not None:
                fields[name] = loads(fields[name])
        for name in self._objects:
            fields[name] = loads(fields[name]) if fields[name] else {}
        for name in self._lists:
            fields[name] = loads(fields[name]) if fields[name] else []
        extra = {name: fields.pop(name) for name in self._custom}
        return Task(**fields, extra=extra)


def task_rows() -> TaskRows:
    """Return the reader of all columns that tasks have now."""
    return _rows(task_columns())


@cache
def _rows(columns: tuple[TaskColumn, ...]) -> TaskRows:
    return TaskRows(columns)
