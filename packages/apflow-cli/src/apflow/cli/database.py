"""What there is to tell of a store."""

from __future__ import annotations

import re

from apflow.core import plugins
from apflow.core.service import TaskService
from apflow.core.store import TaskQuery, TaskStore
from apflow.core.task import Json


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
    """Return the version of the tables, None for a store that has none."""
    version = getattr(db, "schema_version", None)
    return version if isinstance(version, int) else None
