"""The former functions that open databases, over the stores of apflow.

A store stands where a session of SQLAlchemy stood. There is one per database and process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from apflow.core.errors import InvalidInputError
from apflow.core.settings import reset_settings
from apflow.core.store.base import TaskStore
from apflow.core.store.session import (
    create_session,
    get_default_session,
    reset_default_session,
    set_default_session,
)

__all__ = [
    "configure_database",
    "create_pooled_session",
    "create_session",
    "create_storage",
    "get_default_session",
    "get_default_storage",
    "is_postgresql_url",
    "normalize_postgresql_url",
    "reset_default_session",
    "set_default_session",
]

create_storage = create_session
get_default_storage = get_default_session

_SCHEMES = ("postgresql", "postgres")


@asynccontextmanager
async def create_pooled_session(
    url: str | None = None,
    *,
    connection_string: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> AsyncGenerator[TaskStore]:
    """Give the store of a database in an `async with`, and leave it open: all users of a process share it.

    Args:
        url, connection_string, path: as for `create_session`.

    Raises:
        InvalidInputError: as `create_session`.
    """
    yield create_session(url, connection_string=connection_string, path=path)


def configure_database(
    connection_string: str | None = None, path: str | os.PathLike[str] | None = None
) -> None:
    """Choose the database of this process and of those it starts, by setting `APFLOW_DATABASE_URL`.

    Args:
        connection_string: the URL of a database; None for a file.
        path: a DuckDB file; None for a URL.

    Raises:
        InvalidInputError: both or neither are given.
    """
    if (connection_string is None) == (path is None):
        raise InvalidInputError("configure_database() takes either connection_string or path.")
    url = connection_string if path is None else f"duckdb:///{Path(path).expanduser().absolute()}"
    os.environ["APFLOW_DATABASE_URL"] = str(url)
    reset_settings()


def is_postgresql_url(url: str) -> bool:
    """Return whether a URL names a PostgreSQL database, with or without a driver."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.partition("+")[0].lower() in _SCHEMES


def normalize_postgresql_url(url: str) -> str:
    """Return a PostgreSQL URL as `postgresql://...`, the form that `create_session` shows; others as given.

    `create_session` takes all forms, so no program has to call this.
    """
    return f"postgresql://{url.partition('://')[2]}" if is_postgresql_url(url) else url
