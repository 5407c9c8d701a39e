"""A tree of tasks as nodes, and what its tasks say about the whole.

The status, progress, result and error of a tree are functions of all its tasks; nothing of them is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from apflow.core.errors import NotFoundError, TreeInvalidError
from apflow.core.model.results import Results, RunOutcome
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import Json, Task, has_own_key
from apflow.core.model.tolerance import error_type, tolerated
from apflow.core.model.tree_display import tree_html, tree_mermaid, tree_text

__all__ = ["TaskTreeNode", "TreeSummary", "error_type", "mean_progress", "tolerated", "tree_status"]

Answer = Literal["status", "progress", "result", "error"]

# Failures that follow from another task's failure: they are never the first.
DERIVED_ERRORS = frozenset({"DependencyFailed", "ChildFailed"})


@dataclass(frozen=True, slots=True)
class TreeSummary:
    """What the tasks of a tree add up to."""

    status: TaskStatus
    progress: float  # 0.0 to 1.0; the mean over the tasks, an ended one counts as done
    result: Json  # the root's
    error: str | None  # the first failure that counts, as "task NAME: ..."
    tolerated: list[str]  # ids of failures that do not count, in order of position


class TaskTreeNode:
    """A task with its children. Answers `["status"]`, `["progress"]`, `["result"]` and `["error"]`.

    `print(tree)` shows its tasks, as a notebook does, and `tree.results["key"]` is the result of a task.

    On the root of a tree that was just created, `ids` maps given ids to real ids.
    """

    __slots__ = ("_children", "_ids", "_results", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        # None: no children. Most nodes of a large tree are leaves, and never allocate a list.
        self._children: list[TaskTreeNode] | None = None
        self._ids: dict[str, str] | None = None
        self._results: Results | None = None

    @property
    def children(self) -> list[TaskTreeNode]:
        """The nodes below this one, in order."""
        if self._children is None:
            self._children = []
        return self._children

    @children.setter
    def children(self, children: list[TaskTreeNode]) -> None:
        self._children = children
        self._results = None

    @children.deleter
    def children(self) -> None:
        self._children = None
        self._results = None

    @property
    def is_leaf(self) -> bool:
        """Whether no node is below this one."""
        return not self._children

    @property
    def ids(self) -> dict[str, str]:
        """Given id -> real id, on the root of a tree that was just created."""
        if self._ids is None:
            self._ids = {}
        return self._ids

    @ids.setter
    def ids(self, ids: dict[str, str]) -> None:
        self._ids = ids

    @staticmethod
    def build(tasks: Sequence[Task], root_id: str | None = None) -> TaskTreeNode:
        """Build the nodes of a tree, or of the part below `root_id`, children in the order given.

        Raises:
            TreeInvalidError: the tasks have no root, or several.
            NotFoundError: no task has the id `root_id`.
        """
        nodes = {task.id: TaskTreeNode(task) for task in tasks}
        roots = _link(nodes)
        if root_id is not None:
            if root_id not in nodes:
                raise NotFoundError(root_id)
            return nodes[root_id]
        if len(roots) != 1:
            shown = ", ".join(repr(node.task.name) for node in roots[:5]) or "none"
            raise TreeInvalidError(f"A tree has exactly one root; these {len(nodes)} tasks have: {shown}.")
        return roots[0]

    def add_child(self, child: TaskTreeNode) -> None:
        """Append a child. What is stored decides what runs; this only arranges nodes."""
        self.children.append(child)
        self._results = None

    def walk(self) -> Iterator[TaskTreeNode]:
        """Yield this node and all below it, each node before its children, in order."""
        waiting: list[TaskTreeNode] = [self]
        while waiting:
            node = waiting.pop()
            yield node
            if not node.is_leaf:
                waiting.extend(reversed(node.children))

    def refresh(self, tasks: Sequence[Task]) -> None:
        """Take the tasks as they are stored now. Nodes keep their identity, missing ones appear."""
        known = {node.task.id: node for node in self.walk()}
        nodes: dict[str, TaskTreeNode] = {}
        for task in tasks:
            node = nodes[task.id] = known.get(task.id) or TaskTreeNode(task)
            node.task = task
            del node.children
        _link(nodes)

    @property
    def results(self) -> Results:
        """Key -> result, of the completed tasks from here on down."""
        if self._results is None:
            self._results = Results(lambda: ((node.task.key, node.task) for node in self.walk()))
        return self._results

    def to_mermaid(self) -> str:
        """Return a Mermaid flowchart of the tasks, with dependencies as arrows and statuses as classes."""
        return tree_mermaid(self)

    def summary(self) -> TreeSummary:
        """Return what the tasks from here on down add up to."""
        return tree_status([node.task for node in self.walk()], self.task.id)

    def calculate_progress(self) -> float:
        """Return the mean progress of the tasks from here on down, 0.0 to 1.0."""
        return mean_progress([node.task for node in self.walk()])

    def calculate_status(self) -> TaskStatus:
        """Return the status that the tasks from here on down add up to."""
        return self.summary().status

    def to_dict(self) -> dict[str, Json]:
        """Return the task as plain JSON, with its `children` nested in the same form."""
        shown: dict[str, Json] = self.task.to_dict() | {"children": []}
        waiting: list[tuple[TaskTreeNode, dict[str, Json]]] = [(self, shown)]
        while waiting:
            node, own = waiting.pop()
            for child in () if node.is_leaf else node.children:
                below: dict[str, Json] = child.task.to_dict() | {"children": []}
                own["children"].append(below)
                waiting.append((child, below))
        return shown

    def __getitem__(self, answer: Answer) -> Json:
        if answer == "result":
            return self.task.result
        if answer == "progress":
            return self.calculate_progress()
        if answer in ("status", "error"):
            return getattr(self.summary(), answer)
        raise KeyError(answer)

    def __str__(self) -> str:
        return tree_text(self)

    def _repr_html_(self) -> str:
        return tree_html(self)

    def __repr__(self) -> str:
        return f"<TaskTreeNode {self.task.name!r} {self.task.id}: {len(self._children or ())} children>"


def _link(nodes: dict[str, TaskTreeNode]) -> list[TaskTreeNode]:
    """Append every node to its parent's children; return the nodes without a parent."""
    roots: list[TaskTreeNode] = []
    for node in nodes.values():
        parent = nodes.get(node.task.parent_id) if node.task.parent_id is not None else None
        (roots if parent is None else parent.children).append(node)
    return roots


def tree_status(tasks: Sequence[Task], root_id: str | None = None) -> TreeSummary:
    """Return what the tasks of a tree add up to.

    Args:
        tasks: one or more, in order of position.
        root_id: the task that stands for the whole; by default the one without a parent among these.
    """
    if root_id is None:
        present = {task.id for task in tasks}
        root = next((task for task in tasks if task.parent_id not in present), tasks[0])
    else:
        root = next(task for task in tasks if task.id == root_id)
    states = {task.status for task in tasks}
    uncounted: set[str] = set()
    failures: list[Task] = []
    if TaskStatus.FAILED in states:
        uncounted = tolerated(tasks)
        failures = [task for task in tasks if task.status == TaskStatus.FAILED]
    return TreeSummary(
        status=_status(root, tasks, states, uncounted),
        progress=1.0 if states <= TERMINAL else mean_progress(tasks),
        result=root.result,
        error=_first_error([task for task in failures if task.id not in uncounted]),
        tolerated=[task.id for task in failures if task.id in uncounted],
    )


def tree_outcome(tasks: Sequence[Task], root_id: str) -> RunOutcome:
    """Return what every call that runs a tree and waits for it returns."""
    summary = tree_status(tasks, root_id)
    values: dict[str, Json] = {
        "status": str(summary.status),
        "progress": summary.progress,
        "root_task_id": root_id,
        "result": summary.result,
        "error": summary.error,
        "tolerated": summary.tolerated,
    }
    return RunOutcome(values, lambda: ((task.key, task) for task in tasks))


def _status(root: Task, tasks: Sequence[Task], states: Set[TaskStatus], uncounted: Set[str]) -> TaskStatus:
    """Return the status of a tree; `states` are those of its tasks, `uncounted` the tolerated failures."""
    has_ended = states <= TERMINAL
    if has_ended and root.cancel_requested_at is not None:
        return TaskStatus.CANCELLED
    if not has_ended:
        has_started = any(t.started_at is not None or TaskStatus.is_active(t.status) for t in tasks)
        return TaskStatus.IN_PROGRESS if has_started else TaskStatus.PENDING
    ends = {task.status for task in tasks if task.id not in uncounted} if uncounted else states
    worst_first = (TaskStatus.FAILED, TaskStatus.CANCELLED)
    return next((status for status in worst_first if status in ends), TaskStatus.COMPLETED)


def mean_progress(tasks: Sequence[Task]) -> float:
    """Return the mean progress of tasks, an ended one counting as done."""
    done = sum(task.fraction for task in tasks)
    return done / len(tasks) if tasks else 0.0


def _first_error(failures: Sequence[Task]) -> str | None:
    """Name the failure that came first, one that others followed from before those."""
    if not failures:
        return None
    first = min(failures, key=_when_it_failed)
    key = f" ({first.key})" if has_own_key(first) else ""
    return f"task {first.name}{key}: {first.error or error_type(first) or 'failed'}"


_NEVER = datetime.max.replace(tzinfo=UTC)


def _when_it_failed(task: Task) -> tuple[bool, datetime, int]:
    return error_type(task) in DERIVED_ERRORS, task.completed_at or _NEVER, task.position
