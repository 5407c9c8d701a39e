"""Reads a DuckDB file of the predecessor of apflow. The file is opened read-only and never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from apflow.core.errors import InvalidInputError, StoreError

PLAIN = ("VARCHAR", "INTEGER", "BIGINT", "SMALLINT", "FLOAT", "DOUBLE", "BOOLEAN")


def read_former(path: Path, table: str = "apflow_tasks") -> list[dict[str, Any]]:
    """Return the rows of the table of tasks as dicts.

    Raises:
        InvalidInputError: there is no such file or table, or the file is a database of apflow.
        StoreError: the file cannot be read.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path} does not exist, or is not a file. Name the old DuckDB file.")
    try:
        with duckdb.connect(str(path), read_only=True, config=_CONFIG) as connection:
            names = [row[0] for row in connection.execute(_TABLES).fetchall()]
            if "apflow_schema" in names:
                raise InvalidInputError(
                    f"{path} is a database of apflow itself: use it as APFLOW_DATABASE_URL."
                )
            if table not in names:
                shown = ", ".join(sorted(names)) or "no tables"
                raise InvalidInputError(
                    f"{path} has no table {table!r}. It has: {shown}. Name it with --table."
                )
            columns = dict(connection.execute(_COLUMNS, [table]).fetchall())
            # Converting times with a zone requires an optional library, so such columns are read as text.
            selected = ", ".join(
                _quote(name) if kind in PLAIN else f"CAST({_quote(name)} AS VARCHAR)"
                for name, kind in columns.items()
            )
            rows = connection.execute(f"SELECT {selected} FROM {_quote(table)}").fetchall()  # noqa: S608
    except duckdb.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _quote(name: str) -> str:
    quoted = name.replace('"', '""')
    return f'"{quoted}"'


# Views in the file cannot read other files or load extensions.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoload_known_extensions": False,
    "enable_external_access": False,
}
_TABLES = "SELECT table_name FROM information_schema.tables"
_COLUMNS = (
    "SELECT column_name, data_type FROM information_schema.columns "
    "WHERE table_name = $1 ORDER BY ordinal_position"
)
