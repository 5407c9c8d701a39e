"""Stores results of code that held the interpreter for longer than the lease of its tree.

While a C call holds the interpreter, no thread of the process renews leases, so another process takes the
tree and runs the task again. The first result is stored, even if the tree has another owner by then, unless
the task has ended, has another generation, or its cancellation is requested. A task of effect `once` fails as
`Interrupted` when the tree is taken, so its late result is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from apflow.core.engine.attempt import Attempt
from apflow.core.errors import ApflowError, ConflictError
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import Task, utc_now
from apflow.core.planning.change_set import ChangeSet
from apflow.core.store.base import TaskStore

logger = logging.getLogger(__name__)

ATTEMPTS = 5  # to store a result while the new owner changes the task


@dataclass
class Hold:
    """What a run knows about a period in which code held the interpreter.

    `was_held` returns whether the lease may have expired in such a period. `is_held` returns whether the
    period is ending now, so that code that ends now may have held the interpreter.
    """

    was_held: Callable[[], bool] = lambda: False
    is_held: Callable[[], bool] = lambda: False
    grace: float = 0.0  # seconds that code which was delayed by the hold has to end
    suspects: list[Task] = field(default_factory=list[Task])  # tasks whose code ended when the hold ended


def late_results(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return the attempts whose results can be stored late."""
    return [
        each
        for each in attempts
        if each.outcome is not None
        and each.outcome.status is TaskStatus.COMPLETED
        and not each.is_cancelled
        and each.context.effect(each.task) != "once"
    ]


async def deliver(
    store: TaskStore, root_id: str, requested_at: datetime | None, owner: str, attempts: Iterable[Attempt]
) -> None:
    """Store late results of a tree that now has another owner. Failures are logged."""
    for attempt in attempts:
        task = attempt.task
        try:
            is_stored = await _deliver(store, root_id, requested_at, owner, attempt)
        except ApflowError as error:
            logger.warning("The late result of task %s (tree %s) is lost: %s", task.id, root_id, error)
            continue
        what = "is stored: no other attempt had ended" if is_stored else "is dropped: the task has ended"
        logger.warning("The late result of task %s (%r, tree %s) %s.", task.id, task.name, root_id, what)


async def _deliver(
    store: TaskStore, root_id: str, requested_at: datetime | None, owner: str, attempt: Attempt
) -> bool:
    for _ in range(ATTEMPTS):
        stored = await store.get([root_id, attempt.task.id])
        root, task = stored.get(root_id), stored.get(attempt.task.id)
        if root is None or task is None or root.run_requested_at != requested_at or root.run_ended_at:
            return False
        if task.status in TERMINAL or task.generation != attempt.generation or task.cancel_requested_at:
            return False
        try:
            await store.write(_ending(task, root_id, owner, attempt).change())
        except ConflictError:
            continue
        return True
    return False


def _ending(task: Task, root_id: str, owner: str, attempt: Attempt) -> ChangeSet:
    """Return the change that ends a task with a late result and makes this process the task's owner."""
    assert attempt.outcome is not None  # only attempts with an outcome are delivered
    changes = ChangeSet(root_id, owner, utc_now())
    if task.status is TaskStatus.PENDING:  # the new owner has reset it and not started it yet
        changes.start(task)
    changes.end(task, attempt.outcome)
    changes.put(task, {}, {"owner": owner})
    return changes
