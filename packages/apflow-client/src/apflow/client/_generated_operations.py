"""The operations of a server as methods.

Written by `tools/client_methods.py` from the core's table of operations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.service.results import (
    CancelResult,
    CopyPreviewResult,
    CountResult,
    DeleteResult,
    Event,
    ExecutorResult,
    HealthResult,
    KeyChangeResult,
    KeyStatusResult,
    MetricsResult,
    RunningCountResult,
    RunResult,
    StatusResult,
    TaskResult,
    TreeResult,
    WebhookResult,
    WhyResult,
)


class AsyncOperations:
    """Every operation of the table, to be awaited."""

    @abstractmethod
    async def _ask(self, name: str, params: Mapping[str, Json]) -> Any:
        """Call an operation and return its result as the model that the table names."""

    @abstractmethod
    def watch(self, task_id: str, after: int | None = None) -> AsyncIterator[Event]:
        """Yield the events of a task's tree until its final one."""

    async def tasks_create(
        self,
        tasks: Json,
        *,
        user_id: str | None = None,
        on_conflict: Literal["copy", "error"] = "copy",
        idempotency_key: str | None = None,
    ) -> TreeResult:
        """Create a tree from an array of tasks, and return it nested, with `ids` (given -> real)."""
        answer: TreeResult = await self._ask(
            "tasks.create",
            {
                "tasks": tasks,
                "user_id": user_id,
                "on_conflict": on_conflict,
                "idempotency_key": idempotency_key,
            },
        )
        return answer

    async def tasks_submit(
        self,
        tasks: Json,
        *,
        user_id: str | None = None,
        idempotency_key: str | None = None,
        on_conflict: Literal["copy", "error"] = "copy",
    ) -> TreeResult:
        """Create a tree, request its run durably, and return the tree at once, as `create` does."""
        answer: TreeResult = await self._ask(
            "tasks.submit",
            {
                "tasks": tasks,
                "user_id": user_id,
                "idempotency_key": idempotency_key,
                "on_conflict": on_conflict,
            },
        )
        return answer

    async def tasks_execute(
        self,
        task_id: str | None = None,
        tasks: Json = None,
        *,
        wait: bool = False,
        force: bool = False,
        copy_execution: bool = False,
        copy_children: bool | None = None,
        user_id: str | None = None,
        on_conflict: Literal["copy", "error"] = "copy",
        idempotency_key: str | None = None,
        use_streaming: bool = False,
        webhook_config: Mapping[str, Json] | None = None,
    ) -> RunResult:
        """Ask for a run of a stored task, or of tasks that are created for it, and tell how it stands."""
        answer: RunResult = await self._ask(
            "tasks.execute",
            {
                "task_id": task_id,
                "tasks": tasks,
                "wait": wait,
                "force": force,
                "copy_execution": copy_execution,
                "copy_children": copy_children,
                "user_id": user_id,
                "on_conflict": on_conflict,
                "idempotency_key": idempotency_key,
                "use_streaming": use_streaming,
                "webhook_config": webhook_config,
            },
        )
        return answer

    def tasks_watch(self, task_id: str, after: int | None = None) -> AsyncIterator[Event]:
        """Yield the events of a task's tree until its final one."""
        return self.watch(task_id, after)

    async def tasks_webhooks(self, task_id: str) -> list[WebhookResult]:
        """Return the webhooks of a task's tree: how far each is, and what ended it."""
        answer: list[WebhookResult] = await self._ask("tasks.webhooks", {"task_id": task_id})
        return answer

    async def tasks_get(self, task_id: str) -> TaskResult:
        """Return one task."""
        answer: TaskResult = await self._ask("tasks.get", {"task_id": task_id})
        return answer

    async def tasks_detail(self, task_id: str) -> TaskResult:
        """Return one task."""
        answer: TaskResult = await self._ask("tasks.detail", {"task_id": task_id})
        return answer

    async def tasks_list(
        self,
        *,
        user_id: str | None = None,
        status: TaskStatus | Sequence[TaskStatus] | None = None,
        name: str | None = None,
        root_only: bool = True,
        original_task_id: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = 100,
        offset: int = 0,
        cursor: str | None = None,
        order: str = "-created_at",
    ) -> list[TaskResult]:
        """Return the tasks that match; only roots, unless told otherwise."""
        answer: list[TaskResult] = await self._ask(
            "tasks.list",
            {
                "user_id": user_id,
                "status": status,
                "name": name,
                "root_only": root_only,
                "original_task_id": original_task_id,
                "created_after": created_after,
                "created_before": created_before,
                "limit": limit,
                "offset": offset,
                "cursor": cursor,
                "order": order,
            },
        )
        return answer

    async def tasks_children(self, parent_id: str) -> list[TaskResult]:
        """Return the direct children of a task, in order."""
        answer: list[TaskResult] = await self._ask("tasks.children", {"parent_id": parent_id})
        return answer

    async def tasks_tree(self, task_id: str) -> TreeResult:
        """Return the whole tree of any of its tasks, nested."""
        answer: TreeResult = await self._ask("tasks.tree", {"task_id": task_id})
        return answer

    async def tasks_count(
        self,
        *,
        user_id: str | None = None,
        status: TaskStatus | Sequence[TaskStatus] | None = None,
        name: str | None = None,
        root_only: bool = False,
    ) -> CountResult:
        """Return how many tasks match, in all and by status."""
        answer: CountResult = await self._ask(
            "tasks.count", {"user_id": user_id, "status": status, "name": name, "root_only": root_only}
        )
        return answer

    async def tasks_update(
        self,
        task_id: str,
        *,
        name: str | None = None,
        priority: int | None = None,
        inputs: dict[str, Json] | None = None,
        params: dict[str, Json] | None = None,
        schemas: dict[str, Json] | None = None,
        policy: dict[str, Json] | None = None,
        dependencies: Sequence[Json] | None = None,
        status: TaskStatus | None = None,
        result: Json = None,
        parent_id: str | None = None,
        user_id: str | None = None,
        original_task_id: str | None = None,
    ) -> TaskResult:
        """Change fields of a task that no run has in its scope: all of them, or none."""
        answer: TaskResult = await self._ask(
            "tasks.update",
            {
                "task_id": task_id,
                "name": name,
                "priority": priority,
                "inputs": inputs,
                "params": params,
                "schemas": schemas,
                "policy": policy,
                "dependencies": dependencies,
                "status": status,
                "result": result,
                "parent_id": parent_id,
                "user_id": user_id,
                "original_task_id": original_task_id,
            },
        )
        return answer

    async def tasks_delete(self, task_id: str, *, force: bool = False) -> DeleteResult:
        """Delete a task and all below it."""
        answer: DeleteResult = await self._ask("tasks.delete", {"task_id": task_id, "force": force})
        return answer

    async def tasks_copy(
        self,
        task_id: str,
        *,
        children: bool | None = None,
        copy_mode: Literal["minimal", "full", "custom"] = "minimal",
        custom_task_ids: Sequence[str] | None = None,
        custom_include_children: bool = False,
        reset_fields: Sequence[str] | None = None,
        save: bool = True,
    ) -> TreeResult | CopyPreviewResult:
        """Copy a task with what it needs into a new tree, or return the array that would."""
        answer: TreeResult | CopyPreviewResult = await self._ask(
            "tasks.copy",
            {
                "task_id": task_id,
                "children": children,
                "copy_mode": copy_mode,
                "custom_task_ids": custom_task_ids,
                "custom_include_children": custom_include_children,
                "reset_fields": reset_fields,
                "save": save,
            },
        )
        return answer

    async def tasks_cancel(
        self, task_ids: Iterable[str], *, force: bool = False, error_message: str | None = None
    ) -> list[CancelResult]:
        """Cancel tasks with all below them. `force` gives running code no time to end by itself."""
        answer: list[CancelResult] = await self._ask(
            "tasks.cancel", {"task_ids": task_ids, "force": force, "error_message": error_message}
        )
        return answer

    async def tasks_running_cancel(
        self, task_ids: Iterable[str], *, force: bool = False, error_message: str | None = None
    ) -> list[CancelResult]:
        """Cancel tasks with all below them. `force` gives running code no time to end by itself."""
        answer: list[CancelResult] = await self._ask(
            "tasks.running.cancel", {"task_ids": task_ids, "force": force, "error_message": error_message}
        )
        return answer

    async def tasks_running_list(
        self, *, user_id: str | None = None, limit: int | None = 100
    ) -> list[StatusResult]:
        """Return how the trees stand whose run was requested and has not ended, oldest first."""
        answer: list[StatusResult] = await self._ask(
            "tasks.running.list", {"user_id": user_id, "limit": limit}
        )
        return answer

    async def tasks_running_count(self, *, user_id: str | None = None) -> RunningCountResult:
        """Return of how many trees a run was requested that has not ended."""
        answer: RunningCountResult = await self._ask("tasks.running.count", {"user_id": user_id})
        return answer

    async def tasks_running_status(self, task_ids: Iterable[str]) -> list[StatusResult]:
        """Return the status of tasks; for a root, of its tree."""
        answer: list[StatusResult] = await self._ask("tasks.running.status", {"task_ids": task_ids})
        return answer

    async def tasks_resume(self, task_ids: Iterable[str] | None = None) -> list[StatusResult]:
        """Resume trees whose run a process left: these, or all that this process has the executors for."""
        answer: list[StatusResult] = await self._ask("tasks.resume", {"task_ids": task_ids})
        return answer

    async def tasks_why(self, task_id: str) -> WhyResult:
        """Say why a task has the status that it has, and what would move it on."""
        answer: WhyResult = await self._ask("tasks.why", {"task_id": task_id})
        return answer

    async def system_health(self) -> HealthResult:
        """Say whether the database answers, with version, storage and time since the start in seconds."""
        answer: HealthResult = await self._ask("system.health", {})
        return answer

    async def system_metrics(self) -> MetricsResult:
        """Return how many tasks there are by status, how many runs are requested, and how many run here."""
        answer: MetricsResult = await self._ask("system.metrics", {})
        return answer

    async def system_executors(self) -> list[ExecutorResult]:
        """Return every executor with its input schema, where it comes from, and whether it can be used."""
        answer: list[ExecutorResult] = await self._ask("system.executors", {})
        return answer

    async def system_executor(self, executor_id: str) -> ExecutorResult:
        """Return one executor."""
        answer: ExecutorResult = await self._ask("system.executor", {"executor_id": executor_id})
        return answer

    async def config_llm_key_set(
        self, api_key: str, provider: str = "openai", *, user_id: str | None = None
    ) -> KeyChangeResult:
        """Keep a user's key for a provider of language models, in the memory of this process."""
        answer: KeyChangeResult = await self._ask(
            "config.llm_key.set", {"api_key": api_key, "provider": provider, "user_id": user_id}
        )
        return answer

    async def config_llm_key_get(
        self, provider: str = "openai", *, user_id: str | None = None
    ) -> KeyStatusResult:
        """Return whether a user has a key for a provider, and for which. Keys are never returned."""
        answer: KeyStatusResult = await self._ask(
            "config.llm_key.get", {"provider": provider, "user_id": user_id}
        )
        return answer

    async def config_llm_key_delete(
        self, provider: str = "openai", *, user_id: str | None = None
    ) -> KeyChangeResult:
        """Delete a user's key for a provider."""
        answer: KeyChangeResult = await self._ask(
            "config.llm_key.delete", {"provider": provider, "user_id": user_id}
        )
        return answer


class SyncOperations:
    """Every operation of the table, one after the other."""

    @abstractmethod
    def _ask(self, name: str, params: Mapping[str, Json]) -> Any:
        """Call an operation and return its result as the model that the table names."""

    @abstractmethod
    def watch(self, task_id: str, after: int | None = None) -> Iterator[Event]:
        """Yield the events of a task's tree until its final one."""

    def tasks_create(
        self,
        tasks: Json,
        *,
        user_id: str | None = None,
        on_conflict: Literal["copy", "error"] = "copy",
        idempotency_key: str | None = None,
    ) -> TreeResult:
        """Create a tree from an array of tasks, and return it nested, with `ids` (given -> real)."""
        answer: TreeResult = self._ask(
            "tasks.create",
            {
                "tasks": tasks,
                "user_id": user_id,
                "on_conflict": on_conflict,
                "idempotency_key": idempotency_key,
            },
        )
        return answer

    def tasks_submit(
        self,
        tasks: Json,
        *,
        user_id: str | None = None,
        idempotency_key: str | None = None,
        on_conflict: Literal["copy", "error"] = "copy",
    ) -> TreeResult:
        """Create a tree, request its run durably, and return the tree at once, as `create` does."""
        answer: TreeResult = self._ask(
            "tasks.submit",
            {
                "tasks": tasks,
                "user_id": user_id,
                "idempotency_key": idempotency_key,
                "on_conflict": on_conflict,
            },
        )
        return answer

    def tasks_execute(
        self,
        task_id: str | None = None,
        tasks: Json = None,
        *,
        wait: bool = False,
        force: bool = False,
        copy_execution: bool = False,
        copy_children: bool | None = None,
        user_id: str | None = None,
        on_conflict: Literal["copy", "error"] = "copy",
        idempotency_key: str | None = None,
        use_streaming: bool = False,
        webhook_config: Mapping[str, Json] | None = None,
    ) -> RunResult:
        """Ask for a run of a stored task, or of tasks that are created for it, and tell how it stands."""
        answer: RunResult = self._ask(
            "tasks.execute",
            {
                "task_id": task_id,
                "tasks": tasks,
                "wait": wait,
                "force": force,
                "copy_execution": copy_execution,
                "copy_children": copy_children,
                "user_id": user_id,
                "on_conflict": on_conflict,
                "idempotency_key": idempotency_key,
                "use_streaming": use_streaming,
                "webhook_config": webhook_config,
            },
        )
        return answer

    def tasks_watch(self, task_id: str, after: int | None = None) -> Iterator[Event]:
        """Yield the events of a task's tree until its final one."""
        return self.watch(task_id, after)

    def tasks_webhooks(self, task_id: str) -> list[WebhookResult]:
        """Return the webhooks of a task's tree: how far each is, and what ended it."""
        answer: list[WebhookResult] = self._ask("tasks.webhooks", {"task_id": task_id})
        return answer

    def tasks_get(self, task_id: str) -> TaskResult:
        """Return one task."""
        answer: TaskResult = self._ask("tasks.get", {"task_id": task_id})
        return answer

    def tasks_detail(self, task_id: str) -> TaskResult:
        """Return one task."""
        answer: TaskResult = self._ask("tasks.detail", {"task_id": task_id})
        return answer

    def tasks_list(
        self,
        *,
        user_id: str | None = None,
        status: TaskStatus | Sequence[TaskStatus] | None = None,
        name: str | None = None,
        root_only: bool = True,
        original_task_id: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = 100,
        offset: int = 0,
        cursor: str | None = None,
        order: str = "-created_at",
    ) -> list[TaskResult]:
        """Return the tasks that match; only roots, unless told otherwise."""
        answer: list[TaskResult] = self._ask(
            "tasks.list",
            {
                "user_id": user_id,
                "status": status,
                "name": name,
                "root_only": root_only,
                "original_task_id": original_task_id,
                "created_after": created_after,
                "created_before": created_before,
                "limit": limit,
                "offset": offset,
                "cursor": cursor,
                "order": order,
            },
        )
        return answer

    def tasks_children(self, parent_id: str) -> list[TaskResult]:
        """Return the direct children of a task, in order."""
        answer: list[TaskResult] = self._ask("tasks.children", {"parent_id": parent_id})
        return answer

    def tasks_tree(self, task_id: str) -> TreeResult:
        """Return the whole tree of any of its tasks, nested."""
        answer: TreeResult = self._ask("tasks.tree", {"task_id": task_id})
        return answer

    def tasks_count(
        self,
        *,
        user_id: str | None = None,
        status: TaskStatus | Sequence[TaskStatus] | None = None,
        name: str | None = None,
        root_only: bool = False,
    ) -> CountResult:
        """Return how many tasks match, in all and by status."""
        answer: CountResult = self._ask(
            "tasks.count", {"user_id": user_id, "status": status, "name": name, "root_only": root_only}
        )
        return answer

    def tasks_update(
        self,
        task_id: str,
        *,
        name: str | None = None,
        priority: int | None = None,
        inputs: dict[str, Json] | None = None,
        params: dict[str, Json] | None = None,
        schemas: dict[str, Json] | None = None,
        policy: dict[str, Json] | None = None,
        dependencies: Sequence[Json] | None = None,
        status: TaskStatus | None = None,
        result: Json = None,
        parent_id: str | None = None,
        user_id: str | None = None,
        original_task_id: str | None = None,
    ) -> TaskResult:
        """Change fields of a task that no run has in its scope: all of them, or none."""
        answer: TaskResult = self._ask(
            "tasks.update",
            {
                "task_id": task_id,
                "name": name,
                "priority": priority,
                "inputs": inputs,
                "params": params,
                "schemas": schemas,
                "policy": policy,
                "dependencies": dependencies,
                "status": status,
                "result": result,
                "parent_id": parent_id,
                "user_id": user_id,
                "original_task_id": original_task_id,
            },
        )
        return answer

    def tasks_delete(self, task_id: str, *, force: bool = False) -> DeleteResult:
        """Delete a task and all below it."""
        answer: DeleteResult = self._ask("tasks.delete", {"task_id": task_id, "force": force})
        return answer

    def tasks_copy(
        self,
        task_id: str,
        *,
        children: bool | None = None,
        copy_mode: Literal["minimal", "full", "custom"] = "minimal",
        custom_task_ids: Sequence[str] | None = None,
        custom_include_children: bool = False,
        reset_fields: Sequence[str] | None = None,
        save: bool = True,
    ) -> TreeResult | CopyPreviewResult:
        """Copy a task with what it needs into a new tree, or return the array that would."""
        answer: TreeResult | CopyPreviewResult = self._ask(
            "tasks.copy",
            {
                "task_id": task_id,
                "children": children,
                "copy_mode": copy_mode,
                "custom_task_ids": custom_task_ids,
                "custom_include_children": custom_include_children,
                "reset_fields": reset_fields,
                "save": save,
            },
        )
        return answer

    def tasks_cancel(
        self, task_ids: Iterable[str], *, force: bool = False, error_message: str | None = None
    ) -> list[CancelResult]:
        """Cancel tasks with all below them. `force` gives running code no time to end by itself."""
        answer: list[CancelResult] = self._ask(
            "tasks.cancel", {"task_ids": task_ids, "force": force, "error_message": error_message}
        )
        return answer

    def tasks_running_cancel(
        self, task_ids: Iterable[str], *, force: bool = False, error_message: str | None = None
    ) -> list[CancelResult]:
        """Cancel tasks with all below them. `force` gives running code no time to end by itself."""
        answer: list[CancelResult] = self._ask(
            "tasks.running.cancel", {"task_ids": task_ids, "force": force, "error_message": error_message}
        )
        return answer

    def tasks_running_list(
        self, *, user_id: str | None = None, limit: int | None = 100
    ) -> list[StatusResult]:
        """Return how the trees stand whose run was requested and has not ended, oldest first."""
        answer: list[StatusResult] = self._ask("tasks.running.list", {"user_id": user_id, "limit": limit})
        return answer

    def tasks_running_count(self, *, user_id: str | None = None) -> RunningCountResult:
        """Return of how many trees a run was requested that has not ended."""
        answer: RunningCountResult = self._ask("tasks.running.count", {"user_id": user_id})
        return answer

    def tasks_running_status(self, task_ids: Iterable[str]) -> list[StatusResult]:
        """Return the status of tasks; for a root, of its tree."""
        answer: list[StatusResult] = self._ask("tasks.running.status", {"task_ids": task_ids})
        return answer

    def tasks_resume(self, task_ids: Iterable[str] | None = None) -> list[StatusResult]:
        """Resume trees whose run a process left: these, or all that this process has the executors for."""
        answer: list[StatusResult] = self._ask("tasks.resume", {"task_ids": task_ids})
        return answer

    def tasks_why(self, task_id: str) -> WhyResult:
        """Say why a task has the status that it has, and what would move it on."""
        answer: WhyResult = self._ask("tasks.why", {"task_id": task_id})
        return answer

    def system_health(self) -> HealthResult:
        """Say whether the database answers, with version, storage and time since the start in seconds."""
        answer: HealthResult = self._ask("system.health", {})
        return answer

    def system_metrics(self) -> MetricsResult:
        """Return how many tasks there are by status, how many runs are requested, and how many run here."""
        answer: MetricsResult = self._ask("system.metrics", {})
        return answer

    def system_executors(self) -> list[ExecutorResult]:
        """Return every executor with its input schema, where it comes from, and whether it can be used."""
        answer: list[ExecutorResult] = self._ask("system.executors", {})
        return answer

    def system_executor(self, executor_id: str) -> ExecutorResult:
        """Return one executor."""
        answer: ExecutorResult = self._ask("system.executor", {"executor_id": executor_id})
        return answer

    def config_llm_key_set(
        self, api_key: str, provider: str = "openai", *, user_id: str | None = None
    ) -> KeyChangeResult:
        """Keep a user's key for a provider of language models, in the memory of this process."""
        answer: KeyChangeResult = self._ask(
            "config.llm_key.set", {"api_key": api_key, "provider": provider, "user_id": user_id}
        )
        return answer

    def config_llm_key_get(self, provider: str = "openai", *, user_id: str | None = None) -> KeyStatusResult:
        """Return whether a user has a key for a provider, and for which. Keys are never returned."""
        answer: KeyStatusResult = self._ask("config.llm_key.get", {"provider": provider, "user_id": user_id})
        return answer

    def config_llm_key_delete(
        self, provider: str = "openai", *, user_id: str | None = None
    ) -> KeyChangeResult:
        """Delete a user's key for a provider."""
        answer: KeyChangeResult = self._ask(
            "config.llm_key.delete", {"provider": provider, "user_id": user_id}
        )
        return answer
