"""Finds cycles that keep a tree from finishing, through dependencies and through groups.

Creation rejects cycles that consist of dependencies only. Which tasks are groups is known only when a run
starts, so cycles through a group are found then.
"""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.model.cycles import find_numbered_cycle
from apflow.core.model.task import GROUP, Task
from apflow.core.model.tree_index import contains, nearest_ancestors, number_spans

# Each task has two moments: its start has the number 2 * position, its end 2 * position + 1.
Moments = list[list[int]]


def find_deadlock(tasks: Sequence[Task]) -> list[str]:
    """Return the ids of tasks that wait for each other in a cycle; [] if there is none.

    A group ends after everything in it; a task inside a group that depends on the group waits only for its
    start.
    """
    moments = find_numbered_cycle(_followers(tasks))
    # An edge leads to what comes later; the answer names after each task the one that it waits for.
    waiting = [*moments[:1], *reversed(moments[1:])]
    return list(dict.fromkeys(tasks[moment // 2].id for moment in waiting))


def _followers(tasks: Sequence[Task]) -> Moments:
    """Return, for each moment, the moments that come after it."""
    place = {task.id: at for at, task in enumerate(tasks)}
    groups = {task.id for task in tasks if task.executor == GROUP}
    needs_group = groups and any(each["id"] in groups for task in tasks for each in task.dependencies)
    spans = number_spans(tasks) if needs_group else {}
    group_of = nearest_ancestors({task.id: task for task in tasks}, groups) if groups else {}
    followers: Moments = [[] for _ in range(2 * len(tasks))]
    for at, task in enumerate(tasks):
        followers[2 * at].append(2 * at + 1)
        group = group_of.get(task.id)
        if group is not None:
            followers[2 * at + 1].append(2 * place[group] + 1)
        for dependency in task.dependencies:
            needed = place.get(dependency["id"])
            if needed is not None:
                is_held = dependency["id"] in groups and contains(spans, dependency["id"], task.id)
                followers[2 * needed + (not is_held)].append(2 * at)
    return followers
