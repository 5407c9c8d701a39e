"""Who is whose child, and who needs whom, in a set of tasks.

Every walk here is a loop over a list, never a call that calls itself: a chain of 100,000 tasks is as good
as any other tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from apflow.core.model.task import GROUP, Task


class TreeIndex:
    """The edges of a tree, both ways. Tasks keep the order in which they were given."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.by_id = {task.id: task for task in tasks}
        self.children: dict[str, list[str]] = {}
        self.dependents: dict[str, list[tuple[str, bool]]] = {}  # id -> (who needs it, whether required)
        for task in tasks:
            if task.parent_id is not None and task.parent_id in self.by_id:
                self.children.setdefault(task.parent_id, []).append(task.id)
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
