"""Copies the tables that a query in SQL names into CSV files, as of one moment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from apflow.core.model.sql_query import MAX_QUERY_SECONDS
from apflow.storage.postgres.driver import Connection
from apflow.storage.sql.query_views import SOURCES

NULL: Final = "\\N"


async def copy_sources(connection: Connection, files: Mapping[str, Path]) -> None:
    """Write each source to its file, in one transaction that only reads."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        # The caller limits the time.
        await connection.execute(f"SET LOCAL statement_timeout = {int(MAX_QUERY_SECONDS * 1000)}")
        for name, file in files.items():
            await connection.copy_from_query(
                SOURCES[name].select,
                output=file,
                format="csv",
                header=True,
                null=NULL,
                timeout=MAX_QUERY_SECONDS,
            )
