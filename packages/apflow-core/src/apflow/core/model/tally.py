"""How many tasks of a tree have which status: what a list shows of a tree without reading its tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task


@dataclass(frozen=True, slots=True)
class TreeTally:
    """The tasks of a tree by status, and how far they are."""

    by_status: Mapping[TaskStatus, int]  # no zeros
    done: float  # the sum of the progress of all tasks, 0.0 to 1.0 each; a task that has ended counts as 1.0
    has_started: bool  # a task has ever started

    @property
    def total(self) -> int:
        """The number of tasks."""
        return sum(self.by_status.values())

    @property
    def progress(self) -> float:
        """The mean progress of the tasks, 0.0 to 1.0."""
        return self.done / self.total

    def status(self, root: Task) -> TaskStatus | None:
        """Return the status of the tree, as `tree_status` does; None if the numbers do not decide it.

        That is the case where failures may be tolerated, which depends on the tasks themselves.
        """
        if not all(TaskStatus.is_terminal(each) for each in self.by_status):
            return TaskStatus.IN_PROGRESS if self.has_started else TaskStatus.PENDING
        if root.cancel_requested_at is not None:
            return TaskStatus.CANCELLED
        if self.by_status.keys() <= {TaskStatus.COMPLETED, TaskStatus.SKIPPED}:
            return TaskStatus.COMPLETED
        # The outcome of a group that has started follows the same rules as that of its tree.
        follows = root.executor == GROUP and root.status is not TaskStatus.SKIPPED
        return root.status if follows else None


def tally_of(tasks: Iterable[Task]) -> TreeTally:
    """Return the tally of a tree's tasks."""
    by_status: Counter[TaskStatus] = Counter()
    done, has_started = 0.0, False
    for task in tasks:
        by_status[task.status] += 1
        done += task.fraction
        has_started = has_started or task.started_at is not None or TaskStatus.is_active(task.status)
    return TreeTally(by_status, done, has_started)
