"""Copies of a DuckDB database that is in use."""

from __future__ import annotations

import uuid
from pathlib import Path

import duckdb

from apflow.core.process.new_file import new_file
from apflow.storage.duckdb.claim import OWNER_ONLY
from apflow.storage.duckdb.database import NAME, ROW_GROUP_SIZE, Database, literal
from apflow.storage.duckdb.failure import as_store_error
from apflow.storage.duckdb.migration_copy import check_space
from apflow.storage.duckdb.openfile import log_of


def back_up(database: Database, path: Path) -> None:
    """Write a consistent copy of a database to a new file.

    The copy is made in one transaction, so it contains the database as of one moment. Other threads continue
    to read and write. The file appears when the copy is complete.

    Raises:
        InvalidInputError: the file exists, or its directory does not.
        StoreError: the database cannot be read, or the copy cannot be written.
    """
    try:
        with new_file(path) as partial:
            if database.path is not None and database.path.exists():
                check_space(path.parent, database.path.stat().st_size)
            copy_to(database, partial)
    except duckdb.Error as error:
        raise as_store_error(error, f"duckdb:///{path}", None, doing="cannot be written") from error


def copy_to(database: Database, path: Path, *, has_journal: bool = False) -> None:
    """Copy a database into a file that does not exist, in one transaction.

    Args:
        has_journal: whether the copy will take the place of the database, next to its journal.
    """
    name = f"backup_{uuid.uuid4().hex}"
    source = "memory" if database.path is None else NAME
    try:
        with database.cursor() as cursor:
            cursor.execute(f"ATTACH {literal(str(path))} AS {name} (ROW_GROUP_SIZE {ROW_GROUP_SIZE})")
            try:
                path.chmod(OWNER_ONLY)  # before it contains anything
                cursor.execute(f"COPY FROM DATABASE {source} TO {name}")
                if not has_journal:
                    cursor.execute(f"UPDATE {name}.apflow_journal SET is_open = FALSE")  # noqa: S608
            finally:
                cursor.execute(f"DETACH {name}")  # writes a checkpoint
    finally:
        log_of(path).unlink(missing_ok=True)
    database.trim()
