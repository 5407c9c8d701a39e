"""Operations on what stands around the tasks: executors, the process, keys of callers."""

from __future__ import annotations

import asyncio
import time

from apflow.core import plugins
from apflow.core.engine import active_runs
from apflow.core.errors import ForbiddenError
from apflow.core.extensions.description import describe_executor, describe_executors
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, utc_now
from apflow.core.service import llm_keys
from apflow.core.service.access import Access
from apflow.core.service.trees import Answers
from apflow.core.store.base import TaskQuery

_STARTED = time.monotonic()


class SystemService(Access):
    """What one caller may learn of the system, and leave with it."""

    async def executors(self) -> Answers:
        """Return every executor with its input schema, where it comes from, and whether it can be used."""
        return await asyncio.to_thread(describe_executors)  # they are imported, which takes its time

    async def executor(self, executor_id: str) -> dict[str, Json]:
        """Return one executor."""
        return await asyncio.to_thread(describe_executor, executor_id)

    async def health(self) -> dict[str, Json]:
        """Say whether the database answers, with version, storage and time since the start in seconds."""
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

    async def metrics(self) -> dict[str, Json]:
        """Return how many tasks there are by status, how many runs are requested, and how many run here.

        Who is no admin is told of its own tasks.
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
        self, api_key: str, provider: str = "openai", *, user_id: str | None = None
    ) -> dict[str, Json]:
        """Keep a user's key for a provider of language models, in the memory of this process.

        Args:
            user_id: whose key it is; by default the caller's. That of another user takes an admin.
        """
        llm_keys.set_llm_key(self._holder(user_id), provider, api_key)
        return {"success": True, "provider": provider}

    async def get_llm_key(self, provider: str = "openai", *, user_id: str | None = None) -> dict[str, Json]:
        """Return whether a user has a key for a provider, and for which. Keys are never returned."""
        holder = self._holder(user_id)
        has_key = llm_keys.llm_key(holder, provider) is not None
        providers = dict.fromkeys(llm_keys.providers_of(holder), True)
        return {"provider": provider, "has_key": has_key, "providers": providers}

    async def delete_llm_key(
        self, provider: str = "openai", *, user_id: str | None = None
    ) -> dict[str, Json]:
        """Delete a user's key for a provider."""
        success = llm_keys.delete_llm_key(self._holder(user_id), provider)
        return {"success": success, "provider": provider}

    def _holder(self, user_id: str | None) -> str | None:
        """Return whose keys are meant."""
        if user_id is None or user_id == self.user_id:
            return self.user_id
        if not self.is_admin:
            raise ForbiddenError("The keys of another user take an admin.")
        return user_id
