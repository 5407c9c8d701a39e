"""The columns of the table of tasks, as plain data.

The types are those that DuckDB and PostgreSQL both know. Text in them is UTF-8, a time is naive and in UTC,
JSON is text. An empty object or list is NULL, which is short and quick to read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Protocol, cast, runtime_checkable

from apflow.core.model.custom_columns import chosen_task_model_class
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps, loads

TASKS = "apflow_tasks"
EVENTS = "apflow_events"
LOGS = "apflow_logs"
RECORDS = "apflow_records"
ATTEMPTS = "apflow_attempts"
USAGE = "apflow_usage"
SCHEMA = "apflow_schema"

_TERMINAL = ", ".join(f"'{each}'" for each in sorted(TERMINAL))
HAS_ENDED = f"status IN ({_TERMINAL})"  # SQL, of a row of the table of tasks


class Kind(Enum):
    """How the value of a column becomes SQL."""

    PLAIN = "as it is"
    STATUS = "a member of TaskStatus, as text"
    TIME = "an aware datetime, as a naive one in UTC"
    JSON = "JSON, as text"
    OBJECT = "a JSON object; NULL where it is empty"
    LIST = "a JSON list; NULL where it is empty"


@dataclass(frozen=True, slots=True)
class TaskColumn:
    """One column of the table of tasks."""

    name: str
    sql_type: str
    kind: Kind = Kind.PLAIN
    is_custom: bool = False
    default: Json = None  # of a custom column


@runtime_checkable
class ColumnSource(Protocol):
    """A class that adds columns, such as a subclass of `TaskModel`."""

    @classmethod
    def custom_columns(cls) -> tuple[TaskColumn, ...]:
        """Return the columns that it adds."""
        ...


def _text(name: str) -> TaskColumn:
    return TaskColumn(name, "VARCHAR")


def _integer(name: str) -> TaskColumn:
    return TaskColumn(name, "INTEGER")


def _boolean(name: str) -> TaskColumn:
    return TaskColumn(name, "BOOLEAN")


def _time(name: str) -> TaskColumn:
    return TaskColumn(name, "TIMESTAMP", Kind.TIME)


def _json(name: str, kind: Kind) -> TaskColumn:
    return TaskColumn(name, "VARCHAR", kind)


BASE: tuple[TaskColumn, ...] = (
    _text("id"),
    _text("parent_id"),
    _text("root_id"),
    _text("user_id"),
    _text("name"),
    TaskColumn("status", "VARCHAR", Kind.STATUS),
    _integer("priority"),
    _json("dependencies", Kind.LIST),
    _json("inputs", Kind.OBJECT),
    _json("params", Kind.OBJECT),
    _json("schemas", Kind.OBJECT),
    _json("policy", Kind.OBJECT),
    _json("result", Kind.JSON),
    _text("error"),
    TaskColumn("progress", "DOUBLE PRECISION"),
    _boolean("has_children"),
    _integer("attempts"),
    _time("created_at"),
    _time("started_at"),
    _time("updated_at"),
    _time("completed_at"),
    _text("original_task_id"),
    _boolean("has_copy"),
    _text("key"),  # NULL where it is the id
    _integer("position"),
    _text("executor"),
    _integer("generation"),
    _integer("interruptions"),
    _time("not_before"),
    _time("cancel_requested_at"),
    _text("owner"),
    _time("run_requested_at"),
    _json("run_scope", Kind.JSON),
    _text("run_owner"),
    _time("lease_until"),
    _time("run_ended_at"),
    TaskColumn("last_event", "BIGINT"),
    _json("written_by", Kind.JSON),
    _integer("earlier_attempts"),
    _text("spawned_by"),
    _json("child_trees", Kind.JSON),
    _text("label"),
    _json("tags", Kind.LIST),
    _text("cached_from"),
    _text("cache_key"),
    _boolean("run_ignores_cache"),
)


def task_columns() -> tuple[TaskColumn, ...]:
    """Return all columns of tasks: the base ones, then those of the class that the process has chosen."""
    return _columns_of(chosen_task_model_class())


@cache
def _columns_of(model: type | None) -> tuple[TaskColumn, ...]:
    if not isinstance(model, ColumnSource):
        return BASE
    return BASE + model.custom_columns()


def naive(value: datetime) -> datetime:
    """Return a time as it is stored: without a zone, in UTC."""
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.replace(tzinfo=None)


def encoder(kind: Kind) -> Callable[[Json], Json] | None:
    """Return the conversion of values other than None to SQL, or None if none is needed."""
    return _ENCODERS.get(kind)


def encode(kind: Kind, value: Json) -> Json:
    """Return a value as it is stored."""
    to_sql = _ENCODERS.get(kind)
    return value if value is None or to_sql is None else to_sql(value)


def decode(kind: Kind, value: Json) -> Json:
    """Return a stored value as it was given to `encode`."""
    if kind is Kind.OBJECT:
        return loads(value) if value else {}
    if kind is Kind.LIST:
        return loads(value) if value else []
    if value is None:
        return None
    if kind is Kind.TIME:
        return value.replace(tzinfo=UTC)
    return loads(value) if kind is Kind.JSON else value


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return name if name.isidentifier() and name.islower() else '"' + name.replace('"', '""') + '"'


def _to_text(value: Json) -> str:
    return dumps(value).decode()


def _to_text_or_null(value: Json) -> str | None:
    return dumps(value).decode() if value else None


_ENCODERS: dict[Kind, Callable[[Json], Json]] = {
    Kind.STATUS: cast("Callable[[Json], Json]", str),
    Kind.TIME: naive,
    Kind.JSON: _to_text,
    Kind.OBJECT: _to_text_or_null,
    Kind.LIST: _to_text_or_null,
}


def type_of_total(name: str) -> str:
    """Return the SQL type of a sum of the table of usage: one of the fields of `UsageTotals`."""
    return "DOUBLE PRECISION" if name in ("cost_usd", "seconds") else "BIGINT"
