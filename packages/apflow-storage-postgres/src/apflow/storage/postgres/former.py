"""Reading the tasks of the system before apflow from PostgreSQL, in a read-only transaction."""

from __future__ import annotations

from typing import Any

import asyncpg

from apflow.core.errors import InvalidInputError, StoreError
from apflow.storage.postgres.address import read_address
from apflow.storage.postgres.failure import explain

PLAIN = ("text", "character varying", "integer", "bigint", "smallint", "real", "double precision", "boolean")


async def read_former(url: str, table: str = "apflow_tasks") -> list[dict[str, Any]]:
    """Return the rows of the table of tasks, by column.

    Raises:
        InvalidInputError: the URL cannot be read, there is no such table, or the database is one of apflow.
        StoreError: the server cannot be reached, or denies access to the table.
    """
    address = read_address(url)
    try:
        connection = await asyncpg.connect(address.dsn, timeout=address.connect_timeout)
        try:
            async with connection.transaction(readonly=True):
                return await _rows(connection, address.url, table)
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise StoreError(f"{address.url} cannot be read: {explain(error, address.url)}") from error


async def _rows(connection: Any, url: str, table: str) -> list[dict[str, Any]]:
    columns = {row[0]: row[1] for row in await connection.fetch(_COLUMNS, table)}
    if {"run_requested_at", "generation"} <= columns.keys():
        raise InvalidInputError(f"{url} is a database of apflow itself: use it as APFLOW_DATABASE_URL.")
    if not columns:
        raise InvalidInputError(f"{url} has no table {table!r}. Name it with --table.")
    selected = ", ".join(
        _quote(name) if kind in PLAIN else f"{_quote(name)}::TEXT AS {_quote(name)}"
        for name, kind in columns.items()
    )
    rows = await connection.fetch(f"SELECT {selected} FROM {_quote(table)}")  # noqa: S608
    return [dict(row) for row in rows]


def _quote(name: str) -> str:
    quoted = name.replace('"', '""')
    return f'"{quoted}"'


_COLUMNS = (
    "SELECT attname, atttypid::regtype::TEXT FROM pg_attribute "
    "WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
