"""Facts about a store, for `db` and `doctor`."""

from __future__ import annotations

import asyncio
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from apflow.core import plugins
from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskQuery, TaskStore


async def describe(service: TaskService) -> dict[str, Json]:
    """Return where a store is, what it can do and what is in it."""
    db = service.db
    scheme = db.url.partition(":")[0]
    owner = plugins.find("apflow.storages", scheme)
    requested = await db.find(TaskQuery(is_requested=True))
    return {
        "url": shown_url(db.url),
        "storage": f"{owner.distribution} {owner.version}" if owner else "built in",
        "schema": schema_version(db),
        "size_bytes": db.file.stat().st_size if db.file is not None and db.file.is_file() else None,
        "is_durable": db.capabilities.is_durable,
        "is_shared": db.capabilities.is_shared,
        "runs_to_resume": len(requested),
        "tasks": await service.count(),
    }


def shown_url(url: str) -> str:
    """Return a URL without its password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)


def schema_version(db: TaskStore) -> int | None:
    """Return the version of the tables, or None for a store without versions."""
    version = getattr(db, "schema_version", None)
    return version if isinstance(version, int) else None


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
