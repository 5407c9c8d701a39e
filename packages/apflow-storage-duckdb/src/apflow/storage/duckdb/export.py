"""Reads a whole DuckDB database for an export: table by table, as of one moment, with bounded memory."""

# ruff: noqa: S608  # only names of known tables and columns are interpolated; values are parameters

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import duckdb

from apflow.core.model.task import utc_now
from apflow.core.store.transfer import CustomColumn, ExportWriter, Row, RowType
from apflow.storage.duckdb.database import Database
from apflow.storage.duckdb.large_values import COLUMNS, MARK, PART, VALUES, Run, full_texts
from apflow.storage.duckdb.statements import POSITIONS, SEQUENCES
from apflow.storage.sql.columns import BASE, TASKS
from apflow.storage.sql.transfer import NEXT_POSITION, TransferTable, transfer_tables
from apflow.storage.sql.transfer_fields import custom_field

ROWS: Final = 1000  # that are read at once
MAX_BYTES: Final = 8 << 20  # of large values that are read at once
_OWN: Final = frozenset({"row_number", *(each.name for each in BASE)})
_REFERRING: Final = {RowType.TASK: COLUMNS, RowType.EVENTS: ("body",)}  # the columns that hold references
_SIZES: Final = (
    f"SELECT number, count(*) FROM {VALUES} WHERE number BETWEEN $1 AND $2 "
    "AND number IN (SELECT unnest($3::BIGINT[])) GROUP BY number"
)


def export_database(database: Database, writer: ExportWriter) -> None:
    """Write everything that a database contains, in one transaction.

    Raises:
        InvalidInputError: a custom column has a type that exports do not support.
        OSError: the file of the export cannot be written.
        StoreError: the database cannot be read.
    """
    with database.cursor() as cursor:
        try:
            cursor.begin()  # fixes the snapshot
            _export(partial(database.execute, cursor), writer)
            cursor.rollback()
        except duckdb.Error as error:  # not repeated: something is written already
            raise database.failed(error, "cannot be read") from error
    database.trim()


def _export(run: Run, writer: ExportWriter) -> None:
    columns = custom_columns(run)
    tables = transfer_tables(columns)
    writer.begin([CustomColumn(each.name, custom_field(each).sql_type) for each in columns], utc_now())
    for table in tables.values():
        for lines in _lines(table, run):
            writer.write(table.type, lines)


def custom_columns(run: Run) -> list[CustomColumn]:
    """Return the columns of tasks that a project has added, in the order of the table."""
    found = run(f"SELECT name, type FROM pragma_table_info('{TASKS}') ORDER BY cid", []).fetchall()
    return [CustomColumn(name, sql_type) for name, sql_type in found if name not in _OWN]


def _lines(table: TransferTable, run: Run) -> Iterator[Iterator[Row]]:
    for rows in _pages(table, run):
        counters = _counters(table, rows, run) if table.type is RowType.TASK else {}
        for group in _filled(table, rows, run):
            lines = map(table.line, group)
            yield (line | counters.get(line.get("id"), {}) for line in lines)


def _pages(table: TransferTable, run: Run) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a table in order, those of one range of numbers at a time."""
    number = table.number
    [[first, last]] = run(f"SELECT min({number}), max({number}) FROM {table.name}", []).fetchall()
    if first is None:
        return
    text = f"SELECT {table.selected} FROM {table.name} WHERE {number} BETWEEN $1 AND $2 ORDER BY {number}"
    for start in range(first, last + 1, ROWS):
        rows = run(text, [start, start + ROWS - 1]).fetchall()
        if rows:
            yield rows


def _filled(table: TransferTable, rows: Sequence[tuple[Any, ...]], run: Run) -> Iterator[list[list[Any]]]:
    """Yield rows with references replaced by their values, in groups of limited size."""
    referring = _REFERRING.get(table.type, ())
    places = [at for at, field in enumerate(table.fields) if field.name in referring]
    numbers = {number for row in rows for number in _numbers(row, places)}
    parts = dict(run(_SIZES, [min(numbers), max(numbers), list(numbers)]).fetchall()) if numbers else {}
    group: list[list[Any]] = []
    size = 0
    for row in rows:
        group.append(list(row))
        size += PART * sum(parts.get(number, 0) for number in _numbers(row, places))
        if size >= MAX_BYTES:
            _fill(group, places, run)
            yield group
            group, size = [], 0
    if size:
        _fill(group, places, run)
    yield group


def _numbers(row: Sequence[Any], places: Sequence[int]) -> Iterator[int]:
    for at in places:
        if row[at] is not None and row[at].startswith(MARK):
            yield int(row[at].removeprefix(MARK))


def _fill(group: list[list[Any]], places: Sequence[int], run: Run) -> None:
    for at in places:
        filled = full_texts([row[at] for row in group], run)
        for row, value in zip(group, filled, strict=True):
            row[at] = value


def _counters(table: TransferTable, rows: Sequence[tuple[Any, ...]], run: Run) -> dict[Any, Row]:
    """Return the counters of the trees whose roots are among the rows, by root."""
    names = [field.name for field in table.fields]
    id_at, root_at = names.index("id"), names.index("root_id")
    roots = [row[id_at] for row in rows if row[id_at] == row[root_at]]
    if not roots:
        return {}
    counters: dict[Any, Row] = {}
    for root_id, position, last, _ in run(POSITIONS, [roots]).fetchall():
        counters[root_id] = {NEXT_POSITION.name: position, "last_event": last}
    for root_id, last, _ in run(SEQUENCES, [roots]).fetchall():
        counters[root_id]["last_event"] = max(counters[root_id]["last_event"], last)
    return counters
