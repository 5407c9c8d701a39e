"""Whether tasks hang together as one tree whose dependencies have an order. Pure and linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apflow.core.authoring.field_validation import Violations
from apflow.core.model.task import Task

SHOWN = 10  # tasks of a circle that are spelled out


def check_shape(tasks: Sequence[Task], places: Sequence[str], faults: Violations) -> None:
    """Check one root, and that neither parents nor dependencies run in circles."""
    roots = [at for at, task in enumerate(tasks) if task.parent_id is None]
    if len(roots) > 1:
        named = ", ".join(places[at] for at in roots[:SHOWN]) + (", ..." if len(roots) > SHOWN else "")
        faults.add("", f"a tree has exactly one root, but {len(roots)} tasks have no parent_id: {named}.")
    place = {task.id: places[at] for at, task in enumerate(tasks)}
    above = {task.id: [task.parent_id] if task.parent_id in place else [] for task in tasks}
    circle = find_circle({task_id: [each for each in ids if each] for task_id, ids in above.items()})
    if circle:
        faults.add(
            place[circle[0]], f"tasks contain each other: {_chain(circle, place)}. Change a parent_id."
        )
    elif not roots:
        faults.add("", "no task is the root: leave parent_id out in exactly one.")
    needs = {task.id: [each["id"] for each in task.dependencies] for task in tasks}
    circle = find_circle(needs)
    if circle:
        advice = "Remove one of these dependencies."
        faults.add(place[circle[0]], f"dependencies run in a circle: {_chain(circle, place)}. {advice}")


def _chain(circle: Sequence[str], place: Mapping[str, str]) -> str:
    named = [place.get(each, each) for each in circle[:SHOWN]]
    more = [f"... ({len(circle) - SHOWN} more)"] if len(circle) > SHOWN else []
    return " -> ".join([*named, *more, named[0]])


def find_circle(leads_to: Mapping[str, Sequence[str]]) -> list[str]:
    """Return nodes of which each leads to the next and the last to the first; [] if there are none."""
    open_edges = dict.fromkeys(leads_to, 0)
    led_from: dict[str, list[str]] = {node: [] for node in leads_to}
    for node, following in leads_to.items():
        for each in following:
            if each in led_from:
                open_edges[node] += 1
                led_from[each].append(node)
    free = [node for node, count in open_edges.items() if count == 0]
    while free:
        for node in led_from[free.pop()]:
            open_edges[node] -= 1
            if open_edges[node] == 0:
                free.append(node)
    left = {node for node, count in open_edges.items() if count}
    return _follow(leads_to, left) if left else []


def _follow(leads_to: Mapping[str, Sequence[str]], left: set[str]) -> list[str]:
    """Walk among nodes that all lead to another of them, until one comes again."""
    node = next(each for each in leads_to if each in left)
    visited: dict[str, int] = {}
    while node not in visited:
        visited[node] = len(visited)
        node = next(each for each in leads_to[node] if each in left)
    return list(visited)[visited[node] :]
