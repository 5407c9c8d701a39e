"""The operation that says what a tree would do, without storing or running it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Final

from apflow.core.authoring.array_validation import check_array
from apflow.core.authoring.capability_check import capability_faults
from apflow.core.authoring.run_check import check_runnable
from apflow.core.engine.cache_lookup import find_result, key_of
from apflow.core.engine.placement import is_known_for, workers_seen
from apflow.core.errors import ApflowError, SecretNotFoundError, SecretRefusedError
from apflow.core.extensions.registry import get_executor
from apflow.core.model.for_each import has_for_each
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import GROUP, Json, Task
from apflow.core.model.usage import UsageQuery
from apflow.core.payload.secrets import find_secret
from apflow.core.permissions.secret_policy import Author, secret_policy
from apflow.core.planning.capabilities import capabilities_of
from apflow.core.planning.fan_out import without_items
from apflow.core.planning.forecast import CriticalPath, critical_path, waves_of
from apflow.core.planning.plan import choose_executor
from apflow.core.plugins import without_paths
from apflow.core.service.access import Access
from apflow.core.service.trees import as_array
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskQuery

if TYPE_CHECKING:  # see `parameters`
    from apflow.core.service.parameters import Tasks

RECENT: Final = 20  # completed tasks that an estimate is made of
MAX_NAMES: Final = 500  # different tasks that are looked up in the history; the rest has no estimate


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the last completed tasks of the same name and executor took."""

    runs: int = 0
    seconds: float | None = None  # the median
    cost_usd: float | None = None  # the mean


class PlanService(Access):
    """What one caller may ask about trees that do not exist yet."""

    async def plan(self, tasks: Tasks) -> dict[str, Json]:
        """Return what a tree would do if it ran now, without storing or running it.

        The result has the order and the waves in which tasks would start, the critical path, durations and
        cost from the history of tasks with the same name and executor, what would make tasks fail before
        their code runs, the secrets that are not set, and what the tree may touch: executors, hosts,
        commands, images and secrets. A task whose result is cached takes no time and costs nothing; this is
        known only of tasks without dependencies. Durations are medians and costs means of the last 20 such
        tasks that completed.
        """
        planned = check_array(as_array(tasks), get_settings())
        await workers_seen(self.db).look(self.db)
        is_known = is_known_for(self.db)
        for task in planned:
            task.executor = choose_executor(task, is_known)
        estimates = await self._estimates(planned)
        cached = await self._cached(planned)
        estimates |= {task_id: Estimate(estimates[task_id].runs, 0.0, 0.0) for task_id in cached}
        seconds = {task_id: each.seconds for task_id, each in estimates.items() if each.seconds is not None}
        waves, path = await asyncio.to_thread(_forecast, planned, seconds)
        # In a thread, because it calls code of executors.
        problems = await asyncio.to_thread(check_runnable, planned, is_known=is_known)
        problems += capability_faults(planned)
        capabilities = capabilities_of(planned, is_known)
        authors = None if self.author is None else (self.author,)
        secrets = await asyncio.to_thread(_secrets, list(capabilities.secrets), authors)
        by_id = {task.id: task for task in planned}
        runs = [task_id for wave in waves for task_id in wave]
        return {
            "total": len(planned),
            "waves": [[by_id[task_id].key for task_id in wave] for wave in waves],
            "tasks": [
                _step(by_id[task_id], at, by_id, estimates[task_id]) | {"cached_from": cached.get(task_id)}
                for at, wave in enumerate(waves, start=1)
                for task_id in wave
            ],
            "critical_path": [by_id[task_id].key for task_id in path.task_ids],
            "expected_seconds": round(path.seconds, 3) if seconds else None,
            "expected_cost_usd": _sum(estimates[task_id].cost_usd for task_id in runs),
            "without_history": sum(estimates[task_id].runs == 0 for task_id in runs),
            "problems": [without_paths(each) for each in problems],
            "secrets": secrets,
            "capabilities": capabilities.to_dict(),
        }

    async def _cached(self, tasks: Sequence[Task]) -> dict[str, str]:
        """Return the tasks whose results are cached, and the tasks that made these, by id."""
        by_id, most = {task.id: task for task in tasks}, get_settings().max_referenced_bytes
        found: dict[str, str] = {}
        for task in tasks:
            if task.policy.get("cache") is None or task.executor in (None, GROUP) or task.dependencies:
                continue
            task.user_id = task.user_id or self.user_id
            try:
                entry = await asyncio.to_thread(get_executor, str(task.executor))
                key = key_of(task, by_id, entry, most)
            except ApflowError:
                continue  # a problem of the plan says so
            if key is not None and (source := await find_result(self.db, task, key)) is not None:
                found[task.id] = source.id
        return found

    async def _estimates(self, tasks: Sequence[Task]) -> dict[str, Estimate]:
        """Return the estimate of each task, by id."""
        found: dict[tuple[str, str | None], Estimate] = {}
        for task in tasks:
            kind = task.name, task.executor
            is_run = task.executor not in (None, GROUP) and task.status not in TERMINAL
            if is_run and kind not in found and len(found) < MAX_NAMES:
                found[kind] = await self._estimate(*kind)
        return {task.id: found.get((task.name, task.executor), Estimate()) for task in tasks}

    async def _estimate(self, name: str, executor: str | None) -> Estimate:
        recent = await self.db.find(
            TaskQuery(
                name=name,
                user_id=self._whose(None),
                status=TaskStatus.COMPLETED,
                order="-completed_at",
                limit=RECENT,
            )
        )
        same = [each for each in recent if each.executor == executor]
        seconds = [
            (each.completed_at - each.started_at).total_seconds()
            for each in same
            if each.completed_at is not None and each.started_at is not None
        ]
        if not seconds:
            return Estimate()
        sums = await self.db.usage(UsageQuery(task_ids=[each.id for each in same], group_by=("task_id",)))
        costs = {each.task_id: each.totals.cost_usd for each in sums}
        cost = fmean(costs.get(each.id, 0.0) for each in same)
        return Estimate(len(seconds), max(0.0, median(seconds)), cost)


def _forecast(tasks: Sequence[Task], seconds: Mapping[str, float]) -> tuple[list[list[str]], CriticalPath]:
    """Return the waves and the critical path; without any duration, the path with the most tasks."""
    counted = [without_items(task) if has_for_each(task) else task for task in tasks]
    return waves_of(counted), critical_path(counted, seconds or {task.id: 1.0 for task in tasks})


def _step(task: Task, wave: int, by_id: Mapping[str, Task], estimate: Estimate) -> dict[str, Json]:
    return {
        "key": task.key,
        "name": task.name,
        "executor": "for_each" if has_for_each(task) else task.executor,
        "wave": wave,
        "priority": task.priority,
        "dependencies": [by_id[each["id"]].key for each in task.dependencies],
        "limit": task.policy.get("limit"),
        "expected_seconds": None if estimate.seconds is None else round(estimate.seconds, 3),
        "expected_cost_usd": estimate.cost_usd,
        "runs": estimate.runs,
    }


def _sum(costs: Iterable[float | None]) -> float | None:
    known = [each for each in costs if each is not None]
    return round(sum(known), 12) if known else None


def _secrets(names: Sequence[str], authors: Sequence[Author] | None) -> dict[str, Json]:
    """Return the state of each secret: set, missing, unusable, or refused to the author of the tree."""
    return {name: _state_of(name, authors) for name in names}


def _state_of(name: str, authors: Sequence[Author] | None) -> str:
    try:
        secret_policy().permit(name, authors, None)
        find_secret(name)
    except SecretRefusedError:
        return "refused"
    except SecretNotFoundError:
        return "missing"
    except ApflowError:
        return "unusable"
    return "set"
