"""Which tasks a run of a part of a tree may start: those that its scope names, and their elements. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from apflow.core.model.for_each import has_for_each
from apflow.core.model.task import Task


def in_scope_ids(tasks: Sequence[Task], scope: Collection[str]) -> frozenset[str]:
    """Return the ids of the tasks in the scope of a run of a part of a tree.

    A run that creates the elements of a task runs them, too: their ids are not in the scope that is stored.

    Args:
        tasks: the whole tree in order of position, so that elements come after what creates them.
        scope: the ids that the run names.
    """
    named = frozenset(scope)
    creating = {task.id for task in tasks if task.id in named and has_for_each(task)}
    if not creating:
        return named
    created: set[str] = set()
    for task in tasks:
        if task.parent_id in creating:
            creating.add(task.id)
            created.add(task.id)
    return named | created
