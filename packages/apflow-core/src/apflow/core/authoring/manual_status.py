"""Changing the status of a task by hand: by the table of moves, or as work that is done elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from apflow.core.authoring.edit_plan import MoveSet, expect_no_run, refuse
from apflow.core.authoring.field_validation import read_json
from apflow.core.authoring.violation import Violations, shown
from apflow.core.model.attempt import last_attempt
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import MARKABLE, TERMINAL, TaskStatus, check_transition
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.settings import Settings
from apflow.core.store.base import Change

_EVENTS = {
    TaskStatus.PENDING: EventType.TASK_RESET,
    TaskStatus.IN_PROGRESS: EventType.TASK_STARTED,
    TaskStatus.COMPLETED: EventType.TASK_COMPLETED,
    TaskStatus.FAILED: EventType.TASK_FAILED,
    TaskStatus.CANCELLED: EventType.TASK_CANCELLED,
    TaskStatus.SKIPPED: EventType.TASK_SKIPPED,
}


def plan_status(
    task: Task,
    root: Task,
    status: TaskStatus,
    given: Mapping[str, object],
    settings: Settings,
    *,
    by: str | None = None,
) -> Change:
    """Return the change that moves a task by hand, by the table of moves.

    A task that has not run, or has ended badly, can be marked as completed while no run of its tree is
    requested: its work was done elsewhere. Its dependents continue in the next run.

    Args:
        task: the stored task.
        root: the root of its tree.
        status: the new status.
        given: error, result, progress, started_at and completed_at, where they must be set.
        settings: for the limits.
        by: the user who asks for it; the event of a mark names them.

    Raises:
        IllegalMoveError: the table does not know the move.
        ConflictError: a run has the task in its scope; for a mark, a run of the tree is requested.
    """
    check_transition(task.id, task.status, status)
    is_mark = status is TaskStatus.COMPLETED and task.status in MARKABLE
    faults, conflicts = Violations(), Violations()
    expected = _expect_no_run_at_all(root, conflicts) if is_mark else expect_no_run(root, task, conflicts)
    now = utc_now()
    sets: dict[str, Json] = _status_fields(task, status, now) | _read_given(given, settings, faults)
    sets |= {"progress": 1.0, "updated_at": now} if is_mark else {"updated_at": now}
    refuse(task, "marked as completed" if is_mark else "updated", faults, conflicts)
    event = TaskEvent(
        type=EventType.TASK_MARKED if is_mark else _EVENTS[status],
        task_id=task.id,
        key=task.key,
        root_task_id=root.id,
        timestamp=now,
        status=status,
        progress=1.0 if status in TERMINAL else sets.get("progress"),
        result=sets.get("result"),
        error=sets.get("error"),
        data={"by": by, "from": str(task.status)} if is_mark else None,
    )
    moves = MoveSet(root.id)
    moves.put(root.id, expected)
    last = last_attempt(task) if task.status in TERMINAL else None
    moves.put(
        task.id,
        {"status": task.status, "generation": task.generation},
        sets,
        event,
        attempts=() if last is None else (last,),  # the row will not show it any more
    )
    return moves.change()


def _expect_no_run_at_all(root: Task, conflicts: Violations) -> dict[str, Json]:
    if root.run_requested_at is not None:
        conflicts.add("", "a run of its tree is requested. Wait for its end, or cancel it first.")
    return {"run_requested_at": None}


def _status_fields(task: Task, status: TaskStatus, now: datetime) -> dict[str, Json]:
    if status == TaskStatus.PENDING:
        fresh = dict.fromkeys(_FORGOTTEN) | {"progress": 0.0, "attempts": 0, "interruptions": 0}
        if task.attempts:
            fresh["earlier_attempts"] = task.attempt_number
        return fresh | {"status": status, "generation": task.generation + 1}
    if status == TaskStatus.IN_PROGRESS:
        return {"status": status, "started_at": task.started_at or now}
    sets: dict[str, Json] = {"status": status, "completed_at": now}
    if task.status in MARKABLE and status == TaskStatus.COMPLETED:
        sets |= dict.fromkeys(("result", "error", "not_before", "cancel_requested_at", "owner"))
    return sets | {"progress": 1.0} if status == TaskStatus.COMPLETED else sets


_FORGOTTEN = ("result", "error", "started_at", "completed_at", "not_before", "cancel_requested_at", "owner")


def _read_given(given: Mapping[str, object], settings: Settings, faults: Violations) -> dict[str, Json]:
    sets: dict[str, Json] = {name: value for name, value in given.items() if value is not None}
    if "result" in sets:
        sets["result"] = read_json(sets["result"], "result", "", settings, faults)
    if "error" in sets:
        sets["error"] = read_json(str(sets["error"]), "error", "", settings, faults)
    progress = sets.get("progress")
    if progress is not None and (not isinstance(progress, int | float) or not 0 <= progress <= 1):
        faults.add("", f"progress is a number from 0.0 to 1.0, not {shown(progress)}.")
    return sets
