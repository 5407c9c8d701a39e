"""The columns of exported rows: their values as JSON, and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn, cast

from apflow.core.errors import InvalidInputError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps, loads, storable
from apflow.core.store.transfer import CustomColumn
from apflow.storage.sql.columns import Kind, naive

_RANGES: Final = {"SMALLINT": 1 << 15, "INTEGER": 1 << 31, "BIGINT": 1 << 63}
MAX_DEPTH: Final = 200  # of the JSON of a column
_STATUSES: Final = frozenset(str(each) for each in TaskStatus)
# Types of custom columns, as either database calls them, and the name that both understand.
_CUSTOM: Final = (
    (re.compile(r"(VARCHAR|TEXT|STRING|CHARACTER VARYING|CHARACTER|CHAR|BPCHAR)(\(\d+\))?"), "VARCHAR"),
    (re.compile(r"SMALLINT|INT2"), "SMALLINT"),
    (re.compile(r"INTEGER|INT|INT4"), "INTEGER"),
    (re.compile(r"BIGINT|INT8"), "BIGINT"),
    (re.compile(r"REAL|FLOAT|FLOAT4"), "REAL"),
    (re.compile(r"DOUBLE|DOUBLE PRECISION|FLOAT8"), "DOUBLE PRECISION"),
    (re.compile(r"BOOLEAN|BOOL"), "BOOLEAN"),
    (re.compile(r"TIMESTAMP|TIMESTAMP WITHOUT TIME ZONE"), "TIMESTAMP"),
    (re.compile(r"DATE"), "DATE"),
)
_DECIMAL = re.compile(r"(?:NUMERIC|DECIMAL)(\(\d+(?:, ?\d+)?\))?")


@dataclass(frozen=True, slots=True)
class Field:
    """A column of an exported table."""

    name: str
    sql_type: str
    kind: Kind = Kind.PLAIN
    is_required: bool = False  # NULL is not a value

    def to_json(self, value: Any) -> Json:
        """Return a value other than NULL as JSON."""
        convert = _TO_JSON.get(self.kind) or _TO_JSON_BY_TYPE.get(self.sql_type.partition("(")[0])
        return value if convert is None else convert(value)

    def to_sql(self, value: Json) -> Any:
        """Return the value that a statement takes for a JSON value; None for null, unless it is required.

        Raises:
            ValueError: the value is of another type.
        """
        if value is None:
            if self.is_required and self.kind is Kind.JSON:
                return "null"
            if self.is_required:
                raise ValueError(f"{self.name!r} is missing.")
            return None
        convert = _TO_SQL.get(self.kind) or _TO_SQL_BY_TYPE[self.sql_type.partition("(")[0]]
        return convert(self, value)


def custom_field(column: CustomColumn) -> Field:
    """Return the field of a custom column, with a type that every database knows.

    Raises:
        InvalidInputError: columns of this type cannot be exported.
    """
    given = column.sql_type.strip().upper()
    decimal = _DECIMAL.fullmatch(given)
    if decimal is not None:
        return Field(column.name, f"NUMERIC{decimal[1] or ''}")
    known = next((name for pattern, name in _CUSTOM if pattern.fullmatch(given)), None)
    if known is None:
        raise InvalidInputError(
            f"The custom column {column.name!r} has the type {column.sql_type[:80]}, which exports do not "
            "support. They support text, integers, floats, decimals, booleans, dates and timestamps."
        )
    return Field(column.name, known, Kind.TIME if known == "TIMESTAMP" else Kind.PLAIN)


def text(field: Field, value: Json) -> str:
    """Return a string that every database can store.

    Raises:
        ValueError: the value is not such a string.
    """
    if not isinstance(value, str):
        _refuse(field, "a string")
    if "\0" in value:
        raise ValueError(f"{field.name!r} contains U+0000, which databases cannot store.")
    return value


def whole(field: Field, value: Json) -> int:
    """Return an integer that the column can store.

    Raises:
        ValueError: the value is not such an integer.
    """
    limit = _RANGES[field.sql_type]
    if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
        _refuse(field, "an integer that the column can store")
    return value


def time(field: Field, value: Json) -> datetime:
    """Return a time as it is stored: in UTC, without a zone.

    Raises:
        ValueError: the value is not a time with a zone, in ISO 8601.
    """
    try:
        read = datetime.fromisoformat(text(field, value))
    except ValueError:
        _refuse(field, "a time in ISO 8601")
    if read.tzinfo is None:
        _refuse(field, "a time with a zone")
    return naive(read)


def _status(field: Field, value: Json) -> str:
    if value not in _STATUSES:
        _refuse(field, f"one of {', '.join(sorted(_STATUSES))}")
    return cast("str", value)


def _boolean(field: Field, value: Json) -> bool:
    if not isinstance(value, bool):
        _refuse(field, "true or false")
    return value


def _float(field: Field, value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(field, "a number")
    return float(value)


def _decimal(field: Field, value: Json) -> Decimal:
    try:
        return Decimal(text(field, value))
    except (InvalidOperation, ValueError):
        _refuse(field, "a decimal number, as a string")


def _date(field: Field, value: Json) -> date:
    try:
        return date.fromisoformat(text(field, value))
    except ValueError:
        _refuse(field, "a date in ISO 8601")


def _json(field: Field, value: Json) -> str:
    encoded = dumps(value).decode()
    if "\\u0000" in encoded and storable(value, max_depth=MAX_DEPTH) != value:
        raise ValueError(f"{field.name!r} contains U+0000, which databases cannot store.")
    return encoded


def _object(field: Field, value: Json) -> str | None:
    if not isinstance(value, dict):
        _refuse(field, "an object")
    return _json(field, value) if value else None


def _list(field: Field, value: Json) -> str | None:
    if not isinstance(value, list):
        _refuse(field, "a list")
    return _json(field, value) if value else None


def _refuse(field: Field, expected: str) -> NoReturn:
    raise ValueError(f"{field.name!r} must be {expected}.")


def _time_text(value: datetime) -> str:
    return value.replace(tzinfo=UTC).isoformat()


_TO_JSON: Final[dict[Kind, Callable[[Any], Json]]] = {
    Kind.TIME: _time_text,
    Kind.JSON: loads,
    Kind.OBJECT: loads,
    Kind.LIST: loads,
}
_TO_JSON_BY_TYPE: Final[dict[str, Callable[[Any], Json]]] = {"NUMERIC": str, "DATE": date.isoformat}
_TO_SQL: Final[dict[Kind, Callable[[Field, Json], Any]]] = {
    Kind.STATUS: _status,
    Kind.TIME: time,
    Kind.JSON: _json,
    Kind.OBJECT: _object,
    Kind.LIST: _list,
}
_TO_SQL_BY_TYPE: Final[dict[str, Callable[[Field, Json], Any]]] = {
    "VARCHAR": text,
    "SMALLINT": whole,
    "INTEGER": whole,
    "BIGINT": whole,
    "BOOLEAN": _boolean,
    "DOUBLE PRECISION": _float,
    "REAL": _float,
    "NUMERIC": _decimal,
    "DATE": _date,
}
