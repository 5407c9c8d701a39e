"""Whether a tree could ever finish: its dependencies, and groups that wait for what is in them.

Creation refuses cycles of dependencies. Whether a task is a group is known only when a run starts, so
cycles through a group are looked for then.
"""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.plan import contains, number_spans
from apflow.core.task import GROUP, Task


def find_cycle(tasks: Sequence[Task]) -> list[str]:
    """Return the ids of tasks that wait for each other in a circle; [] if there is none.

    A group has two moments. It ends after all that is in it; its start is enough for a task inside it
    that depends on it.
    """
    waits_for = _constraints(tasks)
    blocked = dict.fromkeys(waits_for, 0)
    followers: dict[tuple[str, bool], list[tuple[str, bool]]] = {moment: [] for moment in waits_for}
    for moment, causes in waits_for.items():
        for cause in causes:
            if cause in followers:
                blocked[moment] += 1
                followers[cause].append(moment)
    free = [moment for moment, count in blocked.items() if not count]
    while free:
        for follower in followers[free.pop()]:
            blocked[follower] -= 1
            if not blocked[follower]:
                free.append(follower)
    return _walk_back({moment for moment, count in blocked.items() if count}, waits_for)


def _constraints(tasks: Sequence[Task]) -> dict[tuple[str, bool], list[tuple[str, bool]]]:
    """Return what each moment waits for. A moment is (task id, whether it is the end)."""
    groups = {task.id for task in tasks if task.executor == GROUP}
    spans = number_spans(tasks) if groups else {}
    waits_for: dict[tuple[str, bool], list[tuple[str, bool]]] = {}
    for task in tasks:
        waits_for[task.id, False] = [
            (each["id"], not (each["id"] in groups and contains(spans, each["id"], task.id)))
            for each in task.dependencies
            if each["id"] in spans or not groups
        ]
        waits_for[task.id, True] = [(task.id, False)]
    parents = {task.id: task.parent_id for task in tasks}
    holder = _nearest_groups(tasks, groups, parents) if groups else {}
    for task_id, group in holder.items():
        waits_for[group, True].append((task_id, True))
    return waits_for


def _nearest_groups(
    tasks: Sequence[Task], groups: set[str], parents: dict[str, str | None]
) -> dict[str, str]:
    """Return, for each task inside a group, the innermost one."""
    nearest: dict[str, str | None] = {}
    for task in tasks:
        path: list[str] = []
        above: str | None = task.id
        while above is not None and above not in nearest:
            path.append(above)
            above = parents.get(above)
        for task_id in reversed(path):
            parent = parents.get(task_id)
            nearest[task_id] = parent if parent in groups else nearest.get(parent) if parent else None
    return {task_id: group for task_id, group in nearest.items() if group is not None}


def _walk_back(
    left: set[tuple[str, bool]], waits_for: dict[tuple[str, bool], list[tuple[str, bool]]]
) -> list[str]:
    """Follow what waits until a moment comes again: that is a circle."""
    if not left:
        return []
    moment = min(left)
    seen: dict[tuple[str, bool], int] = {}
    path: list[tuple[str, bool]] = []
    while moment not in seen:
        seen[moment] = len(path)
        path.append(moment)
        moment = next(cause for cause in waits_for[moment] if cause in left)
    return list(dict.fromkeys(task_id for task_id, _ in path[seen[moment] :]))
