"""Tolerated failures of a tree: those whose dependents are optional on them, and continued."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.model.tree_index import TreeIndex


def error_type(task: Task) -> str | None:
    """Return the `error_type` of a task's result, if it has one."""
    result = task.result
    if not isinstance(result, dict):
        return None
    found = cast("dict[str, Json]", result).get("error_type")
    return found if isinstance(found, str) else None


def tolerated(tasks: Sequence[Task]) -> set[str]:
    """Return the ids of the failed tasks that do not count against the tree.

    A failed task is tolerated when it has dependents, and each of them is optional on it or is itself a
    tolerated failure. What failed or was cancelled inside a tolerated failed group does not count either.
    """
    if not any(task.status == TaskStatus.FAILED for task in tasks):
        return set()
    index = TreeIndex(tasks)
    found = tolerated_failures(index)
    groups = [task_id for task_id in found if index.is_group(task_id)]
    inside = index.subtree(*groups) if groups else []
    ended_badly = (TaskStatus.FAILED, TaskStatus.CANCELLED)
    return found | {each for each in inside if index.by_id[each].status in ended_badly}


def tolerated_failures(index: TreeIndex) -> set[str]:
    """Return the failures that are tolerated themselves, working back from those that nothing requires."""
    objectors: dict[str, int] = {}  # failed task -> dependents that require it and are not tolerated (yet)
    for task in index.by_id.values():
        needed_by = index.dependents.get(task.id)
        if needed_by and task.status == TaskStatus.FAILED:
            objectors[task.id] = sum(required for _, required in needed_by)
    found = {task_id for task_id, count in objectors.items() if count == 0}
    waiting = list(found)
    while waiting:
        for dependency in index.by_id[waiting.pop()].dependencies:
            needed = dependency["id"]
            if dependency["required"] and needed in objectors:
                objectors[needed] -= 1
                if objectors[needed] == 0:
                    found.add(needed)
                    waiting.append(needed)
    return found
