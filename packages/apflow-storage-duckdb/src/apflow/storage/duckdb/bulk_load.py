"""Writes an export into a DuckDB database, inside of the transaction of the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import duckdb

from apflow.core.store.transfer import Batch, ExportReader, RowType
from apflow.storage.duckdb import statements
from apflow.storage.duckdb.export import custom_columns
from apflow.storage.duckdb.large_values import Run, ValueWriter
from apflow.storage.sql.columnar import Column, Slot
from apflow.storage.sql.columns import TASKS
from apflow.storage.sql.transfer import TransferTable, transfer_tables
from apflow.storage.sql.transfer_conflicts import (
    RECORDS_TAKEN,
    SHOWN,
    check_ids,
    check_records,
    exists,
)
from apflow.storage.sql.transfer_fields import custom_field

_LOG_NUMBERS: Final = "SELECT nextval('apflow_log_numbers') FROM range($1)"


class Target(NamedTuple):
    """What the writer lends to an import."""

    url: str
    run: Run
    values: ValueWriter
    trim: Callable[[], object]


def add_custom_columns(run: Run, reader: ExportReader) -> None:
    """Add the custom columns of an export that the table of tasks does not have."""
    there = {each.name for each in custom_columns(run)}
    for column in reader.columns:
        field = custom_field(column)  # checks the type
        if column.name not in there:
            run(statements.add_column(column.name, field.sql_type), [])


def load(target: Target, reader: ExportReader, last_number: int) -> None:
    """Insert all rows of an export.

    Args:
        last_number: the highest number of a row in the table of tasks.

    Raises:
        InvalidInputError: the export is invalid or incomplete.
        ConflictError: a task or a record of the export exists.
    """
    tables = transfer_tables(reader.columns)
    for batch in reader.batches():
        table = tables[batch.type]
        rows = list(table.values(batch, reader))
        columns = dict(zip((each.name for each in table.fields), zip(*rows, strict=True), strict=True))
        _check_absence(target, batch, columns)
        try:
            _insert(target, table, columns, last_number + 1)
        except duckdb.ConstraintException as error:
            raise exists(target.url, f"rows of the type {str(batch.type)!r}") from error
        if batch.type is RowType.TASK:
            last_number += len(rows)
        target.trim()


def _check_absence(target: Target, batch: Batch, columns: Mapping[str, Sequence[Any]]) -> None:
    if batch.type is RowType.TASK:
        ids = list(columns["id"])
        text = f"SELECT id FROM {TASKS} WHERE {statements.among('id', '$1', len(ids))} LIMIT {SHOWN + 1}"  # noqa: S608
        taken = target.run(text, [ids]).fetchall()
        check_ids([each[0] for each in taken], target.url)
    elif batch.type is RowType.RECORD:
        taken = target.run(RECORDS_TAKEN, [list(columns["kind"]), list(columns["key"])]).fetchall()
        check_records([f"{kind}/{key}" for kind, key in taken], target.url)


def _insert(
    target: Target, table: TransferTable, columns: Mapping[str, Sequence[Any]], first_number: int
) -> None:
    """Insert the rows of one batch. Columns that are NULL in all rows are left out."""
    filled = [
        _column(target.values, table.type, field.name, field.sql_type, columns[field.name])
        for field in table.fields
        if any(value is not None for value in columns[field.name])
    ]
    count = len(filled[0].value)
    if table.type is RowType.TASK:
        filled.append(_numbers("row_number", range(first_number, first_number + count)))
    elif table.type is RowType.LOG:
        filled.append(_numbers("number", [each[0] for each in target.run(_LOG_NUMBERS, [count]).fetchall()]))
    text = statements.insert(tuple(column.slot for column in filled), table.name)
    target.run(text, [column.value for column in filled])
    target.values.insert(target.run)


def _column(values: ValueWriter, kind: RowType, name: str, sql_type: str, rows: Sequence[Any]) -> Column:
    """Return a column of a statement, with references instead of large values."""
    column = Column(Slot(name, sql_type, is_same=False), list(rows))
    if kind is RowType.TASK:
        return values.column(column)
    if kind is RowType.EVENTS and name == "body":
        return Column(column.slot, [values.inline(each) for each in column.value])
    return column


def _numbers(name: str, numbers: Iterable[int]) -> Column:
    return Column(Slot(name, "BIGINT", is_same=False), list(numbers))
