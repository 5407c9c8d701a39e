"""The changes of state that a run makes, as moves. Pure: each function says what is to be written.

A move out of `in_progress` is fenced by owner, attempt and generation, so that a late writer loses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.planning.outcome import Outcome
from apflow.core.planning.run_events import Instruction
from apflow.core.store.base import Change, Transition

PENDING, IN_PROGRESS = TaskStatus.PENDING, TaskStatus.IN_PROGRESS
ENDED = {
    TaskStatus.COMPLETED: EventType.TASK_COMPLETED,
    TaskStatus.FAILED: EventType.TASK_FAILED,
    TaskStatus.CANCELLED: EventType.TASK_CANCELLED,
}
TREE_ENDED = {
    TaskStatus.COMPLETED: EventType.TREE_COMPLETED,
    TaskStatus.FAILED: EventType.TREE_FAILED,
    TaskStatus.CANCELLED: EventType.TREE_CANCELLED,
}


@dataclass(slots=True)
class ChangeSet:
    """The moves that one turn of a run writes together: at most one per task, all or nothing.

    The tasks are changed as the moves are put in; where the batch is refused, they are read again.
    """

    root_id: str
    owner: str | None  # of the run; None: it is only requested
    now: datetime
    # What the root must hold for any of this to count: who owns the run, so that a late writer loses.
    fence: Mapping[str, Json] = field(default_factory=dict[str, Json])
    moves: dict[str, Transition] = field(default_factory=dict[str, Transition])
    then: list[Instruction] = field(default_factory=list[Instruction])  # once they are durable
    undo: list[Instruction] = field(default_factory=list[Instruction])  # where they are refused

    def put(
        self, task: Task, expects: Mapping[str, Json], sets: Mapping[str, Json], *events: TaskEvent
    ) -> None:
        """Put a move in, or add it to the one of the same task, and change the task."""
        for name, value in sets.items():
            setattr(task, name, value)
        known = self.moves.get(task.id)
        if known is None:
            self.moves[task.id] = Transition(task.id, self.root_id, expects, sets, events)
        else:
            # What the earlier part of the move sets is not in the store yet: it cannot be expected there.
            merged = {name: value for name, value in expects.items() if name not in known.sets}
            merged.update(known.expects)
            sets = {**known.sets, **sets}
            self.moves[task.id] = Transition(task.id, self.root_id, merged, sets, known.events + events)

    def changes_status(self, task_id: str) -> bool:
        """Whether the batch moves this task already: its next move must wait for the next batch."""
        move = self.moves.get(task_id)
        return move is not None and "status" in move.sets

    def change(self) -> Change:
        """Return what the store is to write. The end of the run is told last."""
        root = self.moves.get(self.root_id) or Transition(self.root_id, self.root_id, {}, {})
        if root.sets.get("run_ended_at") is not None:
            del self.moves[self.root_id]
        self.moves[self.root_id] = replace(root, expects={**self.fence, **root.expects})
        return Change(moves=list(self.moves.values()), is_strict=True)

    def describe(self) -> Iterator[str]:
        """Yield one line for each transition, for the log."""
        for move in self.moves.values():
            old, new = move.expects.get("status"), move.sets.get("status")
            if new is not None:
                yield f"{move.task_id}: {old} -> {new}"
            elif move.sets:
                yield f"{move.task_id}: {', '.join(move.sets)}"

    def event(self, kind: EventType, task: Task, **more: Json) -> TaskEvent:
        """Make an event about a task as it is now."""
        return TaskEvent(
            type=kind,
            task_id=task.id,
            root_task_id=self.root_id,
            timestamp=self.now,
            status=task.status,
            **more,
        )

    def start(self, task: Task) -> None:
        """The first attempt: pending -> in_progress."""
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
                root_task_id=self.root_id,
                timestamp=self.now,
                status=IN_PROGRESS,
            ),
        )

    def start_group(self, task: Task) -> None:
        """A group starts: it makes no attempt, because nothing is called."""
        self.put(
            task,
            {"status": PENDING, "generation": task.generation},
            {"status": IN_PROGRESS, "owner": self.owner, "started_at": self.now, "updated_at": self.now},
        )
        self._append_event(task, self.event(EventType.TASK_STARTED, task))

    def try_again(self, task: Task) -> None:
        """The next attempt of a task that waited for it."""
        sets = {
            "status": IN_PROGRESS,
            "attempts": task.attempts + 1,
            "owner": self.owner,
            "not_before": None,
            "updated_at": self.now,
        }
        self.put(task, self._fence(task) | {"cancel_requested_at": None}, sets)

    def wait(self, task: Task, seconds: float, outcome: Outcome) -> None:
        """The attempt failed and is to be repeated: the task stays in progress, without a slot."""
        sets = {
            "status": IN_PROGRESS,
            "not_before": self.now + timedelta(seconds=seconds),
            "updated_at": self.now,
        }
        self.put(task, self._fence(task) | {"cancel_requested_at": None}, sets)
        data = {"wait": round(seconds, 3), "attempt": task.attempts, "error_type": outcome.error_type}
        message = f"Attempt {task.attempts} failed; the next one starts in {seconds:.3g} s."
        event = self.event(EventType.RETRYING, task, message=message, data=data, error=outcome.error)
        self._append_event(task, event)

    def end(self, task: Task, outcome: Outcome) -> None:
        """The outcome of a started task."""
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
        self.put(task, expects, sets, self._ended(task, outcome))

    def end_unstarted(self, task: Task, outcome: Outcome, *, is_requested: bool = False) -> None:
        """A task ends that was never started: what it needs can never be had, or it was cancelled.

        `is_requested`: its own cancellation was asked for; it does not only follow from another's.
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
        """From now on the only outcome of this task, if it has not ended, is `cancelled`.

        The message, why, waits in its `error`: whoever carries the request out may be another process.
        """
        expects = {name: getattr(task, name) for name in ("status", "owner", "attempts", "generation")}
        sets: dict[str, Json] = {"cancel_requested_at": self.now, "updated_at": self.now}
        if message is not None and task.status is IN_PROGRESS:
            sets["error"] = message
        self.put(task, expects, sets)

    def progress(self, task: Task, fraction: float) -> None:
        """Note how far a running task is."""
        self.put(task, self._fence(task), {"progress": fraction})

    def reset(self, task: Task) -> None:
        """An ended task goes back to pending, as a new generation."""
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
        self.put(task, {"status": task.status, "generation": task.generation}, sets)
        self._append_event(task, self.event(EventType.TASK_RESET, task))

    def put_back(self, task: Task) -> None:
        """A task goes back to pending that waited for its retry when its process died; its wait is kept."""
        self._put_back(task, {}, None)

    def interrupt(self, task: Task, *, counts: bool) -> None:
        """A task goes back to pending whose code was ended with its process: that was no attempt.

        `counts`: the process died of it, perhaps, so that it may not happen for ever.
        """
        sets: dict[str, Json] = {"attempts": max(0, task.attempts - 1)}
        if counts:
            sets["interruptions"] = task.interruptions + 1
        self._put_back(task, sets, {"interruptions": task.interruptions + counts})

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
            root_task_id=self.root_id,
            timestamp=self.now,
            status=outcome.status,
            progress=1.0,  # as `Task.fraction` has it
            result=outcome.result,
            error=outcome.error,
        )

    def _append_event(self, task: Task, event: TaskEvent) -> None:
        self.moves[task.id].events += (event,)
