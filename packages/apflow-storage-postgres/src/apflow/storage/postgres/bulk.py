"""Reads and writes a whole PostgreSQL database, for exports and imports, with bounded memory."""

# ruff: noqa: S608  # only names of known tables and columns are interpolated; values are parameters

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import utc_now
from apflow.core.store.transfer import Batch, CustomColumn, ExportReader, ExportWriter, RowType
from apflow.storage.postgres.driver import Connection
from apflow.storage.postgres.schema import add_columns
from apflow.storage.sql.columns import BASE, TASKS, TaskColumn, quoted
from apflow.storage.sql.transfer import NEXT_POSITION, TransferTable, transfer_tables
from apflow.storage.sql.transfer_conflicts import (
    IDS_TAKEN,
    RECORDS_TAKEN,
    check_ids,
    check_records,
    exists,
)
from apflow.storage.sql.transfer_fields import custom_field

ROWS: Final = 1000  # that are read at once
MAX_BYTES: Final = 8 << 20  # that are read at once, unless one row is larger
BULK_SECONDS: Final = 86_400.0  # that one statement may take
SIZES: Final = 10_000  # sizes of rows that are read at once
_OWN: Final = frozenset({"row_number", NEXT_POSITION.name, *(each.name for each in BASE)})
_COLUMNS: Final = (
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
    f"WHERE attrelid = '{TASKS}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
_LOG_NUMBERS: Final = "SELECT nextval('apflow_log_numbers') FROM generate_series(1, $1)"
_NO_LIMITS: Final = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"


async def export_database(connection: Connection, writer: ExportWriter) -> None:
    """Write everything that a database contains, as of one moment.

    Raises:
        InvalidInputError: a custom column has a type that exports do not support.
        OSError: the file of the export cannot be written.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(_NO_LIMITS)
        found = await connection.fetch(_COLUMNS)
        columns = [CustomColumn(name, sql_type) for name, sql_type in found if name not in _OWN]
        tables = transfer_tables(columns, more=[NEXT_POSITION])
        writer.begin([CustomColumn(each.name, custom_field(each).sql_type) for each in columns], utc_now())
        for table in tables.values():
            async for rows in _pages(connection, table):
                writer.write(table.type, (table.line(row) for row in rows))


async def load(connection: Connection, reader: ExportReader, url: str) -> None:
    """Insert all rows of an export, in one transaction.

    Raises:
        InvalidInputError: the export is invalid or incomplete.
        ConflictError: a task or a record of the export exists.
    """
    tables = transfer_tables(reader.columns, more=[NEXT_POSITION])
    await add_columns(connection, [_column(each) for each in reader.columns])
    async with connection.transaction():
        await connection.execute(_NO_LIMITS)
        for batch in reader.batches():
            async with _explained(batch, url):
                await _load_batch(connection, tables[batch.type], batch, reader, url)


def _column(column: CustomColumn) -> TaskColumn:
    field = custom_field(column)
    return TaskColumn(field.name, field.sql_type, field.kind, is_custom=True)


async def _pages(connection: Connection, table: TransferTable) -> AsyncGenerator[Sequence[Any]]:
    """Yield the rows of a table in order, as many at a time as have a limited size together.

    The sizes are read by another cursor in the same order, which does not read the values.
    """
    sizes_of = (f"coalesce(octet_length({quoted(each)}), 0)::BIGINT" for each in table.large)
    size = " + ".join(sizes_of) or "0::BIGINT"
    ordered = f"FROM {table.name} ORDER BY {table.order}"
    sizes = await connection.cursor(f"SELECT {size} {ordered}", timeout=BULK_SECONDS)
    rows = await connection.cursor(f"SELECT {table.selected} {ordered}", timeout=BULK_SECONDS)
    while found := await sizes.fetch(SIZES, timeout=BULK_SECONDS):
        for count in page_lengths([each[0] for each in found]):
            yield await rows.fetch(count, timeout=BULK_SECONDS)


def page_lengths(sizes: Sequence[int]) -> list[int]:
    """Return how many consecutive rows make up each page, for rows of these sizes in bytes."""
    lengths: list[int] = []
    rows = total = 0
    for size in sizes:
        if rows and (rows == ROWS or total + size > MAX_BYTES):
            lengths.append(rows)
            rows = total = 0
        rows, total = rows + 1, total + size
    return [*lengths, rows] if rows else lengths


async def _load_batch(
    connection: Connection, table: TransferTable, batch: Batch, reader: ExportReader, url: str
) -> None:
    names = [each.name for each in table.fields]
    rows = list(table.values(batch, reader))
    if batch.type is RowType.TASK:
        at = names.index("id")
        check_ids([each[0] for each in await connection.fetch(IDS_TAKEN, [row[at] for row in rows])], url)
        _fill_positions(names, rows)
    elif batch.type is RowType.RECORD:
        taken = await connection.fetch(RECORDS_TAKEN, [row[0] for row in rows], [row[1] for row in rows])
        check_records([f"{kind}/{key}" for kind, key in taken], url)
    elif batch.type is RowType.LOG:
        numbers = await connection.fetch(_LOG_NUMBERS, len(rows))
        names = [*names, "number"]
        rows = [[*row, number] for row, (number,) in zip(rows, numbers, strict=True)]
    await connection.copy_records_to_table(table.name, records=rows, columns=names, timeout=BULK_SECONDS)


def _fill_positions(names: Sequence[str], rows: Sequence[list[Any]]) -> None:
    """Set the counter of the tasks below roots, where the column does not allow NULL."""
    at = names.index(NEXT_POSITION.name)
    for row in rows:
        if row[at] is None:
            row[at] = 0


@asynccontextmanager
async def _explained(batch: Batch, url: str) -> AsyncGenerator[None]:
    """Turn errors about the data of a batch into those of the import."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise exists(url, f"rows of the type {str(batch.type)!r}") from error
    except asyncpg.DataError as error:
        last = batch.first_line + len(batch.rows) - 1
        raise InvalidInputError(
            f"Lines {batch.first_line} to {last} of the export cannot be imported: {error}. Nothing was "
            "imported."
        ) from error
