"""Requests to cancel tasks of a tree that runs in this process or in another one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from apflow.core.engine.attempt import Attempt
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import Task
from apflow.core.model.tree_index import TreeIndex
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.cleanup import left_by_cancellation
from apflow.core.planning.outcome import cancelled
from apflow.core.planning.run_events import CancelRequested
from apflow.core.planning.run_state import RunState

CANCELLED = TaskStatus.CANCELLED


@dataclass(eq=False)
class CancelRequest:
    """A request to cancel tasks and their descendants.

    When all of them have ended, `done` receives whether any of them ended as cancelled.
    """

    task_ids: list[str]
    message: str | None
    is_forced: bool  # without a grace period, and without clean-up
    is_repeated: bool = False  # it was handled before, and the tree has been read again
    done: Future[bool] = field(default_factory=Future[bool])
    open_ids: set[str] = field(default_factory=set[str])  # tasks that have not ended yet
    has_cancelled: bool = False  # whether a task has ended as cancelled

    def event(self) -> CancelRequested:
        """Return the request as an event for the run."""
        return CancelRequested(self.task_ids, self.message, self.is_forced, self.is_repeated)


class Cancellations:
    """The unanswered cancel requests of one run."""

    def __init__(self, state: RunState[Attempt]) -> None:
        self._state = state
        self.new: list[CancelRequest] = []  # for the next turn
        self._taken: list[CancelRequest] = []
        self._is_closed = False

    def add(self, request: CancelRequest) -> None:
        """Queue a request for the next turn. If the run is over, answer it immediately."""
        if self._is_closed:
            _set(request)
        else:
            self.new.append(request)

    def take_again(self) -> None:
        """Queue all requests again, because their changes were undone."""
        for request in self._taken:
            request.is_repeated = True
        self.new, self._taken = [*self._taken, *self.new], []

    def take_new(self) -> list[CancelRequest]:
        """Return the queued requests. They are answered when their tasks have ended."""
        new, self.new = self.new, []
        self._taken += new
        return new

    def answer(self, changes: ChangeSet | None = None) -> None:
        """Answer the requests whose tasks have ended, unless the transitions are not written yet."""
        tasks = self._state.by_id
        for request in list(self._taken):
            for each in list(request.open_ids):
                is_written = changes is None or each not in changes.moves
                if each not in tasks or (tasks[each].status in TERMINAL and is_written):
                    request.open_ids.discard(each)
                    request.has_cancelled |= each in tasks and tasks[each].status is CANCELLED
            if not request.open_ids:
                self._taken.remove(request)
                _set(request)

    def close(self) -> None:
        """Answer all requests, because the run is over."""
        self._is_closed = True
        for request in [*self._taken, *self.new]:
            _set(request)


def request_elsewhere(tasks: Sequence[Task], request: CancelRequest, changes: ChangeSet) -> bool:
    """Add a cancellation without ownership of the tree: end unstarted tasks, request the end of the others.

    Returns:
        Whether unfinished tasks remain, other than those that clean up. Tasks that ended as cancelled are
        recorded on the request.
    """
    index = TreeIndex(tasks)
    below = index.subtree(*request.task_ids)
    targets = [index.by_id[each] for each in below if each in index.by_id]
    left = left_by_cancellation(
        [task for task in targets if task.status not in TERMINAL],
        request.task_ids,
        index.by_id,
        is_forced=request.is_forced,
        is_repeated=request.is_repeated,
    )
    request.is_repeated = True
    targets = [task for task in targets if task.id not in left]
    request.open_ids |= {task.id for task in targets if task.status not in TERMINAL}
    named = request.task_ids if request.open_ids else ()
    ended = cancelled(request.message)
    for task in targets:
        if task.status is TaskStatus.PENDING:
            changes.end_unstarted(task, ended, is_requested=True)
        elif task.cancel_requested_at is None and (task.status not in TERMINAL or task.id in named):
            changes.request_cancel(task, request.message)
        elif task.status is CANCELLED and task.id in request.open_ids:
            request.has_cancelled = True
    return bool(changes.moves) or any(task.status not in TERMINAL for task in targets)


def _set(request: CancelRequest) -> None:
    if not request.done.done():
        request.done.set_result(request.has_cancelled)
