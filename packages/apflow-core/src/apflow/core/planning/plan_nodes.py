"""The tasks of a plan, and the elements of those that have `for_each`. Only `Plan` changes their fields."""

from __future__ import annotations

from apflow.core.model.for_each import ForEach
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import GROUP, ON_SUCCESS, Task


class Elements:
    """The elements of a task with `for_each`."""

    __slots__ = ("count", "failures", "for_each", "is_collecting", "is_created", "open", "waiting")

    def __init__(self, for_each: ForEach) -> None:
        self.for_each = for_each
        self.is_created = False
        self.is_collecting = False  # all have ended, and the result is being collected
        self.count = 0
        self.failures = 0
        # With `max_parallel`: elements that wait for others to end, in order, and how many do not wait.
        self.waiting: dict[Node, None] = {}
        self.open = 0

    def add(self, node: Node) -> None:
        """Add an element, which waits if it has not started and may have to."""
        self.is_created = True
        self.count += 1
        if self.for_each.max_parallel is None:
            return
        if node.status is TaskStatus.PENDING and node.in_scope:
            node.not_ready += 1
            self.waiting[node] = None
        elif node.in_scope or node.status in TERMINAL:
            self.open += 1

    def close(self, node: Node) -> None:
        """Record that an element, and everything in it, has ended."""
        if node in self.waiting:
            del self.waiting[node]
        else:
            self.open -= 1

    def admit(self) -> list[Node]:
        """Return the elements that no longer have to wait."""
        limit = self.for_each.max_parallel
        admitted: list[Node] = []
        while limit is not None and self.waiting and self.open < limit:
            node = next(iter(self.waiting))
            del self.waiting[node]
            self.open += 1
            node.not_ready -= 1
            admitted.append(node)
        return admitted

    def has_too_many_failures(self) -> bool:
        """Return whether more elements have failed than may."""
        return self.failures > self.for_each.allowed(self.count)


class Node:
    """One task."""

    __slots__ = (
        "blame", "cancel_requested", "dependents", "elements", "first_failure", "has_cancelled",
        "has_failed_dependency", "has_started", "id", "in_scope", "is_closed", "is_group", "is_queued",
        "is_undecided", "not_ready", "open_children", "parent", "position", "priority", "skipped_by",
        "status", "trigger",
    )  # fmt: skip

    def __init__(self, task: Task, in_scope: bool) -> None:
        self.id = task.id
        self.status = task.status
        self.priority, self.position = task.priority, task.position
        self.in_scope = in_scope
        self.is_group = task.executor == GROUP
        self.is_queued = False
        self.cancel_requested = task.cancel_requested_at is not None
        self.not_ready = 0  # dependencies that have not ended
        self.dependents: list[Edge] = []
        self.parent: Node | None = None
        self.open_children = 0  # children with an unfinished task in their subtree
        self.is_closed = False  # the task and its whole subtree have ended
        self.trigger: str = task.policy.get("trigger", ON_SUCCESS)
        self.is_undecided = bool(task.policy.get("when"))  # its condition is not evaluated yet
        self.has_failed_dependency = False
        self.skipped_by: str | None = None  # the first skipped task that it needs, directly or not
        self.blame: str | None = None  # the failed, cancelled or skipped task that caused its end, by its id
        self.first_failure: str | None = None  # in its subtree, except tolerated failures
        self.has_cancelled = False  # in its subtree
        self.has_started = False  # for a group: its start has released waiting members
        for_each = ForEach.of(task) if self.is_group else None
        self.elements = None if for_each is None else Elements(for_each)

    def is_inside(self, other: Node) -> bool:
        """Return whether another task contains this one, directly or not."""
        above = self.parent
        while above is not None and above is not other:
            above = above.parent
        return above is other


Edge = tuple[Node, bool, bool]  # dependent, is it required, does the start of the group suffice
