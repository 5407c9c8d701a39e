"""Databases of the system before apflow, which `db import` reads."""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path
from typing import Any

from apflow.core.errors import InvalidInputError


async def read_source(source: str, table: str) -> list[dict[str, Any]]:
    """Return the rows of a database of the system before apflow: a DuckDB file, or a PostgreSQL URL.

    Raises:
        InvalidInputError: it is neither, or its storage is not installed.
    """
    scheme, separator, rest = source.partition("://")
    kind = scheme.partition("+")[0].lower() if separator else "duckdb"
    if kind not in ("duckdb", "postgresql", "postgres"):
        raise InvalidInputError(
            f"{source!r} is neither a DuckDB file nor a PostgreSQL URL (postgresql://...)."
        )
    distribution = "duckdb" if kind == "duckdb" else "postgres"
    try:
        former = import_module(f"apflow.storage.{distribution}.former")
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"Reading {scheme} takes: pip install apflow-storage-{distribution}"
        ) from error
    if kind == "duckdb":
        path = _path(rest.removeprefix("/") if separator else source)
        return await asyncio.to_thread(former.read_former, path, table)
    rows: list[dict[str, Any]] = await former.read_former(source, table)
    return rows


def _path(text: str) -> Path:
    return Path(text).expanduser()
