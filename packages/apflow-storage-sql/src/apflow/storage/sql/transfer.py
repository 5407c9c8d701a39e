"""What the rows of an export have in common for DuckDB and PostgreSQL: tables, columns and conversions. Pure.

A line of an export is a row of one of these tables, without NULL. Events and log entries, which a row holds
as a page, are objects. Numbers that only order rows, and what follows from other columns, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from apflow.core.errors import InvalidInputError
from apflow.core.model.log import LogEntry
from apflow.core.model.task import Json
from apflow.core.model.usage import TOTALS
from apflow.core.payload.json_value import dumps, loads
from apflow.core.store.transfer import Batch, CustomColumn, ExportReader, Row, RowType
from apflow.storage.sql import attempts
from apflow.storage.sql.columns import (
    ATTEMPTS,
    BASE,
    EVENTS,
    LOGS,
    RECORDS,
    TASKS,
    USAGE,
    Kind,
    quoted,
    type_of_total,
)
from apflow.storage.sql.pages import FIELDS as EVENT_FIELDS
from apflow.storage.sql.pages import packed, unpacked
from apflow.storage.sql.transfer_fields import Field, custom_field, text, time

_NEVER_NULL: Final = frozenset({
    "id", "root_id", "name", "status", "priority", "progress", "has_children", "attempts", "created_at",
    "has_copy", "position", "generation", "interruptions", "last_event", "earlier_attempts",
})  # fmt: skip
_BODY: Final = Field("body", "VARCHAR", is_required=True)
_STORED_AT: Final = Field("stored_at", "TIMESTAMP", Kind.TIME, is_required=True)
_ROOT_ID: Final = Field("root_id", "VARCHAR", is_required=True)
_TASK_ID: Final = Field("task_id", "VARCHAR", is_required=True)
_FIRST: Final = Field("first_sequence", "BIGINT", is_required=True)
_SEQUENCE: Final = Field("sequence", "BIGINT", is_required=True)
_LEVEL: Final = Field("level", "INTEGER", is_required=True)
_MESSAGE: Final = Field("message", "VARCHAR", is_required=True)
# The counter of the positions of a tree, on its root: a column in PostgreSQL, computed in DuckDB.
NEXT_POSITION: Final = Field("next_position", "INTEGER")

TASK_FIELDS: Final = tuple(
    Field(each.name, each.sql_type, each.kind, each.name in _NEVER_NULL) for each in BASE
)


@dataclass(frozen=True)
class TransferTable:
    """A table that exports contain.

    Args:
        order: the columns of an unambiguous order, in PostgreSQL.
        number: the column by whose ranges DuckDB reads the table in parts.
        fields: the columns that are read and written.
        large: those that can hold large values.
        to_line, to_values: convert a row to a line, and a line to the values of `fields`.
    """

    type: RowType
    name: str
    order: str
    number: str
    fields: tuple[Field, ...]
    large: tuple[str, ...]
    to_line: Callable[[Sequence[Field], Sequence[Any]], Row]
    to_values: Callable[[Sequence[Field], Row], list[Any]]

    @property
    def selected(self) -> str:
        """The columns, as they follow SELECT."""
        return ", ".join(quoted(each.name) for each in self.fields)

    def line(self, values: Sequence[Any]) -> Row:
        """Return a row of the table as a line of an export."""
        return self.to_line(self.fields, values)

    def values(self, batch: Batch, reader: ExportReader) -> Iterator[list[Any]]:
        """Yield the rows of the table that the lines of a batch are.

        Raises:
            InvalidInputError: a line is invalid; the message names it.
        """
        for at, line in enumerate(batch.rows):
            try:
                yield self.to_values(self.fields, line)
            except ValueError as error:
                reader.refuse(str(error), batch.first_line + at)


def transfer_tables(
    columns: Sequence[CustomColumn], more: Sequence[Field] = ()
) -> Mapping[RowType, TransferTable]:
    """Return the tables of exports, by the type of their lines.

    Args:
        columns: the custom columns of tasks.
        more: columns of tasks that only one of the databases has.

    Raises:
        InvalidInputError: a custom column has a type that exports do not support, or the name of another one.
    """
    return {each.type: each for each in (_tasks(columns, more), _EVENTS, _ATTEMPTS, _LOGS, _RECORDS, _USAGE)}


def plain_line(fields: Sequence[Field], values: Sequence[Any]) -> Row:
    """Return the columns of a row that are not NULL."""
    found = zip(fields, values, strict=True)
    return {field.name: field.to_json(value) for field, value in found if value is not None}


def plain_values(fields: Sequence[Field], line: Row) -> list[Any]:
    """Return the values of the columns that a line has.

    Raises:
        ValueError: a value is invalid, or the line has fields that are not known.
    """
    check_names(line, [each.name for each in fields])
    return [each.to_sql(line.get(each.name)) for each in fields]


def check_names(line: Row, names: Sequence[str]) -> None:
    """Raise `ValueError` if a line has fields that are not known."""
    unknown = line.keys() - names
    if unknown:
        raise ValueError(
            f"{min(unknown)[:80]!r} is not a field that this version of apflow knows. A later version may "
            "have written the file: upgrade apflow."
        )


def _tasks(columns: Sequence[CustomColumn], more: Sequence[Field]) -> TransferTable:
    names = {each.name for each in (*TASK_FIELDS, NEXT_POSITION)} | {"row_number", "type"}
    for each in columns:
        if each.name in names:
            raise InvalidInputError(
                f"The custom column {each.name!r} has the name of another column. Rename it first."
            )
        names.add(each.name)
    fields = (*TASK_FIELDS, *map(custom_field, columns), *more)
    large = (*(each.name for each in BASE if each.kind in (Kind.JSON, Kind.OBJECT, Kind.LIST)), "error")
    return TransferTable(
        RowType.TASK, TASKS, "row_number", "row_number", fields, large, _task_line, _task_values
    )


def _task_line(fields: Sequence[Field], values: Sequence[Any]) -> Row:
    line = plain_line(fields, values)
    if line["id"] != line["root_id"]:
        line.pop(NEXT_POSITION.name, None)
    return line


def _task_values(fields: Sequence[Field], line: Row) -> list[Any]:
    check_names(line, [*(each.name for each in fields), NEXT_POSITION.name])
    return [each.to_sql(line.get(each.name)) for each in fields]


def _events_line(fields: Sequence[Field], values: Sequence[Any]) -> Row:
    row = dict(zip((each.name for each in fields), values, strict=True))
    events = [
        {name: value for name, value in zip(EVENT_FIELDS, event, strict=False) if value is not None}
        for event in loads(unpacked(row["body"]))
    ]
    return {"root_id": row["root_id"], "stored_at": _STORED_AT.to_json(row["stored_at"]), "events": events}


def _events_values(fields: Sequence[Field], line: Row) -> list[Any]:
    check_names(line, ("root_id", "stored_at", "events"))
    events = [_event(each) for each in _objects(line, "events")]
    row = {
        "root_id": _ROOT_ID.to_sql(line.get("root_id")),
        "first_sequence": events[0][0],
        "last_sequence": events[-1][0],
        "stored_at": _STORED_AT.to_sql(line.get("stored_at")),
        "body": packed(dumps(events)),
    }
    return [row[each.name] for each in fields]


def _event(given: Row) -> list[Json]:
    check_names(given, EVENT_FIELDS)
    _SEQUENCE.to_sql(given.get("sequence"))
    for name in ("type", "task_id"):
        text(Field(name, "VARCHAR"), given.get(name))
    time(Field("timestamp", "TIMESTAMP"), given.get("timestamp"))
    # The key is the last one, and is left out where it is the ID.
    names = EVENT_FIELDS if "key" in given else EVENT_FIELDS[:-1]
    return [given.get(name) for name in names]


def _log_line(fields: Sequence[Field], values: Sequence[Any]) -> Row:
    row = dict(zip((each.name for each in fields), values, strict=True))
    entries = [
        {
            name: value
            for name, value in zip(("time", *LogEntry._fields[1:]), entry, strict=False)
            if value is not None
        }
        for entry in loads(unpacked(row["body"]))
    ]
    plain = {name: row[name] for name in ("root_id", "task_id", "attempt", "generation")}
    return plain | {"stored_at": _STORED_AT.to_json(row["stored_at"]), "entries": entries}


def _log_values(fields: Sequence[Field], line: Row) -> list[Any]:
    check_names(line, ("root_id", "task_id", "attempt", "generation", "stored_at", "entries"))
    entries = [_entry(each) for each in _objects(line, "entries")]
    derived = {"top_level": max(each[1] for each in entries), "body": packed(dumps(entries))}
    return [
        derived[each.name] if each.name in derived else each.to_sql(line.get(each.name)) for each in fields
    ]


def _entry(given: Row) -> list[Json]:
    check_names(given, ("time", *LogEntry._fields[1:]))
    read: datetime = time(Field("time", "TIMESTAMP"), given.get("time"))
    del read  # it is stored as it was written
    level = _LEVEL.to_sql(given.get("level"))
    source = text(Field("source", "VARCHAR"), given.get("source"))
    message = text(_MESSAGE, given.get("message"))
    logger = given.get("logger")
    return [given["time"], level, source, message, None if logger is None else text(_MESSAGE, logger)]


def _objects(line: Row, name: str) -> list[Row]:
    given: Json = line.get(name)
    if not isinstance(given, list) or not given:
        raise ValueError(f"{name!r} must be a list of objects, and not empty.")
    if not all(isinstance(each, dict) for each in cast("list[Json]", given)):
        raise ValueError(f"{name!r} must be a list of objects, and not empty.")
    return cast("list[Row]", given)


_EVENTS: Final = TransferTable(
    RowType.EVENTS,
    EVENTS,
    "root_id, first_sequence",
    "rowid",
    (_ROOT_ID, _FIRST, Field("last_sequence", "BIGINT", is_required=True), _STORED_AT, _BODY),
    ("body",),
    _events_line,
    _events_values,
)
_ATTEMPTS: Final = TransferTable(
    RowType.ATTEMPT,
    ATTEMPTS,
    "task_id, number, ctid",
    "rowid",
    tuple(
        Field(
            each.name,
            each.sql_type,
            Kind.TIME if each.sql_type == "TIMESTAMP" else Kind.PLAIN,
            each.name in ("task_id", "number"),
        )
        for each in attempts.SLOTS
    ),
    ("error", "traceback"),
    plain_line,
    plain_values,
)
_LOGS: Final = TransferTable(
    RowType.LOG,
    LOGS,
    "number",
    "number",
    (
        _ROOT_ID,
        _TASK_ID,
        Field("attempt", "INTEGER", is_required=True),
        Field("generation", "INTEGER", is_required=True),
        Field("top_level", "INTEGER", is_required=True),
        _STORED_AT,
        _BODY,
    ),
    ("body",),
    _log_line,
    _log_values,
)
_RECORDS: Final = TransferTable(
    RowType.RECORD,
    RECORDS,
    "kind, key",
    "rowid",
    (
        Field("kind", "VARCHAR", is_required=True),
        Field("key", "VARCHAR", is_required=True),
        Field("value", "VARCHAR", Kind.JSON, is_required=True),
        Field("version", "BIGINT", is_required=True),
        Field("updated_at", "TIMESTAMP", Kind.TIME, is_required=True),
    ),
    ("value",),
    plain_line,
    plain_values,
)
_USAGE: Final = TransferTable(
    RowType.USAGE,
    USAGE,
    "task_id, model",
    "rowid",
    (
        _TASK_ID,
        Field("model", "VARCHAR", is_required=True),
        _ROOT_ID,
        Field("top_id", "VARCHAR", is_required=True),
        Field("user_id", "VARCHAR"),
        Field("last_at", "TIMESTAMP", Kind.TIME, is_required=True),
        *(Field(name, type_of_total(name), is_required=True) for name in TOTALS),
    ),
    (),
    plain_line,
    plain_values,
)
