"""Which `always` tasks a cancellation leaves to run. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import ALWAYS, Task


def left_by_cancellation(
    open_tasks: Sequence[Task],
    named: Collection[str],
    tasks: Mapping[str, Task],
    *,
    is_forced: bool,
    is_repeated: bool,
) -> set[str]:
    """Return the ids of the tasks that a cancellation does not end, because they clean up.

    These are the tasks with the trigger `always` that have started or depend on a task that has, or on
    another one of these. A cancellation that is forced, that names the task, or for which no other task is
    left to cancel ends them, too.

    Args:
        open_tasks: the tasks that the cancellation is about and that have not ended.
        named: the ids that the cancellation names.
        tasks: all tasks of the tree.
        is_forced: whether the cancellation is forced.
        is_repeated: whether the same request was handled before, so that its other tasks may have ended.
    """
    if is_forced:
        return set()
    waiting: dict[str, list[str]] = {}  # dependency -> tasks that clean up after it
    kept: set[str] = set()
    for task in open_tasks:
        if task.policy.get("trigger") != ALWAYS or task.id in named:
            continue
        if task.status is TaskStatus.IN_PROGRESS or _has_started_dependency(task, tasks):
            kept.add(task.id)
        for dependency in task.dependencies:
            waiting.setdefault(dependency["id"], []).append(task.id)
    spreading = list(kept)
    while spreading:
        for task_id in waiting.get(spreading.pop(), ()):
            if task_id not in kept:
                kept.add(task_id)
                spreading.append(task_id)
    has_more = any(task.id not in kept and task.cancel_requested_at is None for task in open_tasks)
    return kept if is_repeated or has_more else set()


def _has_started_dependency(task: Task, tasks: Mapping[str, Task]) -> bool:
    needed = (tasks.get(each["id"]) for each in task.dependencies)
    return any(each is not None and each.started_at is not None for each in needed)
