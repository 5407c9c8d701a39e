"""Finds results that other tasks have stored, for ready tasks of one run, before they get places."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Final

from apflow.core import plugins
from apflow.core.concurrency.containment import call_contained, read_attribute
from apflow.core.concurrency.exit_fence import create_unfenced
from apflow.core.engine.run_context import RunContext
from apflow.core.extensions.registry import ExecutorEntry
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.payload.cache_key import cache_key, ttl_of
from apflow.core.payload.inputs import own_inputs
from apflow.core.payload.json_value import dumps
from apflow.core.planning.outcome import Outcome
from apflow.core.store.base import TaskQuery, TaskStore

logger = logging.getLogger(__name__)

COMPLETED: Final = TaskStatus.COMPLETED
MAX_FOUND: Final = 50  # results that are in memory before their tasks are started


@dataclass(slots=True)
class Lookup:
    """A task whose result is looked for."""

    task: Task
    is_done: bool = False
    found: Outcome | None = None


@dataclass(slots=True)
class CacheLookups:
    """The lookups of one run, one after the other in the order of the tasks.

    Args:
        on_done: called after each lookup.
    """

    context: RunContext
    on_done: Callable[[], None]
    lookups: dict[str, Lookup] = field(default_factory=dict[str, Lookup])  # by id of the task
    _waiting: deque[Lookup] = field(default_factory=deque[Lookup])
    _worker: asyncio.Task[None] | None = None
    _has_room: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, task: Task) -> bool:
        """Return whether the result of a task may come from another one.

        A task whose effect is `once` is never cached: what it does is what it is for.
        """
        if task.policy.get("cache") is None or task.executor is None:
            return False
        return self.context.effect(task) != "once"

    def begin(self, task: Task) -> None:
        """Look for the result of a task."""
        lookup = self.lookups[task.id] = Lookup(task)
        self._waiting.append(lookup)
        if self._worker is None:
            loop = asyncio.get_running_loop()
            self._worker = create_unfenced(
                lambda: loop.create_task(self._work(), name="apflow:cache", context=Context())
            )

    def take(self, task_id: str) -> Lookup | None:
        """Return the lookup of a task and forget it, if it is done."""
        lookup = self.lookups.get(task_id)
        if lookup is None or not lookup.is_done:
            return None
        self._has_room.set()
        return self.lookups.pop(task_id)

    def forget(self) -> None:
        """Forget all lookups."""
        self.lookups.clear()
        self._waiting.clear()
        self._has_room.set()

    async def _work(self) -> None:
        try:
            while self._waiting:
                lookup = self._waiting.popleft()
                try:
                    lookup.found = await self._look(lookup.task)
                except Exception as error:  # noqa: BLE001 - the task calls its executor instead
                    logger.warning("The cache cannot be used for task %s: %s", lookup.task.id, error)
                lookup.is_done = True
                self.on_done()
                while sum(each.found is not None for each in self.lookups.values()) >= MAX_FOUND:
                    self._has_room.clear()
                    await self._has_room.wait()
        finally:
            self._worker = None

    async def _look(self, task: Task) -> Outcome | None:
        context = self.context
        context.cache_keys.pop(task.id, None)
        entry = context.entry(str(task.executor))
        key = key_of(task, context.tasks, entry, context.settings.max_referenced_bytes)
        if key is None:
            return None
        context.cache_keys[task.id] = key
        if context.tasks[task.root_id].run_ignores_cache:
            return None
        found = await find_result(context.nesting.driver.store, task, key)
        if found is None or len(dumps(found.result)) > context.settings.max_result_bytes:
            return None
        return Outcome(COMPLETED, found.result, cached_from=found.id)


def key_of(task: Task, tasks: Mapping[str, Task], entry: ExecutorEntry, max_bytes: int) -> str | None:
    """Return the key of the result of a task; None if it is not cached.

    Args:
        tasks: of its tree, by id.
        entry: its executor.
        max_bytes: of results in its inputs, see `build_inputs`.

    Raises:
        InputsError: as `build_inputs`.
    """
    results: dict[str, Json] = {}
    by_key: dict[str, Json] = {}
    for dependency in task.dependencies:
        needed = tasks[dependency["id"]]
        has_result = needed.status is COMPLETED
        by_key[needed.key] = needed.result if has_result else None
        if has_result:
            results[needed.id] = needed.result
    inputs = own_inputs(task, results, max_bytes, tasks[task.root_id].run_requested_at)
    return cache_key(task, version_of(entry), inputs, by_key)


def version_of(entry: ExecutorEntry) -> str:
    """Return the version of an executor: its attribute `version`, else that of its distribution."""
    try:
        own = call_contained(lambda: read_attribute(entry.source, "version"))
    except Exception:  # noqa: BLE001 - the border to users' code
        own = None
    if isinstance(own, str) and own:
        return own
    return _version_of_distribution(entry.distribution) if entry.distribution else ""


@lru_cache(maxsize=1024)
def _version_of_distribution(name: str) -> str:
    return plugins.version(name) or ""  # its code stays the same in this process, whatever is installed later


async def find_result(store: TaskStore, task: Task, key: str) -> Task | None:
    """Return the newest task that completed with a result for a key, if it is not too old."""
    query = TaskQuery(cache_key=key, status=COMPLETED, order="-completed_at", limit=1)
    for found in await store.find(query):
        ttl = ttl_of(task.policy)
        is_old = ttl is not None and (
            found.completed_at is None or found.completed_at < utc_now() - timedelta(seconds=ttl)
        )
        if found.user_id == task.user_id and not is_old:
            return found
    return None
