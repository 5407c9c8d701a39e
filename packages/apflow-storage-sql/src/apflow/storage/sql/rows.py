"""Rows of the table of tasks, and the tasks that they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC
from functools import cache
from typing import Any

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.payload.json_value import loads
from apflow.storage.sql.columns import Kind, TaskColumn, quoted, task_columns

ReadJson = Callable[[str], Json]

_STATUS = {str(status): status for status in TaskStatus}
_ORDER = {each.name: at for at, each in enumerate(fields(Task))}  # in which a Task takes its values
_SHARED = frozenset({"root_id", "parent_id", "user_id", "name", "executor", "owner"})  # alike in many rows


class TaskRows:
    """Reads rows of the given columns, selected as `selected` says."""

    def __init__(self, columns: Sequence[TaskColumn]) -> None:
        base = sorted((each for each in columns if not each.is_custom), key=lambda each: _ORDER[each.name])
        custom = [each for each in columns if each.is_custom]
        self._columns = (*base, *custom)
        self._custom = tuple(each.name for each in custom)
        self.selected = ", ".join(quoted(each.name) for each in self._columns)  # what stands after SELECT

    def tasks(self, pages: Iterable[Sequence[Sequence[Any]]], read_json: ReadJson = loads) -> list[Task]:
        """Return the tasks that the rows of some pages are. What many rows have in common is held once.

        Args:
            read_json: decodes the JSON of a column, where a store does that in another way.
        """
        shared: dict[Any, Any] = {}
        return [task for page in pages if page for task in self._page(page, shared, read_json)]

    def _page(
        self, rows: Sequence[Sequence[Any]], shared: dict[Any, Any], read_json: ReadJson
    ) -> Iterator[Task]:
        """Make the tasks of a page, column by column, which is several times as fast as row by row."""
        columns = zip(self._columns, zip(*rows, strict=True), strict=True)
        values = [_read(column, each, shared, read_json) for column, each in columns]
        names, count = self._custom, len(self._columns) - len(self._custom)
        custom = zip(*values[count:], strict=True) if names else [()] * len(rows)
        return map(Task, *values[:count], (dict(zip(names, each, strict=True)) for each in custom))


def _read(
    column: TaskColumn, values: Sequence[Any], shared: dict[Any, Any], read_json: ReadJson
) -> Iterable[Json]:
    """Return the task's value for each value of a column; `shared` has strings and times of earlier rows."""
    match column.kind:
        case Kind.STATUS:
            return [_STATUS[value] for value in values]
        case Kind.TIME:
            for value in set(values):
                if value is not None and value not in shared:
                    shared[value] = value.replace(tzinfo=UTC)
            return map(shared.get, values)
        case Kind.JSON:
            read_json = loads if column.is_custom else read_json
            return [None if value is None else read_json(value) for value in values]
        case Kind.OBJECT:
            return [read_json(value) if value else {} for value in values]
        case Kind.LIST:
            return [read_json(value) if value else [] for value in values]
        case Kind.PLAIN:
            return map(shared.setdefault, values, values) if column.name in _SHARED else values


def task_rows() -> TaskRows:
    """Return the reader of all columns that tasks have now."""
    return _rows(task_columns())


@cache
def _rows(columns: tuple[TaskColumn, ...]) -> TaskRows:
    return TaskRows(columns)
