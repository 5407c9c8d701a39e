"""Compacts a DuckDB file, because DuckDB (2.0) keeps most of the space of deleted rows in the file."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable

import duckdb

from apflow.core.errors import InvalidInputError, StoreError
from apflow.storage.duckdb.backup import copy_to
from apflow.storage.duckdb.database import Database
from apflow.storage.duckdb.migration_copy import check_space


def vacuum(database: Database, close_writer: Callable[[], object]) -> tuple[int, int]:
    """Replace the file of a database by a copy, which has no free space. Nothing may write meanwhile.

    Reads continue while the copy is written, and wait while it takes the place of the file.

    Args:
        close_writer: closes the connection of the writer, just before the file is replaced.

    Returns:
        the size of the file before and after, in bytes; 0 for a database in memory.

    Raises:
        InvalidInputError: the file has several names.
        StoreError: the copy cannot be written, or reads do not end. The file is as it was.
    """
    if database.path is None:
        return 0, 0
    path = database.path.resolve()  # a link stays a link
    before = path.stat().st_size
    if path.stat().st_nlink > 1:
        raise InvalidInputError(
            f"{path} cannot be vacuumed: it has other names (hard links), which would keep the old file. "
            "Remove them first."
        )
    check_space(path.parent, before)
    partial = path.with_name(f"{path.name}.vacuum-{uuid.uuid4().hex[:8]}")
    try:
        copy_to(database, partial, has_journal=True)
        shutil.copymode(path, partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        close_writer()
        database.replace_file(partial)
    except duckdb.Error as error:
        raise database.failed(error, "cannot be vacuumed") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be vacuumed: {error.strerror}. Nothing was changed.") from error
    finally:
        partial.unlink(missing_ok=True)
    return before, path.stat().st_size
