"""Large values: JSON of tasks and pages of events that are stored outside their rows.

A checkpoint rewrites every column of a row group in which a row was added or changed, and a read of one row
may load the values of its neighbors. A value longer than `MAX_INLINE` is therefore split into rows of
`apflow_values`, and its column holds a reference. That table has no index, so a checkpoint only appends to
it. The numbers ascend, so a lookup reads only the row groups that hold them.

Values that an earlier version has stored in their rows stay there and can still be read.
"""

# ruff: noqa: S608  # only constant names are interpolated; values are parameters

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import duckdb

from apflow.core.errors import StoreError
from apflow.core.model.task import Json, Task
from apflow.core.payload.json_value import loads
from apflow.storage.sql.columnar import Column
from apflow.storage.sql.columns import BASE, EVENTS, TASKS, Kind

VALUES = "apflow_values"
MAX_INLINE = 16_000  # characters
PART = 4000  # characters; DuckDB stores strings of more than 4,096 bytes in separate blocks
MAX_PARTS = 5000  # of one INSERT: 20 MB
MARK = (
    "~"  # before the number of a value. JSON and pages begin with lower characters, so the minima and maxima
)
# of row groups show which ones have references.
COLUMNS = tuple(column.name for column in BASE if column.kind in (Kind.JSON, Kind.OBJECT, Kind.LIST))

Text = TypeVar("Text", bound=str | None)
Run = Callable[[str, Sequence[Any]], duckdb.DuckDBPyConnection]

_NAMES = frozenset(COLUMNS)
_REFERENCED = f"substr({{}}, {len(MARK) + 1})::BIGINT"
_IS_REFERENCE = f"{{}} >= '{MARK}'"
HAS_REFERENCE = f"coalesce({' OR '.join(_IS_REFERENCE.format(name) for name in COLUMNS)}, FALSE)"
LAST_VALUE = f"SELECT coalesce(max(number), 0) FROM {VALUES}"
_INSERT = (
    f"INSERT INTO {VALUES} (number, part, body) "
    "SELECT unnest($1::BIGINT[]), unnest($2::BIGINT[]), unnest($3::VARCHAR[])"
)
# With the bounds, DuckDB skips row groups before the join.
_READ = (
    f"SELECT number, part, body FROM {VALUES} WHERE number BETWEEN $1 AND $2 "
    "AND number IN (SELECT unnest($3::BIGINT[]))"
)
_DELETE = f"DELETE FROM {VALUES} WHERE number BETWEEN $1 AND $2 AND number IN (SELECT unnest($3::BIGINT[]))"
_OF_EVENTS = (
    f"DELETE FROM {VALUES} WHERE number IN (SELECT {_REFERENCED.format('body')} FROM {EVENTS} "
    f"WHERE {_IS_REFERENCE.format('body')} AND {{}})"
)
DELETE_OF_TREES = _OF_EVENTS.format("root_id IN (SELECT unnest($1::VARCHAR[]))")
DELETE_OF_OLD_EVENTS = _OF_EVENTS.format("stored_at < $1")


class Reference(NamedTuple):
    """A reference in a column to a large value."""

    number: int


class ValueMissingError(StoreError):
    """A value that a row refers to does not exist: the row has changed since it was read."""


class ValueWriter:
    """Numbers the large values of one batch and inserts them together."""

    def __init__(self, last_number: int) -> None:
        self.last_number = last_number
        self._parts: list[tuple[int, int, str]] = []

    def column(self, column: Column) -> Column:
        """Return a column of a statement with references instead of its large values."""
        if column.slot.name not in _NAMES:
            return column
        if column.slot.is_same:  # all rows share one value
            return Column(column.slot, None if column.value is None else self.inline(column.value))
        return Column(column.slot, [None if each is None else self.inline(each) for each in column.value])

    def inline(self, text: str) -> str:
        """Return the value to store in the row: the given value, or a reference to it."""
        if len(text) <= MAX_INLINE:
            return text
        self.last_number += 1
        starts = range(0, len(text), PART)
        self._parts += ((self.last_number, at, text[at : at + PART]) for at in starts)
        return f"{MARK}{self.last_number}"

    def insert(self, run: Run) -> None:
        """Insert the values."""
        for start in range(0, len(self._parts), MAX_PARTS):
            rows = self._parts[start : start + MAX_PARTS]
            run(_INSERT, [list(column) for column in zip(*rows, strict=True)])
        self.clear()

    def clear(self) -> None:
        """Discard the values that are not inserted yet."""
        self._parts.clear()


class JsonReader:
    """Decodes the JSON of a column and collects references."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __call__(self, text: str) -> Json:
        if not text.startswith(MARK):
            return loads(text)
        reference = _reference(text)
        self.numbers.append(reference.number)
        return reference

    def resolve(self, tasks: Sequence[Task], run: Run) -> None:
        """Replace references in the fields of tasks by their values.

        Raises:
            ValueMissingError: a row has changed since it was read.
        """
        if not self.numbers:
            return
        texts = read_values(self.numbers, run)
        for task in tasks:
            for name in COLUMNS:
                value = getattr(task, name)
                if isinstance(value, Reference):
                    setattr(task, name, loads(texts[value.number]))


def full_texts(texts: Sequence[Text], run: Run) -> list[Text | str]:
    """Return the contents of columns, with references replaced by their values.

    Raises:
        ValueMissingError: a row has changed since it was read.
    """
    numbers = [_reference(text).number for text in texts if text is not None and text.startswith(MARK)]
    if not numbers:
        return list(texts)
    found = read_values(numbers, run)
    return [
        found[_reference(text).number] if text is not None and text.startswith(MARK) else text
        for text in texts
    ]


def read_values(numbers: Sequence[int], run: Run) -> Mapping[int, str]:
    """Return the values with these numbers.

    Raises:
        ValueMissingError: a value does not exist.
    """
    wanted = set(numbers)
    parts: dict[int, dict[int, str]] = {number: {} for number in wanted}
    for number, part, body in run(_READ, [min(wanted), max(wanted), list(wanted)]).fetchall():
        parts[number][part] = body
    missing = [number for number, found in parts.items() if not found]
    if missing:
        raise ValueMissingError(f"The database refers to values that it does not have: {missing[:5]}.")
    return {number: "".join(found[at] for at in sorted(found)) for number, found in parts.items()}


def referenced(names: Sequence[str], row_numbers: Sequence[int], run: Run) -> set[int]:
    """Return the numbers of the values that these columns of the rows refer to."""
    columns = [name for name in names if name in _NAMES]
    if not columns or not row_numbers:
        return set()
    return set(_numbers(columns, "row_number IN (SELECT unnest($1::BIGINT[]))", list(row_numbers), run))


def delete_unreferenced(numbers: set[int], run: Run) -> None:
    """Delete the values that no task refers to. Tasks that were added together may share a value."""
    if not numbers:
        return
    texts = [f"{MARK}{number}" for number in numbers]
    shared: set[int] = set()
    for name in COLUMNS:
        shared.update(_numbers([name], f"{name} IN (SELECT unnest($1::VARCHAR[]))", texts, run))
    rest = list(numbers - shared)
    if rest:
        run(_DELETE, [min(rest), max(rest), rest])


def _numbers(names: Sequence[str], where: str, parameter: list[Any], run: Run) -> Iterator[int]:
    for name in names:
        text = (
            f"SELECT DISTINCT {_REFERENCED.format(name)} FROM {TASKS} "
            f"WHERE {_IS_REFERENCE.format(name)} AND {where}"
        )
        yield from (row[0] for row in run(text, [parameter]).fetchall())


def _reference(text: str) -> Reference:
    return Reference(int(text.removeprefix(MARK)))
