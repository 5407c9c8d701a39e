"""The transitions that a run writes, as moves. Pure: the functions only describe the changes to store.

A move out of `in_progress` is fenced by owner, attempt and generation, so that late writes are rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from apflow.core.model.attempt import MAX_ERROR, AttemptOutcome, TaskAttempt, last_attempt, started_at
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Json, Task
from apflow.core.planning.outcome import Outcome
from apflow.core.planning.run_events import Instruction
from apflow.core.process.traceback_text import shortened
from apflow.core.store.base import Change, Transition

PENDING, IN_PROGRESS, FAILED = TaskStatus.PENDING, TaskStatus.IN_PROGRESS, TaskStatus.FAILED
ENDED = {
    TaskStatus.COMPLETED: EventType.TASK_COMPLETED,
    TaskStatus.FAILED: EventType.TASK_FAILED,
    TaskStatus.CANCELLED: EventType.TASK_CANCELLED,
    TaskStatus.SKIPPED: EventType.TASK_SKIPPED,
}
TREE_ENDED = {
    TaskStatus.COMPLETED: EventType.TREE_COMPLETED,
    TaskStatus.FAILED: EventType.TREE_FAILED,
    TaskStatus.CANCELLED: EventType.TREE_CANCELLED,
}


@dataclass(slots=True)
class ChangeSet:
    """The moves that one turn of a run writes atomically: at most one per task.

    `put` also changes the tasks in memory; if the store rejects the change, the tasks are read again.
    """

    root_id: str
    owner: str | None  # of the run; None: it is only requested
    now: datetime
    # Column values that the root must have, such as the owner of the run, so that late writes are rejected.
    fence: Mapping[str, Json] = field(default_factory=dict[str, Json])
    moves: dict[str, Transition] = field(default_factory=dict[str, Transition])
    added: list[Task] = field(default_factory=list[Task])  # elements, as they are before their moves
    removed: list[str] = field(default_factory=list[str])  # the ids of elements that are created again
    then: list[Instruction] = field(default_factory=list[Instruction])  # executed when the moves are durable
    undo: list[Instruction] = field(default_factory=list[Instruction])  # executed when the moves are rejected

    def put(
        self, task: Task, expects: Mapping[str, Json], sets: Mapping[str, Json], *events: TaskEvent
    ) -> None:
        """Add a move, or merge it into the move of the same task, and change the task."""
        for name, value in sets.items():
            setattr(task, name, value)
        known = self.moves.get(task.id)
        if known is None:
            self.moves[task.id] = Transition(task.id, self.root_id, expects, sets, events)
        else:
            # Values that the earlier part of the move sets are not stored yet, so they cannot be expected.
            merged = {name: value for name, value in expects.items() if name not in known.sets}
            merged.update(known.expects)
            sets = {**known.sets, **sets}
            self.moves[task.id] = Transition(
                task.id, self.root_id, merged, sets, known.events + events, known.attempts
            )

    def changes_status(self, task_id: str) -> bool:
        """Whether the batch already moves this task, so that its next move must wait for the next batch."""
        move = self.moves.get(task_id)
        return move is not None and "status" in move.sets

    def change(self) -> Change:
        """Return the change for the store. The event of the end of the run is the last one."""
        root = self.moves.get(self.root_id) or Transition(self.root_id, self.root_id, {}, {})
        if root.sets.get("run_ended_at") is not None:
            del self.moves[self.root_id]
        root.expects = {**self.fence, **root.expects}
        self.moves[self.root_id] = root
        moves = list(self.moves.values())
        return Change(add=self.added, moves=moves, remove=self.removed, is_strict=True)

    def describe(self) -> Iterator[str]:
        """Yield one line for each transition, for the log."""
        for move in self.moves.values():
            old, new = move.expects.get("status"), move.sets.get("status")
            if new is not None:
                yield f"{move.task_id}: {old} -> {new}"
            elif move.sets:
                yield f"{move.task_id}: {', '.join(move.sets)}"
        if self.added:
            yield f"{len(self.added)} new tasks"

    def event(self, kind: EventType, task: Task, **more: Json) -> TaskEvent:
        """Return an event with the present state of a task."""
        return TaskEvent(
            type=kind,
            task_id=task.id,
            key=task.key,
            root_task_id=self.root_id,
            timestamp=self.now,
            status=task.status,
            **more,
        )

    def start(self, task: Task) -> None:
        """Start the first attempt: pending -> in_progress."""
        sets: dict[str, Json] = {
            "status": IN_PROGRESS,
            "attempts": task.attempts + 1,
            "owner": self.owner,
            "started_at": self.now,
            "updated_at": self.now,
        }
        if task.not_before is not None:
            sets["not_before"] = None
        self.put(
            task,
            {"status": PENDING, "generation": task.generation},
            sets,
            TaskEvent(
                type=EventType.TASK_STARTED,
                task_id=task.id,
                key=task.key,
                root_task_id=self.root_id,
                timestamp=self.now,
                status=IN_PROGRESS,
            ),
        )

    def add(self, tasks: Sequence[Task]) -> None:
        """Add new tasks, which later moves of the same change may start."""
        for task in tasks:
            task.created_at = task.updated_at = self.now
        self.added.extend(task.copy() for task in tasks)

    def start_group(self, task: Task) -> None:
        """Start a group. It makes no attempt, because it has no executor."""
        self.put(
            task,
            {"status": PENDING, "generation": task.generation},
            {"status": IN_PROGRESS, "owner": self.owner, "started_at": self.now, "updated_at": self.now},
        )
        self._append_event(task, self.event(EventType.TASK_STARTED, task))

    def try_again(self, task: Task) -> None:
        """Start the next attempt of a task that waited for its retry."""
        sets = {
            "status": IN_PROGRESS,
            "attempts": task.attempts + 1,
            "owner": self.owner,
            "not_before": None,
            "updated_at": self.now,
        }
        self.put(task, self._fence(task) | {"cancel_requested_at": None}, sets)

    def wait(self, task: Task, seconds: float, outcome: Outcome, started: datetime | None = None) -> None:
        """Schedule a retry of a failed attempt. The task stays in progress, without a slot.

        `started`: when the attempt started; by default as the row shows it.
        """
        attempt = self._attempt(task, outcome, started)
        sets = {
            "status": IN_PROGRESS,
            "not_before": self.now + timedelta(seconds=seconds),
            "updated_at": self.now,
        }
        self.put(task, self._fence(task) | {"cancel_requested_at": None}, sets)
        data: dict[str, Json] = {"wait": round(seconds, 3), "attempt": task.attempts}
        data |= _error_data(attempt)
        if outcome.usage is not None:
            data["usage"] = outcome.usage
        message = f"Attempt {task.attempts} failed; the next one starts in {seconds:.3g} s."
        event = self.event(EventType.RETRYING, task, message=message, data=data, error=outcome.error)
        self._append_event(task, event)
        self._store(attempt)

    def end(self, task: Task, outcome: Outcome, started: datetime | None = None) -> None:
        """End a started task with its outcome.

        `started`: when its attempt started; by default as the row shows it.
        """
        is_followed = task.not_before is not None  # it waited for a retry: the last attempt ended before
        has_attempt = task.attempts > 0 and task.executor != GROUP and not is_followed
        is_recorded = has_attempt and (outcome.status is FAILED or task.attempts > 1)
        attempt = self._attempt(task, outcome, started) if is_recorded else None
        expects = self._fence(task)
        sets: dict[str, Json] = {
            "status": outcome.status,
            "result": outcome.result,
            "completed_at": self.now,
            "updated_at": self.now,
        }
        if outcome.status is TaskStatus.COMPLETED:
            sets["progress"] = 1.0
        if outcome.status is not TaskStatus.CANCELLED:
            expects["cancel_requested_at"] = None
        if outcome.error is not None:
            sets["error"] = outcome.error
        if task.not_before is not None:
            sets["not_before"] = None
        event = self._ended(task, outcome)
        if outcome.cache_key is not None:
            sets["cache_key"] = outcome.cache_key
        if outcome.cached_from is not None:
            sets["cached_from"] = outcome.cached_from
            event.data = {"cached_from": outcome.cached_from}
        if outcome.status is FAILED and attempt is not None:
            event.data = {"attempt": task.attempts} | _error_data(attempt)
        if outcome.usage is not None:
            event.data = {**(event.data or {}), "usage": outcome.usage}
        self.put(task, expects, sets, event)
        if attempt is not None:
            self._store(attempt)

    def end_unstarted(self, task: Task, outcome: Outcome, *, is_requested: bool = False) -> None:
        """End a task that has not started: because of a dependency or its condition, or it was cancelled.

        `is_requested`: the cancellation of this task was requested; it does not follow from another one.
        """
        sets: dict[str, Json] = {
            "status": outcome.status,
            "result": outcome.result,
            "error": outcome.error,
            "completed_at": self.now,
            "updated_at": self.now,
        }
        if is_requested:
            sets["cancel_requested_at"] = self.now
        expects = {"status": PENDING, "generation": task.generation}
        self.put(task, expects, sets, self._ended(task, outcome))

    def request_cancel(self, task: Task, message: str | None = None) -> None:
        """Request the cancellation of a task: unless it has ended, its outcome can only be `cancelled` now.

        The message is stored in `error`, because another process may carry out the request.
        """
        expects = {name: getattr(task, name) for name in ("status", "owner", "attempts", "generation")}
        sets: dict[str, Json] = {"cancel_requested_at": self.now, "updated_at": self.now}
        if message is not None and task.status is IN_PROGRESS:
            sets["error"] = message
        self.put(task, expects, sets)

    def touch(self, task: Task) -> None:
        """Record that the end of a running task is requested, unless it has ended."""
        self.put(task, self._fence(task), {"updated_at": self.now})

    def progress(self, task: Task, fraction: float) -> None:
        """Record the progress of a running task."""
        self.put(task, self._fence(task), {"progress": fraction})

    def reset(self, task: Task) -> None:
        """Reset an ended task to pending, as a new generation."""
        last = last_attempt(task)
        sets: dict[str, Json] = {
            "status": PENDING,
            "generation": task.generation + 1,
            "result": None,
            "error": None,
            "progress": 0.0,
            "started_at": None,
            "completed_at": None,
            "updated_at": self.now,
            "attempts": 0,
            "interruptions": 0,
            "not_before": None,
            "cancel_requested_at": None,
            "owner": None,
        }
        if task.attempts:
            sets["earlier_attempts"] = task.attempt_number
        sets |= {name: None for name in ("cached_from", "cache_key") if getattr(task, name) is not None}
        self.put(task, {"status": task.status, "generation": task.generation}, sets)
        self._append_event(task, self.event(EventType.TASK_RESET, task))
        if last is not None:
            self._store(last)

    def put_back(self, task: Task) -> None:
        """Reset a task to pending that waited for its retry when its process died. It keeps its wait."""
        self._put_back(task, {}, None)

    def interrupt(self, task: Task, *, counts: bool) -> None:
        """Reset a task to pending whose code was ended with its process. This does not count as an attempt.

        `counts`: the task may have caused the end of the process, so the number of interruptions is limited.
        """
        sets: dict[str, Json] = {"attempts": max(0, task.attempts - 1)}
        if counts:
            sets["interruptions"] = task.interruptions + 1
        attempt = last_attempt(task)
        if attempt is not None:
            sets["earlier_attempts"] = task.earlier_attempts + 1
        self._put_back(task, sets, {"interruptions": task.interruptions + counts})
        if attempt is not None:
            self._store(replace(attempt, ended_at=self.now, outcome=AttemptOutcome.INTERRUPTED))

    def _put_back(self, task: Task, sets: dict[str, Json], data: Json) -> None:
        sets |= {"status": PENDING, "owner": None, "updated_at": self.now}
        self.put(task, self._fence(task) | {"cancel_requested_at": None}, sets)
        self._append_event(task, self.event(EventType.TASK_RESET, task, data=data))

    def _fence(self, task: Task) -> dict[str, Json]:
        return {
            "status": IN_PROGRESS,
            "owner": task.owner,
            "attempts": task.attempts,
            "generation": task.generation,
        }

    def _ended(self, task: Task, outcome: Outcome) -> TaskEvent:
        return TaskEvent(
            type=ENDED[outcome.status],
            task_id=task.id,
            key=task.key,
            root_task_id=self.root_id,
            timestamp=self.now,
            status=outcome.status,
            progress=1.0,  # as in `Task.fraction`
            result=outcome.result,
            error=outcome.error,
        )

    def _append_event(self, task: Task, event: TaskEvent) -> None:
        self.moves[task.id].events += (event,)

    def _attempt(self, task: Task, outcome: Outcome, started: datetime | None) -> TaskAttempt:
        """Return the record of the attempt that ends now. Called before the task is changed."""
        return TaskAttempt(
            task_id=task.id,
            number=task.attempt_number,
            started_at=started or started_at(task),
            ended_at=self.now,
            outcome=AttemptOutcome(outcome.status),
            error=None if outcome.error is None else shortened(outcome.error, MAX_ERROR),
            error_type=outcome.error_type,
            traceback=outcome.traceback,
        )

    def _store(self, attempt: TaskAttempt) -> None:
        """Store a record with the move of its task."""
        self.moves[attempt.task_id].attempts += (attempt,)


def _error_data(attempt: TaskAttempt) -> dict[str, Json]:
    """Return the data of an event that reports the failure of an attempt."""
    return {
        "attempt_number": attempt.number,
        "error_type": attempt.error_type,
        "traceback": attempt.traceback,
    }
