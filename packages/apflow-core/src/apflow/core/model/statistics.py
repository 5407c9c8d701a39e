"""Figures of tasks that have ended: how long they ran, how often they failed, and what models used. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Literal

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Json, Task
from apflow.core.model.usage import UsageTotals

# What figures can be grouped by. With "tag", a task counts in the group of each of its tags.
StatisticsField = Literal["executor", "name", "user_id", "label", "tag"]
STATISTICS_FIELDS: Final[tuple[StatisticsField, ...]] = ("executor", "name", "user_id", "label", "tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatistics:
    """The figures of some tasks that have ended. Durations in seconds.

    The duration of a task is the time from the start of its first attempt to its end, so it includes the
    waits before retries. A task that never started does not have one.

    Attributes:
        group: the value that the tasks have in common; None if there is no such value, or without groups.
        retries: attempts after the first one of each task, over all its executions.
        seconds: the sum of the durations.
        p50_seconds: the median duration; None if no task started, as for the next two.
        p95_seconds: the duration that 95 % of the tasks do not exceed; both interpolate linearly.
        max_seconds: the longest duration.
        calls: of language models, as for the next three.
    """

    group: str | None = None
    tasks: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    retries: int = 0
    seconds: float = 0.0
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    max_seconds: float | None = None
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def failure_rate(self) -> float | None:
        """The share of failed tasks among those that completed or failed; None if there are none."""
        decided = self.completed + self.failed
        return self.failed / decided if decided else None

    def to_dict(self) -> dict[str, Json]:
        """Return the figures as interfaces show them, without the group."""
        shown: dict[str, Json] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "group":
                shown[each.name] = round(value, 6) if isinstance(value, float) else value
        rate = self.failure_rate
        return shown | {
            "failure_rate": None if rate is None else round(rate, 6),
            "cost_usd": round(self.cost_usd, 12),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedTask:
    """A task that has ended, and how long it ran: seconds from the start of its first attempt to its end."""

    id: str
    root_id: str
    name: str
    label: str | None
    executor: str | None
    user_id: str | None
    status: TaskStatus
    started_at: datetime
    seconds: float


def duration(task: Task) -> float | None:
    """Return how long a task that has ended ran, in seconds; None if it never started."""
    if task.started_at is None or task.completed_at is None:
        return None
    return max(0.0, (task.completed_at - task.started_at).total_seconds())


def counts(task: Task) -> bool:
    """Return whether a task counts: it has ended, and runs something."""
    return TaskStatus.is_terminal(task.status) and task.executor != GROUP


def summarize(
    tasks: Iterable[Task],
    usage: Mapping[str, UsageTotals],
    group_by: StatisticsField | None,
    limit: int | None,
) -> list[TaskStatistics]:
    """Return the figures of tasks, those of the group with the most tasks first, then by group.

    Args:
        usage: what models used, by id of task.
        limit: the maximum number of groups.
    """
    groups: dict[str | None, list[Task]] = defaultdict(list)
    for task in filter(counts, tasks):
        for group in _groups(task, group_by):
            groups[group].append(task)
    found = [_figures(group, each, usage) for group, each in groups.items()]
    found.sort(key=lambda each: (-each.tasks, each.group is not None, each.group or ""))
    return found[:limit]


def slowest(tasks: Iterable[Task], limit: int) -> list[TimedTask]:
    """Return the tasks that ran longest, the longest first, then by id."""
    found = [
        TimedTask(
            id=task.id,
            root_id=task.root_id,
            name=task.name,
            label=task.label,
            executor=task.executor,
            user_id=task.user_id,
            status=task.status,
            started_at=task.started_at,
            seconds=seconds,
        )
        for task in filter(counts, tasks)
        if (seconds := duration(task)) is not None and task.started_at is not None
    ]
    return sorted(found, key=lambda each: (-each.seconds, each.id))[:limit]


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return a quantile of ascending numbers as SQL's `percentile_cont` defines it; None without numbers."""
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _groups(task: Task, group_by: StatisticsField | None) -> Sequence[str | None]:
    if group_by is None:
        return (None,)
    if group_by == "tag":
        return task.tags or (None,)
    return (getattr(task, group_by),)


def _figures(group: str | None, tasks: Sequence[Task], usage: Mapping[str, UsageTotals]) -> TaskStatistics:
    ordered = sorted(each for each in map(duration, tasks) if each is not None)
    totals = sum((usage[task.id] for task in tasks if task.id in usage), UsageTotals())
    by_status = {status: sum(task.status == status for task in tasks) for status in TaskStatus}
    return TaskStatistics(
        group=group,
        tasks=len(tasks),
        completed=by_status[TaskStatus.COMPLETED],
        failed=by_status[TaskStatus.FAILED],
        cancelled=by_status[TaskStatus.CANCELLED],
        skipped=by_status[TaskStatus.SKIPPED],
        retries=sum(max(0, task.attempt_number - 1) for task in tasks),
        seconds=sum(ordered),
        p50_seconds=quantile(ordered, 0.5),
        p95_seconds=quantile(ordered, 0.95),
        max_seconds=ordered[-1] if ordered else None,
        calls=totals.calls,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        cost_usd=totals.cost_usd,
    )
