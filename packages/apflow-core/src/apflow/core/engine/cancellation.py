"""Cancelling tasks of a tree that runs: what ends at once, and what is asked to end."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from apflow.core.engine.attempt import Attempt
from apflow.core.engine.call_admission import CallLimiter
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import GROUP, Task
from apflow.core.model.tree_index import TreeIndex, subtree
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.outcome import cancelled

CANCELLED = TaskStatus.CANCELLED


@dataclass(eq=False)
class CancelRequest:
    """Somebody wants tasks, and all below them, cancelled.

    `done` is set when all of them have ended: to whether any of them ended as cancelled.
    """

    task_ids: list[str]
    message: str | None
    is_forced: bool  # without a grace period
    done: Future[bool] = field(default_factory=Future[bool])
    open_ids: set[str] = field(default_factory=set[str])  # what has not ended yet
    has_cancelled: bool = False  # something has ended as cancelled


class CancelledRun(Protocol):
    """What a cancellation needs of the run of a tree."""

    by_id: dict[str, Task]
    children: dict[str, list[str]]
    retrying: set[str]
    calls: CallLimiter

    def finish(self, task_id: str, status: TaskStatus) -> None:
        """Let the plan know that a task has ended."""

    def end_group_as_cancelled(self, task_id: str) -> None:
        """Let the plan know that a started group will end as cancelled."""

    def cancel(self, request: CancelRequest) -> None:
        """Take up a request in the next turn."""

    def cancel_call(self, attempt: Attempt, *, is_forced: bool) -> None:
        """Let the code of an attempt end."""


class Cancellations:
    """The requests to cancel tasks of one run."""

    def __init__(self, run: CancelledRun) -> None:
        self._run = run
        self._new: list[CancelRequest] = []
        self._taken: list[CancelRequest] = []
        self._is_closed = False

    @property
    def has_new(self) -> bool:
        """Whether a request is to be taken up in the next turn."""
        return bool(self._new)

    def add(self, request: CancelRequest) -> None:
        """Take up a request in the next turn; where the run is over, nothing is left to cancel."""
        if self._is_closed:
            _set(request)
        else:
            self._new.append(request)

    def take_again(self) -> None:
        """Take up every request anew: what was done for them is undone."""
        self._new, self._taken = [*self._taken, *self._new], []

    def take(self, batch: ChangeSet) -> None:
        """Cancel at once what does not run, and durably ask for the end of what does."""
        new, self._new = self._new, []
        for request in new:
            self._taken.append(request)
            tasks = self._run.by_id
            below = subtree(request.task_ids, self._run.children)
            targets = [tasks[each] for each in below if each in tasks and tasks[each].status not in TERMINAL]
            request.open_ids = {task.id for task in targets}
            for task_id in request.task_ids if targets else ():
                self._mark_ended(tasks[task_id], batch)
            for task in targets:
                self._cancel(task, request, batch)
        if new:
            self.answer(batch)

    def answer(self, batch: ChangeSet | None = None) -> None:
        """Answer the requests whose tasks have ended, except by moves that are still to be written."""
        for request in list(self._taken):
            tasks = self._run.by_id
            for each in list(request.open_ids):
                is_written = batch is None or each not in batch.moves
                if each not in tasks or (tasks[each].status in TERMINAL and is_written):
                    request.open_ids.discard(each)
                    request.has_cancelled |= each in tasks and tasks[each].status is CANCELLED
            if not request.open_ids:
                self._taken.remove(request)
                _set(request)

    def close(self) -> None:
        """Answer every request: the run is over."""
        self._is_closed = True
        for request in [*self._taken, *self._new]:
            _set(request)

    def _mark_ended(self, task: Task, batch: ChangeSet) -> None:
        """Note the request on a named task that has ended itself: it decides what the tree ends as."""
        if task.status in TERMINAL and task.cancel_requested_at is None and task.id not in batch.moves:
            batch.request_cancel(task)

    def _cancel(self, task: Task, request: CancelRequest, batch: ChangeSet) -> None:
        run, ended = self._run, cancelled(request.message)
        if batch.changes_status(task.id):  # it is started, or waits for its retry, by this very change
            again = CancelRequest([task.id], request.message, request.is_forced)
            batch.then.append(lambda: run.cancel(again))
        elif task.status is TaskStatus.PENDING:
            batch.end_unstarted(task, ended, is_requested=True)
            run.finish(task.id, CANCELLED)
        elif task.executor == GROUP:
            if task.cancel_requested_at is None:
                batch.request_cancel(task, request.message)
            run.end_group_as_cancelled(task.id)
        elif task.id in run.calls.running:
            self._cancel_running(task, request, batch)
        else:  # it waits for its retry, or nobody runs it
            run.retrying.discard(task.id)
            batch.end(task, ended)
            run.finish(task.id, CANCELLED)

    def _cancel_running(self, task: Task, request: CancelRequest, batch: ChangeSet) -> None:
        attempt = self._run.calls.running[task.id]
        if task.cancel_requested_at is None:
            batch.request_cancel(task, request.message)
        attempt.cancellation.is_requested = True
        attempt.message = request.message
        batch.then.append(lambda: self._run.cancel_call(attempt, is_forced=request.is_forced))


def request_elsewhere(tasks: Sequence[Task], request: CancelRequest, batch: ChangeSet) -> bool:
    """Put into a batch what may be done without owning the tree: end what has not started, ask the rest.

    Returns:
        whether anything is left that has not ended; what has ended as cancelled is noted on the request.
    """
    index = TreeIndex(tasks)
    below = index.subtree(*request.task_ids)
    targets = [index.by_id[each] for each in below if each in index.by_id]
    request.open_ids |= {task.id for task in targets if task.status not in TERMINAL}
    named = request.task_ids if request.open_ids else ()
    ended = cancelled(request.message)
    for task in targets:
        if task.status is TaskStatus.PENDING:
            batch.end_unstarted(task, ended, is_requested=True)
        elif task.cancel_requested_at is None and (task.status not in TERMINAL or task.id in named):
            batch.request_cancel(task, request.message)
        elif task.status is CANCELLED and task.id in request.open_ids:
            request.has_cancelled = True
    return bool(batch.moves) or any(task.status not in TERMINAL for task in targets)


def _set(request: CancelRequest) -> None:
    if not request.done.done():
        request.done.set_result(request.has_cancelled)
