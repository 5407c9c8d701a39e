"""A copy of a database file, made before a migration changes the file."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from apflow.core.errors import StoreError
from apflow.core.process.new_file import create_private
from apflow.storage.duckdb.claim import FileClaim

logger = logging.getLogger(__name__)


def copy_of_version(database: Path, version: int) -> Path:
    """Return the path of the copy of a database file, as it was at a version of the schema."""
    return database.with_name(f"{database.name}.version-{version}")


def copy_before_migration(claim: FileClaim, version: int) -> None:
    """Copy a file that DuckDB has open, and whose write-ahead log is empty.

    The copy replaces that of an earlier migration from the same version.

    Raises:
        StoreError: there is no room, or the copy cannot be written. Nothing is migrated.
    """
    path = copy_of_version(claim.path, version)
    partial = path.with_name(f"{path.name}.partial")
    try:
        check_space(path.parent, claim.path.stat().st_size)
        partial.unlink(missing_ok=True)  # left by a process that was killed
        with create_private(partial) as file:
            file.writelines(claim.pieces())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, StoreError) as error:
        partial.unlink(missing_ok=True)
        why = f"{error.strerror}." if isinstance(error, OSError) else error
        raise StoreError(
            f"{claim.path} must be migrated to a later version of its tables, and the copy {path}, which is "
            f"made before, cannot be written: {why} Nothing was changed. To migrate without a copy, set "
            "APFLOW_MIGRATION_COPY=false."
        ) from error
    logger.warning(
        "%s is migrated to a later version of its tables. The copy %s is the file as it was.",
        claim.path,
        path,
    )


def check_space(directory: Path, size: int) -> None:
    """Check that a directory has room for so many bytes.

    Raises:
        StoreError: it has not.
    """
    free = shutil.disk_usage(directory).free
    if free < size:
        raise StoreError(
            f"{directory} has {free:,} bytes of free space; a copy of the database takes {size:,}. Free some "
            "space, or choose another directory."
        )
