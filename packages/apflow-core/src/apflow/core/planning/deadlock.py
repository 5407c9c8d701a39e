"""Finds cycles that keep a tree from finishing, through dependencies and through groups.

Creation rejects cycles that consist of dependencies only. Which tasks are groups is known only when a run
starts, so cycles through a group are found then.
"""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.model.task import GROUP, Task
from apflow.core.planning.plan import contains, number_spans

# Each task has two moments: its start has the number 2 * position, its end 2 * position + 1.
Moments = list[list[int]]


def find_cycle(tasks: Sequence[Task]) -> list[str]:
    """Return the ids of tasks that form a cycle; [] if there are no cycles.

    A group ends after all its members. A member that depends on the group waits only for the group's start.
    """
    followers = _followers(tasks)
    blocked = [0] * len(followers)
    for following in followers:
        for moment in following:
            blocked[moment] += 1
    free = [moment for moment, count in enumerate(blocked) if not count]
    while free:
        for moment in followers[free.pop()]:
            blocked[moment] -= 1
            if not blocked[moment]:
                free.append(moment)
    return _circle(tasks, followers, blocked)


def _followers(tasks: Sequence[Task]) -> Moments:
    """Return, for each moment, the moments that come after it."""
    place = {task.id: at for at, task in enumerate(tasks)}
    has_groups = any(task.executor == GROUP for task in tasks)
    spans = number_spans(tasks) if has_groups else {}
    holders = _nearest_groups(tasks, place) if has_groups else [None] * len(tasks)
    followers: Moments = [[] for _ in range(2 * len(tasks))]
    for at, task in enumerate(tasks):
        followers[2 * at].append(2 * at + 1)
        holder = holders[at]
        if holder is not None:
            followers[2 * at + 1].append(2 * holder + 1)
        for dependency in task.dependencies:
            needed = place.get(dependency["id"])
            if needed is not None:
                is_held = tasks[needed].executor == GROUP and contains(spans, dependency["id"], task.id)
                followers[2 * needed + (not is_held)].append(2 * at)
    return followers


def _nearest_groups(tasks: Sequence[Task], place: dict[str, int]) -> list[int | None]:
    """Return, for each task, the position of the innermost group that contains it."""
    nearest: list[int | None] = [None] * len(tasks)
    is_known = [False] * len(tasks)
    for start in range(len(tasks)):
        path: list[int] = []
        at: int | None = start
        while at is not None and not is_known[at]:
            path.append(at)
            at = place.get(tasks[at].parent_id or "")
        for at in reversed(path):
            parent = place.get(tasks[at].parent_id or "")
            if parent is not None:
                nearest[at] = parent if tasks[parent].executor == GROUP else nearest[parent]
            is_known[at] = True
    return nearest


def _circle(tasks: Sequence[Task], followers: Moments, blocked: list[int]) -> list[str]:
    """Follow blocked moments back to their blockers until a moment repeats, which closes the cycle."""
    moment = next((each for each, count in enumerate(blocked) if count), None)
    if moment is None:
        return []
    causes = {
        later: earlier
        for earlier, following in enumerate(followers)
        if blocked[earlier]
        for later in following
    }
    seen: dict[int, int] = {}
    while moment not in seen:
        seen[moment] = len(seen)
        moment = causes[moment]
    circle = [each for each, at in seen.items() if at >= seen[moment]]
    return list(dict.fromkeys(tasks[each // 2].id for each in circle))
