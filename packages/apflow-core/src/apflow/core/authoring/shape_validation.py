"""Checks that tasks form one tree and that their dependencies form no cycle. Pure and linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apflow.core.authoring.violation import Violations
from apflow.core.model.cycles import find_cycle
from apflow.core.model.task import Task

SHOWN = 10  # tasks of a cycle that a message names


def check_shape(tasks: Sequence[Task], places: Sequence[str], faults: Violations) -> None:
    """Check one root, and that neither parents nor dependencies form a cycle."""
    roots = [at for at, task in enumerate(tasks) if task.parent_id is None]
    if len(roots) > 1:
        named = ", ".join(places[at] for at in roots[:SHOWN]) + (", ..." if len(roots) > SHOWN else "")
        faults.add("", f"a tree has exactly one root, but {len(roots)} tasks have no parent_id: {named}.")
    place = {task.id: places[at] for at, task in enumerate(tasks)}
    above = {task.id: [task.parent_id] if task.parent_id in place else [] for task in tasks}
    cycle = find_cycle({task_id: [each for each in ids if each] for task_id, ids in above.items()})
    if cycle:
        faults.add(place[cycle[0]], f"tasks contain each other: {_chain(cycle, place)}. Change a parent_id.")
    elif not roots:
        faults.add("", "no task is the root: leave parent_id out in exactly one.")
    needs = {task.id: [each["id"] for each in task.dependencies] for task in tasks}
    cycle = find_cycle(needs)
    if cycle:
        advice = "Remove one of these dependencies."
        faults.add(place[cycle[0]], f"dependencies run in a circle: {_chain(cycle, place)}. {advice}")


def _chain(cycle: Sequence[str], place: Mapping[str, str]) -> str:
    named = [place.get(each, each) for each in cycle[:SHOWN]]
    more = [f"... ({len(cycle) - SHOWN} more)"] if len(cycle) > SHOWN else []
    return " -> ".join([*named, *more, named[0]])
