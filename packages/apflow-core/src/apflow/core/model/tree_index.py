"""The edges of a tree of tasks, and walks along them: children, ancestors, dependents, subtrees, spans.

No walk recurses: a chain of 100,000 tasks works like any other tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from apflow.core.model.task import GROUP, Task

Spans = dict[str, tuple[int, int]]  # task id -> its number, and the last number below it


class TreeIndex:
    """The edges of a tree, both ways. Tasks keep the order in which they were given."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.by_id = {task.id: task for task in tasks}
        self.children = children_by_parent(tasks)
        self.dependents: dict[str, list[tuple[str, bool]]] = {}  # id -> (dependent, whether required)
        for task in tasks:
            for dependency in task.dependencies:
                self.dependents.setdefault(dependency["id"], []).append((task.id, dependency["required"]))

    def roots(self) -> list[str]:
        """Return the ids of the tasks whose parent is not among these tasks."""
        return [task.id for task in self.by_id.values() if task.parent_id not in self.by_id]

    def subtree(self, *task_ids: str) -> list[str]:
        """Return these tasks and everything below them, parents before children, each once."""
        return subtree(task_ids, self.children)

    def ancestors(self, task_id: str) -> Iterator[str]:
        """Yield the tasks that contain a task, the nearest first."""
        parent = self.by_id[task_id].parent_id
        while parent is not None and parent in self.by_id:
            yield parent
            parent = self.by_id[parent].parent_id

    def all_ancestors(self, task_ids: Iterable[str]) -> set[str]:
        """Return every task that contains one of these, in time linear in the tree."""
        found: set[str] = set()
        for task_id in task_ids:
            for ancestor in self.ancestors(task_id):
                if ancestor in found:
                    break
                found.add(ancestor)
        return found

    def is_group(self, task_id: str) -> bool:
        """Return whether a task only holds others."""
        return self.by_id[task_id].executor == GROUP


def children_by_parent(tasks: Iterable[Task]) -> dict[str, list[str]]:
    """Return the ids of the children of each parent, in the order given; parents may be outside the tasks."""
    children: dict[str, list[str]] = {}
    for task in tasks:
        if task.parent_id is not None:
            children.setdefault(task.parent_id, []).append(task.id)
    return children


def subtree(task_ids: Iterable[str], children: Mapping[str, Iterable[str]]) -> list[str]:
    """Return these tasks and everything below them, parents before children, each once."""
    found = dict.fromkeys(task_ids)
    waiting = list(found)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found[child] = None
                waiting.append(child)
    return list(found)


def nearest_ancestors(by_id: Mapping[str, Task], wanted: Set[str]) -> dict[str, str | None]:
    """Return the nearest ancestor of each task that is among the wanted ones, in linear time.

    The walk ends even where parents form a cycle.
    """
    nearest = {task_id: task.parent_id for task_id, task in by_id.items() if task.parent_id in wanted}
    for task in by_id.values():
        path: list[str] = []
        at: Task | None = task
        while at is not None and at.id not in nearest:
            nearest[at.id] = None
            path.append(at.id)
            at = by_id.get(at.parent_id) if at.parent_id else None
        if at is not None and path:
            nearest.update(dict.fromkeys(path, nearest[at.id]))
    return nearest


def number_spans(tasks: Sequence[Task]) -> Spans:
    """Number the tasks by a walk, so that everything below a task has numbers within its span."""
    children = children_by_parent(tasks)
    spans: Spans = {}
    count = 0
    stack: list[tuple[str, int, Iterator[str]]] = []
    for root in (task.id for task in tasks if not task.parent_id):
        stack.append((root, count, iter(children.get(root, ()))))
        while stack:
            task_id, first, below = stack[-1]
            child = next(below, None)
            if child is None:
                spans[task_id] = (first, count)
                stack.pop()
            else:
                count += 1
                stack.append((child, count, iter(children.get(child, ()))))
        count += 1
    return spans


def contains(spans: Spans, task_id: str, inner: str) -> bool:
    """Return whether one task is below another, by their spans."""
    (first, last), (at, _) = spans[task_id], spans[inner]
    return first < at <= last
