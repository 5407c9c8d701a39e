"""What a run of a tree would do: the waves in which tasks start, and the chain that takes longest. Pure.

Both are found by running `Plan` without executors, so that groups and dependencies count as in a run. As many
tasks as are ready run at once, every condition is true, and every task completes. A task with `for_each`
counts as one task, because the length of its list is not known.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task
from apflow.core.planning.plan import Plan


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """The chain of tasks that decides how long a run takes: each starts when the one before it has ended."""

    task_ids: list[str]
    seconds: float


def waves_of(tasks: Sequence[Task]) -> list[list[str]]:
    """Return the ids of the tasks that run, in waves: those of a wave need only tasks of earlier ones.

    Within a wave they are in the order of their start. Groups and tasks that have ended are left out.

    Args:
        tasks: a whole tree in order of position, with `executor` decided, and each with `for_each` as one
            task; see `without_items`.
    """
    plan = Plan(tasks)
    waves: list[list[str]] = []
    while ready := _take_ready(plan, len(tasks)):
        waves.append(ready)
        for task_id in ready:
            plan.finish(task_id, TaskStatus.COMPLETED)
    return waves


def _take_ready(plan: Plan, count: int) -> list[str]:
    """Return the ids of the tasks that are ready, as if every condition was true."""
    while plan.undecided:
        plan.accept(plan.undecided.popleft())
    return plan.take_ready(count)


def critical_path(tasks: Sequence[Task], seconds: Mapping[str, float]) -> CriticalPath:
    """Return the critical path of a run.

    Args:
        tasks: a whole tree in order of position, with `executor` decided.
        seconds: how long each task runs; a task that is not named takes no time.
    """
    plan, order = Plan(tasks), count()
    released_by: dict[str, str | None] = {}
    running: list[tuple[float, int, str]] = []
    now, last = 0.0, None
    while True:
        for task_id in _take_ready(plan, len(tasks)):
            released_by[task_id] = last
            heapq.heappush(running, (now + seconds.get(task_id, 0.0), next(order), task_id))
        if not running:
            return CriticalPath(_chain(last, released_by), now)
        now, _, last = heapq.heappop(running)
        plan.finish(last, TaskStatus.COMPLETED)


def _chain(last: str | None, released_by: Mapping[str, str | None]) -> list[str]:
    chain: list[str] = []
    while last is not None:
        chain.append(last)
        last = released_by[last]
    return chain[::-1]
