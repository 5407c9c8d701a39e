"""Which tasks of a tree are shown: all of them, or those that matter, with counts of the others.

Nothing recurses with the size of a tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json

# What a person looks for in a large tree.
NOTABLE = frozenset({TaskStatus.FAILED, TaskStatus.IN_PROGRESS})


@dataclass(frozen=True, slots=True)
class TreeLine:
    """A line of a tree: a task, or how many of the tasks below its parent are not shown."""

    depth: int
    task: Mapping[str, Json] | None
    hidden: Mapping[str, int]  # status -> number of tasks; empty on the line of a task


@dataclass(frozen=True, slots=True)
class _Place:
    task: Mapping[str, Json]
    depth: int
    parent: int  # index among the places; -1 for the root


def tree_lines(
    root: Mapping[str, Json],
    *,
    statuses: Collection[str] = (),
    depth: int | None = None,
    limit: int | None = None,
) -> Iterator[TreeLine]:
    """Yield the lines of a nested tree, in its order.

    Args:
        statuses: show only tasks with one of these, and their ancestors; all if empty.
        depth: levels below the root that are shown.
        limit: show at most so many tasks, ancestors of these not counted. A larger tree is reduced to the
            tasks that failed or run, if no statuses are given.
    """
    places = _places(root)
    wanted: Collection[str] = statuses
    if limit is not None and len(places) > limit and not statuses and depth is None:
        wanted = NOTABLE
    yield from _emit(places, _kept(places, wanted, depth, limit))


def ids_of(
    root: Mapping[str, Json], statuses: Collection[str] = (), depth: int | None = None
) -> Iterator[str]:
    """Yield the ids of the tasks that match, in the order of the tree."""
    for place in _places(root):
        if (depth is None or place.depth <= depth) and (not statuses or place.task["status"] in statuses):
            yield str(place.task["id"])


def _places(root: Mapping[str, Json]) -> list[_Place]:
    found: list[_Place] = []
    waiting: list[tuple[Mapping[str, Json], int, int]] = [(root, 0, -1)]
    while waiting:
        task, depth, parent = waiting.pop()
        found.append(_Place(task, depth, parent))
        at = len(found) - 1
        waiting.extend((child, depth + 1, at) for child in reversed(task["children"]))
    return found


def _kept(
    places: Sequence[_Place], wanted: Collection[str], depth: int | None, limit: int | None
) -> set[int]:
    """Return the places that are shown: the root, those that match, and their ancestors."""
    matching = [
        at
        for at, place in enumerate(places)
        if (depth is None or place.depth <= depth) and (not wanted or place.task["status"] in wanted)
    ]
    kept = {0}
    for at in matching[:limit]:
        while at not in kept:
            kept.add(at)
            at = places[at].parent
    return kept


def _emit(places: Sequence[_Place], kept: set[int]) -> Iterator[TreeLine]:
    hidden = _hidden(places, kept)
    opened: list[int] = []  # the places on the way from the root, whose counts are still to come
    for at, place in enumerate(places):
        if at not in kept:
            continue
        while opened and places[opened[-1]].depth >= place.depth:
            yield from _count_line(places, hidden, opened.pop())
        yield TreeLine(place.depth, place.task, {})
        opened.append(at)
    while opened:
        yield from _count_line(places, hidden, opened.pop())


def _hidden(places: Sequence[_Place], kept: set[int]) -> dict[int, Counter[str]]:
    """Return the number of hidden tasks by status, by the nearest place above that is shown."""
    found: dict[int, Counter[str]] = {}
    nearest: list[int] = []
    for at, place in enumerate(places):
        nearest.append(at if at in kept else nearest[place.parent])
        if at not in kept:
            found.setdefault(nearest[at], Counter())[str(place.task["status"])] += 1
    return found


def _count_line(
    places: Sequence[_Place], hidden: Mapping[int, Mapping[str, int]], at: int
) -> Iterator[TreeLine]:
    if at in hidden:
        yield TreeLine(places[at].depth + 1, None, hidden[at])


def counts_text(hidden: Mapping[str, int]) -> str:
    """Return numbers of tasks by status as text, such as `98 completed, 2 pending`."""
    return ", ".join(
        f"{hidden[each]} {each.replace('_', ' ')}" for each in map(str, TaskStatus) if hidden.get(each)
    )
