"""The deadline of a run: when its tree must have ended, and what ends when it passes. Pure.

The deadline is in the policy of the root. It counts from the stored request of the run, so that it holds over
restarts and in every process that runs the tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apflow.core.bounds import MAX_SECONDS
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import AFTER_ANY_END, GROUP, Policy, Task
from apflow.core.model.tree_index import subtree
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.outcome import DEADLINE_EXCEEDED, Outcome, failed
from apflow.core.planning.run_events import CancelCall, DeadlinePassed
from apflow.core.planning.run_state import RunPhase, RunState


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the run of a tree must have ended.

    Attributes:
        at: when all tasks fail that do not clean up.
        cleanup_until: when the tasks that clean up fail, too.
        longest: the seconds from the request of the run to `at`; None if the policy names a time.
    """

    at: datetime
    cleanup_until: datetime
    longest: float | None

    @property
    def cleanup_seconds(self) -> float:
        """The seconds for clean-up after the deadline."""
        return (self.cleanup_until - self.at).total_seconds()


def deadline_of(root: Task) -> Deadline | None:
    """Return the deadline of the requested run of a tree; None if there is no deadline or no run."""
    policy = Policy.from_json(root.policy)
    if policy.deadline is None or root.run_requested_at is None:
        return None
    if isinstance(policy.deadline, str):
        at, longest = datetime.fromisoformat(policy.deadline), None
    else:
        longest = float(min(policy.deadline, MAX_SECONDS))
        at = root.run_requested_at + timedelta(seconds=longest)
    return Deadline(at, at + timedelta(seconds=min(policy.cleanup_timeout, MAX_SECONDS)), longest)


def end_unfinished(event: DeadlinePassed, state: RunState[Any], changes: ChangeSet) -> bool:
    """Fail the tasks of a run that have not ended; return False if some must wait for the next change.

    Tasks that clean up are left until the time for clean-up is over. A started group ends when what is in it
    has ended. A run that only cancels or drains changes nothing: the next run of the tree has the same
    deadline.
    """
    if state.phase not in (RunPhase.STARTING, RunPhase.RUNNING):
        return True
    left = set[str]() if event.is_final else cleaning_up(state)
    is_complete, ended = True, list[str]()
    for task in state.tasks:
        if state.has_ended(task) or task.id in left or _follows(task, state):
            continue
        if changes.changes_status(task.id):
            is_complete = False
        elif task.id in state.running:
            _end_call(task, event, state, changes)
        elif task.status is TaskStatus.PENDING:
            changes.end_unstarted(task, _outcome(event))
            ended.append(task.id)
        elif task.id in state.retrying:
            changes.end(task, _outcome(event))
            ended.append(task.id)
        else:
            is_complete = False  # its start is durable, and its call is about to be made
    state.retrying.difference_update(ended)
    state.plan.finish_all(ended, TaskStatus.FAILED)
    return is_complete


def cleaning_up(state: RunState[Any]) -> set[str]:
    """Return the ids of the tasks that run after others have failed, and of what is in groups that do."""
    later = [task for task in state.tasks if task.dependencies and _runs_after_any_end(task)]
    groups = [task.id for task in later if task.executor == GROUP]
    return {task.id for task in later} | set(subtree(groups, state.children))


def _runs_after_any_end(task: Task) -> bool:
    return task.policy.get("trigger") in AFTER_ANY_END


def _follows(task: Task, state: RunState[Any]) -> bool:
    """Return whether the end of a task follows, or is already derived, from other tasks."""
    node = state.plan.nodes[task.id]
    if task.executor == GROUP:
        return node.status is not TaskStatus.PENDING
    return node.status in TERMINAL


def _end_call(task: Task, event: DeadlinePassed, state: RunState[Any], changes: ChangeSet) -> None:
    """Request the end of a call. If its cancellation is requested, it ends as cancelled."""
    if task.cancel_requested_at is None:
        state.running[task.id].fail_late(_outcome(event))
    changes.touch(task)
    changes.then.append(CancelCall(task.id, is_forced=event.is_final))


def _outcome(event: DeadlinePassed) -> Outcome:
    return failed(DEADLINE_EXCEEDED, event.message)


def message_of(deadline: Deadline, *, is_final: bool) -> str:
    """Return why tasks fail when a deadline passes, or when the time for clean-up after it is over."""
    at = f"{deadline.at:%Y-%m-%d %H:%M:%S} UTC"
    if is_final:
        return (
            f"The deadline of the tree was {at}, and clean-up may take {deadline.cleanup_seconds:g} s after "
            "it. Allow more with `policy.cleanup_timeout` of the root"
        )
    return f"The tree had to end by {at}. Allow more with `policy.deadline` of the root"
