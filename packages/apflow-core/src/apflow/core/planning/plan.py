"""Decides which tasks can start, which never can, and when groups end, from the tasks that have ended.

Pure: no await, no I/O. A run of a tree of V tasks and E dependencies costs O((V + E) log V) in total, counted
in `Plan.steps`. The functions do not recurse.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from apflow.core.model.for_each import has_for_each
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import AFTER_ANY_END, GROUP, ON_FAILURE, ON_SUCCESS, Task
from apflow.core.model.tolerance import decide_tolerance
from apflow.core.model.tree_index import contains, number_spans
from apflow.core.planning.plan_nodes import Edge, Node
from apflow.core.planning.scope import in_scope_ids

PENDING, IN_PROGRESS = TaskStatus.PENDING, TaskStatus.IN_PROGRESS
COMPLETED, FAILED, CANCELLED = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED
SKIPPED = TaskStatus.SKIPPED


def choose_executor(task: Task, is_known: Callable[[str], bool]) -> str | None:
    """Return the executor id of a task, `GROUP`, or None if nothing can run it.

    The order is: `GROUP` for a task with `for_each`; `params.executor_id`; `schemas.method`; the name of the
    task, if such an executor is known; `GROUP`, if the task has children. If an explicitly named executor
    does not exist, the start of the task fails.
    """
    if has_for_each(task):
        return GROUP
    named = task.params.get("executor_id") or task.schemas.get("method")
    if named:
        return str(named)
    if is_known(task.name):
        return task.name
    return GROUP if task.has_children else None


@dataclass(frozen=True, slots=True)
class DerivedOutcome:
    """A change of status that follows from other tasks, without a call of an executor."""

    task_id: str
    status: TaskStatus
    # For failed, cancelled and skipped: the first task that ended so. None: the group itself, or a task that
    # is skipped because nothing failed.
    cause: str | None = None
    failures: int = 0  # for a failed task with `for_each`: how many of its elements failed


class Plan:
    """The state of one run: record ended tasks, and take derived outcomes and ready tasks.

    Args:
        tasks: the whole tree, in order of position, with `executor` decided.
        scope: ids that this run may start, fail or close; None means every task.
    """

    def __init__(self, tasks: Sequence[Task], scope: Collection[str] | None = None) -> None:
        self.steps = 0
        self._ready: list[tuple[int, int, str, Node]] = []
        self.derived: list[DerivedOutcome] = []
        # Tasks whose conditions or lists must be evaluated before they start, or whose results must be
        # collected before they end; some may have ended since.
        self.undecided: deque[str] = deque()
        self._tolerated: dict[Node, bool] = {}
        self._ended: deque[Node] = deque()  # to be carried to those that wait for them
        self._closing: deque[Node] = deque()  # ended and carried: their subtrees may be complete
        self._released: deque[Node] = deque()  # perhaps ready now
        within = None if scope is None else in_scope_ids(tasks, scope)
        self.nodes = {task.id: Node(task, within is None or task.id in within) for task in tasks}
        self._open = sum(1 for node in self.nodes.values() if node.in_scope and node.status not in TERMINAL)
        self._link(tasks)
        self._begin()

    def discard(self) -> None:
        """Forget all nodes, at the end of a run: they form cycles, which only the garbage collector frees."""
        for node in self.nodes.values():
            node.dependents.clear()
            node.parent = None
        self.nodes.clear()
        self._ready.clear()
        self._tolerated.clear()

    @property
    def is_done(self) -> bool:
        """Whether every task in scope has ended."""
        return self._open == 0

    def take_ready(self, limit: int) -> list[str]:
        """Return up to `limit` ids to start now, in order of priority, and mark them as started."""
        taken: list[str] = []
        while self._ready and len(taken) < limit:
            self.steps += 1
            node = heapq.heappop(self._ready)[3]
            node.is_queued = False
            if node.status is PENDING and not node.not_ready:
                node.status = IN_PROGRESS
                taken.append(node.id)
        return taken

    def count_ready(self) -> int:
        """Return how many tasks wait only for a free slot; some of several may not wait any more."""
        while self._ready and self._ready[0][3].status is not PENDING:
            heapq.heappop(self._ready)[3].is_queued = False
        return len(self._ready)

    def take_derived(self) -> list[DerivedOutcome]:
        """Return the outcomes derived since the last call, in order."""
        derived, self.derived = self.derived, []
        return derived

    def finish(self, task_id: str, status: TaskStatus) -> None:
        """Record that a task ended, or that a pending task was cancelled."""
        node = self.nodes[task_id]
        if node.status not in TERMINAL:
            self._end(node, status, node.id if status is not COMPLETED else None)
            self._settle()

    def finish_all(self, task_ids: Iterable[str], status: TaskStatus) -> None:
        """Record that tasks ended together: nothing follows for one of them from the end of another."""
        for task_id in task_ids:
            self._end(self.nodes[task_id], status, task_id)
        self._settle()

    def accept(self, task_id: str) -> None:
        """Record that the condition of a task is true. If it is not, `finish` ends the task."""
        node = self.nodes[task_id]
        node.is_undecided = node.is_queued = False
        self._queue(node)
        self._settle()

    def expand(self, task_id: str, tasks: Sequence[Task]) -> None:
        """Add the tasks of the elements of a task with `for_each`, and start it.

        Args:
            tasks: parents before what is in them. They depend on each other, and on tasks that have ended.
        """
        group = self.nodes[task_id]
        assert group.elements is not None
        group.is_queued, group.status = False, IN_PROGRESS
        group.elements.is_created = True
        nodes = {task.id: Node(task, group.in_scope) for task in tasks}
        self.nodes.update(nodes)
        self._open += len(nodes)
        for task, node in zip(tasks, nodes.values(), strict=True):
            self.steps += 1
            self._put_in(node, self.nodes[task.parent_id or task_id])
        for task, node in zip(tasks, nodes.values(), strict=True):
            for dependency in task.dependencies:
                self.steps += 1
                other = nodes.get(dependency["id"])
                if other is not None:
                    on_start = other.is_group and node.is_inside(other)
                    other.dependents.append((node, dependency["required"], on_start))
                    node.not_ready += 1
        self._released.extend(group.elements.admit())
        self._released.extend(nodes.values())
        self._group_started(group)
        self._settle()

    def is_undecided(self, task_id: str) -> bool:
        """Whether the condition of a task is not evaluated yet."""
        return self.nodes[task_id].is_undecided

    def wait(self, task_id: str) -> None:
        """Record that a started task waits for its retry. `put_back` makes it ready again."""
        self.nodes[task_id].is_undecided = False  # it has started
        self.nodes[task_id].status = PENDING
        self.nodes[task_id].not_ready += 1

    def put_back(self, task_id: str) -> None:
        """Make a task that waited for its retry ready again."""
        node = self.nodes[task_id]
        node.not_ready -= 1
        self._queue(node)
        self._settle()

    def request_cancel(self, task_id: str) -> None:
        """Record that a started group ends as cancelled, regardless of its members."""
        self.nodes[task_id].cancel_requested = True

    def stuck(self) -> list[str]:
        """Return the tasks that wait forever, when no task is running or ready."""
        return [node.id for node in self.nodes.values() if node.in_scope and node.status not in TERMINAL]

    def _link(self, tasks: Sequence[Task]) -> None:
        nodes = self.nodes
        for task in tasks:
            self.steps += 1
            parent = nodes.get(task.parent_id) if task.parent_id else None
            if parent is not None:
                self._put_in(nodes[task.id], parent)
        spans = number_spans(tasks) if any(node.is_group for node in nodes.values()) else {}
        for task in tasks:
            node = nodes[task.id]
            edges: dict[tuple[bool, bool], Edge] = {}  # shared, because a task may have many dependents
            for dependency in task.dependencies:
                self.steps += 1
                other = nodes.get(dependency["id"])
                if other is None:
                    node.not_ready += 1
                    continue
                kind = dependency["required"], other.is_group and contains(spans, other.id, node.id)
                other.dependents.append(edges.setdefault(kind, (node, *kind)))
                node.not_ready += 1

    def _put_in(self, node: Node, parent: Node) -> None:
        """Put a task in the task that contains it."""
        node.parent = parent
        # An unfinished task outside the scope does not delay its group: this run never ends that task.
        if node.in_scope or node.status in TERMINAL:
            parent.open_children += 1
        else:
            node.is_closed = True
        if parent.elements is not None:
            parent.elements.add(node)

    def _begin(self) -> None:
        """Load the stored statuses into the plan: ended tasks and started groups."""
        for node in self.nodes.values():
            self.steps += 1
            if node.elements is not None:
                node.elements.admit()
            if node.status in TERMINAL:
                node.blame = node.id if node.status is not COMPLETED else None
                self._ended.append(node)
        self._settle()
        for node in self.nodes.values():
            if node.is_group and node.status is IN_PROGRESS:
                self._group_started(node)
            self._released.append(node)
        self._settle()

    def _settle(self) -> None:
        """Derive all consequences, without recursion.

        Failures propagate completely before any group is closed, because whether a failure is tolerated
        depends on the outcomes of its dependents.
        """
        while True:
            if self._ended:
                self._spread(self._ended.popleft())
            elif self._closing:
                self._close(self._closing.popleft())
            elif self._released:
                self._queue(self._released.popleft())
            else:
                return

    def _queue(self, node: Node) -> None:
        """Make a pending task ready: a group starts at once, another task when a slot is free.

        A task that needs a skipped one is skipped, and so is one for failures if there is none. One with a
        condition is ready when that is found true.
        """
        if node.status is not PENDING or node.not_ready or node.is_queued or not node.in_scope:
            return
        has_no_cause = node.trigger == ON_FAILURE and not node.has_failed_dependency
        if node.skipped_by is not None or has_no_cause:
            self._end(node, SKIPPED, node.skipped_by or node.id)
            self.derived.append(DerivedOutcome(node.id, SKIPPED, node.skipped_by))
            return
        if node.is_undecided:
            node.is_queued = True
            self.undecided.append(node.id)
            return
        if node.elements is not None and not node.elements.is_created:
            node.is_queued = True
            self.undecided.append(node.id)
            return
        if node.is_group:
            node.status = IN_PROGRESS
            self.derived.append(DerivedOutcome(node.id, IN_PROGRESS))
            self._group_started(node)
            return
        self.steps += max(1, len(self._ready).bit_length())
        node.is_queued = True
        heapq.heappush(self._ready, (node.priority, node.position, node.id, node))

    def _group_started(self, group: Node) -> None:
        group.has_started = True
        for waiting, _, on_start in group.dependents:
            self.steps += 1
            if on_start:
                waiting.not_ready -= 1
                self._released.append(waiting)
        self._end_group_if_empty(group)

    def _end_group_if_empty(self, group: Node) -> None:
        if group.status is not IN_PROGRESS or group.open_children or not group.in_scope:
            return
        elements = group.elements
        has_failed = elements is None or elements.has_too_many_failures()
        if group.cancel_requested:
            status, blame = CANCELLED, None
        elif group.first_failure and has_failed:
            status, blame = FAILED, group.first_failure
        else:
            status, blame = (CANCELLED if group.has_cancelled else COMPLETED), None
        if elements is not None and status is COMPLETED:
            group.first_failure = None  # those within do not count, and it may still fail for itself
            if not elements.is_collecting:
                elements.is_collecting = True
                self.undecided.append(group.id)
            return
        self._end(group, status, blame or group.id)
        failures = elements.failures if elements is not None and status is FAILED else 0
        self.derived.append(DerivedOutcome(group.id, status, blame, failures))

    def _end(self, node: Node, status: TaskStatus, blame: str | None) -> None:
        node.status = status
        node.blame = blame
        if node.in_scope:
            self._open -= 1
        self._ended.append(node)

    def _spread(self, node: Node) -> None:
        """Update the dependents of an ended task."""
        for waiting, required, on_start in node.dependents:
            self.steps += 1
            if on_start and node.has_started:
                continue
            is_accepted = node.status in (COMPLETED, SKIPPED) or waiting.trigger in AFTER_ANY_END
            if is_accepted or not required:
                waiting.has_failed_dependency |= node.status is FAILED
                # What needs a skipped task is skipped when all that it needs has ended: a failure takes
                # precedence, whatever comes first.
                if required and node.status is SKIPPED and waiting.trigger == ON_SUCCESS:
                    waiting.skipped_by = waiting.skipped_by or node.blame
                waiting.not_ready -= 1
                if not waiting.not_ready:
                    self._released.append(waiting)
            elif waiting.in_scope and waiting.status is PENDING:
                status = FAILED if node.status is FAILED else CANCELLED
                self._end(waiting, status, node.blame)
                self.derived.append(DerivedOutcome(waiting.id, status, node.blame))
        self._closing.append(node)

    def _close(self, node: Node) -> None:
        """Close a subtree in which all tasks have ended, and the ancestors that this completes."""
        while node.status in TERMINAL and not node.open_children and not node.is_closed:
            self.steps += 1
            node.is_closed = True
            parent = node.parent
            if parent is None:
                return
            self._hand_up(node, parent)
            parent.open_children -= 1
            if parent.elements is not None and parent.elements.for_each.max_parallel is not None:
                parent.elements.close(node)
                self._released.extend(parent.elements.admit())
            if parent.is_group and parent.status is IN_PROGRESS:
                self._end_group_if_empty(parent)
                return
            node = parent

    def _hand_up(self, node: Node, parent: Node) -> None:
        """Report the first failure and any cancellation of a closed subtree to its parent."""
        failure, cancelled = node.first_failure, node.has_cancelled
        if node.status is FAILED:
            if not self.is_tolerated(node.id):
                failure = node.blame if node.is_group and node.first_failure else node.id
            elif node.is_group:
                return  # members of a tolerated failed group do not count either
        if failure and parent.elements is not None:
            parent.elements.failures += 1
        if failure and not parent.first_failure:
            parent.first_failure = failure
        parent.has_cancelled |= cancelled or node.status is CANCELLED

    def is_tolerated(self, task_id: str) -> bool:
        """Whether a failed task does not count against the groups around it."""
        node = self.nodes[task_id]
        decide_tolerance((node,), self._dependents_of, _has_failed, self._tolerated)
        return self._tolerated[node]

    def _dependents_of(self, node: Node) -> list[tuple[Node, bool]]:
        self.steps += 1 + len(node.dependents)
        return [
            (waiting, is_required)
            for waiting, is_required, _ in node.dependents
            if not (is_required and waiting.trigger in AFTER_ANY_END)
        ]


def _has_failed(node: Node) -> bool:
    return node.status is FAILED
