"""Decides what a run writes and does. Pure: it maps events to transitions and instructions.

`RunMachine` never waits and does not use an event loop: `TreeRun` writes the transitions to the store and
carries out the instructions. The same events in the same turns give the same transitions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Generic

from apflow.core.model.event import EventType
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import GROUP, Json, Policy, Task
from apflow.core.model.tree import TreeSummary, tree_status
from apflow.core.model.tree_index import subtree
from apflow.core.planning.change_set import TREE_ENDED, ChangeSet
from apflow.core.planning.cleanup import left_by_cancellation
from apflow.core.planning.deadline import end_unfinished
from apflow.core.planning.decision import decide
from apflow.core.planning.derived_outcome import outcome_of
from apflow.core.planning.fan_out import FanOutLimits
from apflow.core.planning.outcome import Outcome, cancelled, failed, interrupted, may_retry
from apflow.core.planning.plan import DerivedOutcome
from apflow.core.planning.run_events import (
    AttemptEnded,
    CancelAgain,
    CancelCall,
    CancelRequested,
    DeadlinePassed,
    DrainExpired,
    EndRun,
    PostHooksEnded,
    ProgressReported,
    RestoreCall,
    RestorePhase,
    RetryDue,
    ReturnPlaces,
    RunEvent,
    RunFailed,
    RunPostHooks,
    ScheduleRetry,
    StartCalls,
    TasksAdmitted,
    TasksRefused,
)
from apflow.core.planning.run_start import in_scope
from apflow.core.planning.run_state import CallT, RunPhase, RunState

PENDING, IN_PROGRESS = TaskStatus.PENDING, TaskStatus.IN_PROGRESS
COMPLETED, FAILED, CANCELLED = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED
SKIPPED = TaskStatus.SKIPPED


class RunMachine(Generic[CallT]):
    """The decisions of one run.

    Args:
        effect: returns the effect of a task, which decides whether it may run twice.
        has_post_hooks: whether post-hooks exist. If so, dependents of a task wait for its post-hooks.
        has_tree_hooks: whether end hooks exist. If so, the request of the run is cleared only after them.
        fan_out: what tasks with `for_each` may create; by default what the settings have by default.
    """

    def __init__(
        self,
        state: RunState[CallT],
        *,
        effect: Callable[[Task], str],
        has_post_hooks: bool = False,
        has_tree_hooks: bool = False,
        fan_out: FanOutLimits | None = None,
    ) -> None:
        self.state = state
        self._fan_out = fan_out or FanOutLimits()
        self._effect = effect
        self._has_post_hooks = has_post_hooks
        self._has_tree_hooks = has_tree_hooks

    def handle(self, event: RunEvent, changes: ChangeSet) -> bool:
        """Add the consequences of an event to the changes; return False if it must wait for the next."""
        return self._HANDLERS[type(event)](self, event, changes) is not False

    def derive(self, changes: ChangeSet) -> None:
        """Add transitions that follow from ended tasks and from conditions.

        A second transition of the same task waits, and conditions wait for it: they may read its result.
        """
        self._derive_ends(changes)
        if self.state.plan.undecided and not self.state.derived and not self.state.is_closing:
            decide(self.state, changes, self._fan_out)
            self._derive_ends(changes)

    def _derive_ends(self, changes: ChangeSet) -> None:
        derived = self.state.derived
        if self.state.plan.derived:
            derived.extend(self.state.plan.take_derived())
        while derived and not changes.changes_status(derived[0].task_id):
            self._derive(derived.popleft(), changes)

    def close(self, changes: ChangeSet, *, is_carried_out: bool) -> None:
        """End the run, or release the tree to other processes, if either is due.

        Args:
            is_carried_out: whether the instructions of all durable changes are carried out.
        """
        state = self.state
        is_done = state.plan.is_done
        is_drained = state.phase is RunPhase.DRAINING and is_carried_out
        if not (is_done or is_drained) or state.phase in (RunPhase.ENDING, RunPhase.OVER):
            return
        if state.is_at_work or not state.is_settled:
            return  # the ends of calls and what is derived are written first
        if is_done:
            self._end_run(changes)
        else:
            self.release(changes)
            self._enter_ending(changes, EndRun(None))

    def release(self, changes: ChangeSet) -> None:
        """Put back the tasks that a drain interrupted, and clear the owner of the run."""
        state = self.state
        for task_id in [each for each in state.interrupted if each in state.by_id]:
            task = state.by_id[task_id]
            if task.status is not IN_PROGRESS or task.cancel_requested_at is not None:
                continue
            if state.interrupted[task_id] and self._effect(task) == "once":
                changes.end(task, interrupted("Its process was shut down during the call"))
            else:
                changes.interrupt(task, counts=False)
        changes.put(state.by_id[state.root_id], {}, {"run_owner": None})

    def cancel(self, event: CancelRequested, changes: ChangeSet) -> set[str]:
        """Cancel tasks that do not run, and request the end of those that do; return unfinished ones.

        Tasks that clean up are left, see `left_by_cancellation`, where this process can run them.
        """
        tasks = self.state.by_id
        below = subtree(event.task_ids, self.state.children)
        targets = [tasks[each] for each in below if each in tasks and tasks[each].status not in TERMINAL]
        left = left_by_cancellation(
            targets,
            event.task_ids,
            tasks,
            is_forced=event.is_forced or self.state.is_closing,
            is_repeated=event.is_repeated,
        )
        targets = [task for task in targets if task.id not in left]
        for task_id in event.task_ids if targets else ():
            task = tasks[task_id]
            # Also record the request on a named task that has ended: it decides how the tree ends.
            if task.status in TERMINAL and task.cancel_requested_at is None and task.id not in changes.moves:
                changes.request_cancel(task)
        open_ids = {task.id for task in targets}
        for task in targets:
            self._cancel(task, event, changes)
        return open_ids

    def hold_waiting(self, now: datetime) -> list[Task]:
        """Withhold the tasks that wait for a retry, and return them. Called after the tree is read."""
        state = self.state
        waiting: list[Task] = []
        for task in state.tasks:
            is_left = task.status is IN_PROGRESS and task.executor != GROUP and task.id not in state.running
            if is_left or (task.status is PENDING and task.not_before is not None and task.not_before > now):
                state.plan.wait(task.id)
                state.retrying.add(task.id)
                waiting.append(task)
        return waiting

    def restore(self, call: CallT) -> None:
        """Restore a call whose end could not be written."""
        task_id = call.task.id
        self.state.running[task_id] = call
        self.state.retrying.discard(task_id)
        self.state.hooking.pop(task_id, None)

    # --- events ------------------------------------------------------------------------------------

    def _end_attempt(self, event: AttemptEnded, changes: ChangeSet) -> bool:
        state, task_id = self.state, event.task_id
        call = state.running.get(task_id)
        if call is None or (call.number, call.generation) != (event.number, event.generation):
            return True  # it was abandoned
        if changes.changes_status(task_id):
            return False
        task, outcome = call.task, event.outcome
        if task.cancel_requested_at is not None and outcome.status is not CANCELLED:
            outcome = call.cancelled(outcome)
        del state.running[task_id]
        changes.undo.append(RestoreCall(call))
        if outcome.status is FAILED and self._retry(call, outcome, changes):
            return True
        changes.end(task, outcome, call.started_at)
        if self._has_post_hooks and event.was_called:
            state.hooking[task_id] = call
            changes.then.append(RunPostHooks(task_id, outcome))
        else:
            state.plan.finish(task_id, outcome.status)
        return True

    def _retry(self, call: CallT, outcome: Outcome, changes: ChangeSet) -> bool:
        task = call.task
        policy = Policy.from_json(task.policy)
        if not may_retry(outcome, policy, task.attempts, self._effect(task)):
            return False
        seconds = policy.retry.wait(task.attempts)
        if policy.retry.jitter:
            seconds *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
        changes.wait(task, seconds, outcome, call.started_at)
        self.state.plan.wait(task.id)
        self.state.retrying.add(task.id)
        changes.then.append(ScheduleRetry(task.id, seconds))
        return True

    def _end_post_hooks(self, event: PostHooksEnded, _: ChangeSet) -> None:
        self.state.hooking.pop(event.task_id, None)
        self.state.plan.finish(event.task_id, event.status)

    def _end_wait(self, event: RetryDue, _: ChangeSet) -> None:
        state = self.state
        if event.reading != state.reading or event.task_id not in state.retrying:
            return
        if state.by_id[event.task_id].generation == event.generation:
            state.plan.put_back(event.task_id)

    def _take_progress(self, event: ProgressReported, changes: ChangeSet) -> None:
        task_id = event.task_id
        task = self.state.by_id[task_id]
        if task_id in self.state.running and task.status is IN_PROGRESS and task_id not in changes.moves:
            changes.progress(task, event.fraction)

    def _start(self, event: TasksAdmitted, changes: ChangeSet) -> None:
        for task_id in event.task_ids:
            task = self.state.by_id[task_id]
            if task.status is IN_PROGRESS:
                self.state.retrying.discard(task_id)
                changes.try_again(task)
            else:
                changes.start(task)
        changes.then.append(StartCalls(event.task_ids))
        changes.undo.append(ReturnPlaces(event.task_ids))

    def _refuse(self, event: TasksRefused, changes: ChangeSet) -> None:
        outcome = failed("TreeInvalid", event.message)
        for task_id in event.task_ids:
            task = self.state.by_id[task_id]
            if task.status in TERMINAL:
                continue
            if task.status is IN_PROGRESS:
                changes.end(task, outcome)
            else:
                changes.end_unstarted(task, outcome)
            self.state.plan.finish(task_id, FAILED)
        self.state.plan.take_derived()

    def _abandon(self, _: DrainExpired, __: ChangeSet) -> None:
        running = self.state.running
        for task_id, call in list(running.items()):
            if call.outcome is None:
                del running[task_id]
                self.state.interrupted[task_id] = call.was_called

    def _end_unfinished(self, event: DeadlinePassed, changes: ChangeSet) -> bool:
        return end_unfinished(event, self.state, changes)

    def _fail(self, event: RunFailed, _: ChangeSet) -> None:
        raise event.error

    # --- what follows ------------------------------------------------------------------------------

    def _derive(self, derived: DerivedOutcome, changes: ChangeSet) -> None:
        state = self.state
        task = state.by_id[derived.task_id]
        if task.status in TERMINAL:
            return  # it was cancelled in the meantime
        if (
            state.is_closing
            and task.status is PENDING
            and derived.status in (IN_PROGRESS, COMPLETED, SKIPPED)
        ):
            return
        if derived.status is IN_PROGRESS:
            changes.start_group(task)
        elif task.status is IN_PROGRESS:
            changes.end(task, outcome_of(derived, state.by_id, state.children))
        else:
            changes.end_unstarted(task, outcome_of(derived, state.by_id, state.children))

    def _cancel(self, task: Task, event: CancelRequested, changes: ChangeSet) -> None:
        state, ended = self.state, cancelled(event.message)
        if changes.changes_status(task.id):  # the change being built starts it or schedules its retry
            again = CancelRequested([task.id], event.message, event.is_forced, is_repeated=True)
            changes.then.append(CancelAgain(again))
        elif task.status is PENDING:
            changes.end_unstarted(task, ended, is_requested=True)
            state.plan.finish(task.id, CANCELLED)
        elif task.executor == GROUP:
            if task.cancel_requested_at is None:
                changes.request_cancel(task, event.message)
            state.plan.request_cancel(task.id)
        elif task.id in state.running:
            if task.cancel_requested_at is None:
                changes.request_cancel(task, event.message)
            state.running[task.id].request_cancel(event.message)
            changes.then.append(CancelCall(task.id, event.is_forced))
        else:  # the task waits for its retry, or no process runs it
            state.retrying.discard(task.id)
            changes.end(task, ended)
            state.plan.finish(task.id, CANCELLED)

    def _end_run(self, changes: ChangeSet) -> None:
        """Add the end of the run to the change of its last task, or to a new one if that one is written."""
        state = self.state
        root = state.by_id[state.root_id]
        has_more = root.run_ended_at is not None or not all(map(state.has_ended, state.tasks))
        if state.is_closing and has_more:
            return  # the end is already written
        summary = self._summarise()
        sets: dict[str, Json] = {"run_ended_at": changes.now}
        if not self._has_tree_hooks:  # there are no end hooks to wait for: clear the request
            sets |= {"run_requested_at": None, "run_owner": None}
        event = changes.event(TREE_ENDED.get(summary.status, EventType.TREE_COMPLETED), root)
        event.status, event.progress = summary.status, summary.progress
        event.result, event.error = summary.result, summary.error
        changes.put(root, {"run_owner": root.run_owner, "run_ended_at": None}, sets, event)
        self._enter_ending(changes, EndRun(summary))

    def _enter_ending(self, changes: ChangeSet, end: EndRun) -> None:
        changes.undo.append(RestorePhase(self.state.phase))
        self.state.enter(RunPhase.ENDING)
        changes.then.append(end)

    def _summarise(self) -> TreeSummary:
        state = self.state
        whole = tree_status(state.tasks, state.root_id)
        if whole.status in TERMINAL or state.scope is None:
            return whole
        part = in_scope(state.tasks, state.scope)
        return tree_status(part, part[0].id) if part else whole

    _HANDLERS: ClassVar[dict[type[RunEvent], Callable[[Any, Any, ChangeSet], bool | None]]] = {
        AttemptEnded: _end_attempt,
        PostHooksEnded: _end_post_hooks,
        RetryDue: _end_wait,
        ProgressReported: _take_progress,
        TasksAdmitted: _start,
        TasksRefused: _refuse,
        DrainExpired: _abandon,
        DeadlinePassed: _end_unfinished,
        RunFailed: _fail,
    }
