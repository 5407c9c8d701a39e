"""Refusals of an import whose rows exist already. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from apflow.core.errors import ConflictError
from apflow.storage.sql.columns import RECORDS, TASKS

SHOWN: Final = 5  # ids in a message
IDS_TAKEN: Final = f"SELECT id FROM {TASKS} WHERE id IN (SELECT unnest($1::VARCHAR[])) LIMIT {SHOWN + 1}"  # noqa: S608
RECORDS_TAKEN: Final = (
    f"SELECT kind, key FROM {RECORDS} WHERE (kind, key) IN "  # noqa: S608
    f"(SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[])) LIMIT {SHOWN + 1}"
)


def check_ids(taken: Collection[str], url: str) -> None:
    """Raise `ConflictError` if there are tasks of an export in the database."""
    if taken:
        raise exists(url, "tasks", taken)


def check_records(taken: Collection[str], url: str) -> None:
    """Raise `ConflictError` if there are records of an export in the database."""
    if taken:
        raise exists(url, "records (such as webhooks)", taken)


def exists(url: str, what: str, names: Collection[str] = ()) -> ConflictError:
    """Return the error for an import of rows that exist."""
    shown = ", ".join(repr(each) for each in sorted(names)[:SHOWN])
    more = " and more" if len(names) > SHOWN else ""
    which = f": {shown}{more}" if shown else ""
    return ConflictError(
        f"{url} already has {what} of this export, or the export names them twice{which}. Nothing was "
        "imported. Import into another database, or delete them first."
    )
