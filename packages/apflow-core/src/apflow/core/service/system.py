"""Operations on the system: executors, health, metrics, and the keys of callers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

from apflow.core import plugins
from apflow.core.engine import active_runs
from apflow.core.engine.worker import workers_of
from apflow.core.errors import ForbiddenError
from apflow.core.extensions.description import describe_executor, describe_executors
from apflow.core.extensions.first_party import search
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, utc_now
from apflow.core.service import llm_keys
from apflow.core.service.access import Access
from apflow.core.service.trees import Answers
from apflow.core.store.base import TaskQuery
from apflow.core.store.shown_url import shown_url

if TYPE_CHECKING:  # see `parameters`
    from pathlib import Path

    from pydantic import AliasChoices, Field

    from apflow.core.service.parameters import KeyOwner, Provider

_STARTED = time.monotonic()


class SystemService(Access):
    """What one caller may read of the system, and the keys that it may store."""

    async def executors(self) -> Answers:
        """Return every executor with its input schema, its distribution, and whether it is usable."""
        return await asyncio.to_thread(describe_executors)  # imports the executors, which takes long

    async def executor(
        self,
        executor_id: Annotated[
            str,
            Field(validation_alias=AliasChoices("executor_id", "id"), description="ID of the executor."),
        ],
    ) -> dict[str, Json]:
        """Return one executor, as system.executors does."""
        return await asyncio.to_thread(describe_executor, executor_id)

    async def available_executors(self) -> Answers:
        """Return the executors of apflow that are not installed, each with the command that installs it."""
        return [
            {
                "id": each.executor_id,
                "description": each.description,
                "distribution": each.distribution,
                "install": each.command,
            }
            for each in search(())
            if not each.is_installed
        ]

    async def health(self) -> dict[str, Json]:
        """Check the database, and return the version, the storage and the uptime in seconds."""
        await self.db.get(["any"])
        scheme = self.db.url.partition(":")[0]
        running = len(active_runs.all_running(self.db))
        return {
            "status": "healthy",
            "message": "apflow is healthy.",
            "timestamp": utc_now().isoformat(),
            "running_tasks_count": running,
            "version": plugins.version("apflow-core"),
            "storage": {"kind": scheme, "is_shared": self.db.capabilities.is_shared},
            "uptime_seconds": round(time.monotonic() - _STARTED, 3),
        }

    async def whoami(self) -> dict[str, Json]:
        """Return who the caller is: its user and roles, and whether it is an admin.

        Without authentication, the caller is the owner of the database: `user_id` is null.
        """
        roles = self.author.roles if self.author is not None else ()
        return {"user_id": self.user_id, "roles": list(roles), "is_admin": self.is_admin}

    async def database(self) -> dict[str, Json]:
        """Return where the database is, what it can do, and what is in it. Only an admin may.

        Raises:
            ForbiddenError: the caller is not an admin.
        """
        if not self.is_admin:
            raise ForbiddenError("Only an admin may read about the database.")
        db = self.db
        storage = plugins.find("apflow.storages", db.url.partition(":")[0])
        journal = db.journal()  # before the reads, which wait until it is applied
        requested = await db.count(TaskQuery(root_only=True, is_requested=True))
        found = await db.count(TaskQuery())
        return {
            "url": shown_url(db.url),
            "storage": f"{storage.distribution} {storage.version}" if storage else "built in",
            "tables_version": db.tables_version,
            "size_bytes": db.file.stat().st_size if db.file is not None and db.file.is_file() else None,
            "journal": journal and {"records": journal.records, "size_bytes": journal.size_bytes},
            "is_durable": db.capabilities.is_durable,
            "is_shared": db.capabilities.is_shared,
            "runs_to_resume": sum(requested.values()),
            "tasks": {
                "total": sum(found.values()),
                "by_status": {str(each): found.get(each, 0) for each in TaskStatus},
            },
        }

    async def workers(self) -> Answers:
        """Return the workers: the processes that run the trees that are submitted. Only an admin may.

        The status of a worker is "running", "draining", or "lost" if it has not reported for a minute.

        Raises:
            ForbiddenError: the caller is not an admin.
        """
        if not self.is_admin:
            raise ForbiddenError("Only an admin may list the workers.")
        return await workers_of(self.db)

    async def backup(self, path: Path) -> None:
        """Write a consistent copy of the database to a new file of this machine; see `TaskStore.backup`.

        Raises:
            ForbiddenError: the caller is not an admin.
            InvalidInputError: the file exists, cannot be written, or the database is not a file.
            StoreError: the database cannot be read, or the disk is full.
        """
        if not self.is_admin:
            raise ForbiddenError("Only an admin may copy the database.")
        await self.db.backup(path)

    async def metrics(self) -> dict[str, Json]:
        """Count the tasks by status, the requested runs, and the runs of this process.

        A caller that is not an admin gets only the numbers of the tasks it owns.
        """
        whose = self._whose(None)
        found = await self.db.count(TaskQuery(user_id=whose))
        requested = await self.db.count(TaskQuery(user_id=whose, root_only=True, is_requested=True))
        own = active_runs.all_running(self.db)
        return {
            "tasks": {str(each): found.get(each, 0) for each in TaskStatus},
            "runs_requested": sum(requested.values()),
            "runs_here": len([each for each in own if whose in (None, each.by_id[each.root_id].user_id)]),
            "uptime_seconds": round(time.monotonic() - _STARTED, 3),
        }

    async def set_llm_key(
        self,
        api_key: Annotated[str, Field(min_length=1, repr=False, description="The key.")],
        provider: Provider = "openai",
        *,
        user_id: KeyOwner = None,
    ) -> dict[str, Json]:
        """Keep a user's key for a provider of language models, in the memory of this process.

        Raises:
            InvalidInputError: the key or the provider is empty or too long, or too many keys are stored.
            ForbiddenError: the key is of another user, and the caller is not an admin.
        """
        llm_keys.set_llm_key(self._holder(user_id), provider, api_key)
        return {"success": True, "provider": provider}

    async def get_llm_key(
        self, provider: Provider = "openai", *, user_id: KeyOwner = None
    ) -> dict[str, Json]:
        """Return whether a user has a key for a provider, and the providers with a key; never the keys.

        Raises:
            ForbiddenError: the key is of another user, and the caller is not an admin.
        """
        holder = self._holder(user_id)
        has_key = llm_keys.llm_key(holder, provider) is not None
        providers = dict.fromkeys(llm_keys.providers_of(holder), True)
        return {"provider": provider, "has_key": has_key, "providers": providers}

    async def delete_llm_key(
        self, provider: Provider = "openai", *, user_id: KeyOwner = None
    ) -> dict[str, Json]:
        """Delete a user's key for a provider.

        Raises:
            ForbiddenError: the key is of another user, and the caller is not an admin.
        """
        success = llm_keys.delete_llm_key(self._holder(user_id), provider)
        return {"success": success, "provider": provider}

    def _holder(self, user_id: str | None) -> str | None:
        """Return the user whose keys a call is about."""
        if user_id is None or user_id == self.user_id:
            return self.user_id
        if not self.is_admin:
            raise ForbiddenError("Only an admin may use the keys of another user.")
        return user_id
