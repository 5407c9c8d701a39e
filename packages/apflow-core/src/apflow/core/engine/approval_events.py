"""The stored events of approvals: that one is asked for, and that it is decided. Each is stored once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from apflow.core.errors import ConflictError, MoveLostError
from apflow.core.model.approval import Approval
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.payload.approval import describe_decision
from apflow.core.store.base import Change, TaskStore, Transition, TransitionResult

PAGE: Final = 1000  # events


async def store_event(
    db: TaskStore, approval: Approval, task: Task, *, is_first: bool, is_runner: bool = False
) -> TransitionResult:
    """Store the event of a question, or of a decision, unless it is stored already.

    Several processes may do so at once: the write also changes `updated_at` of the task, and is refused if
    that has changed since the events were read.

    Args:
        is_first: no process can have stored it before `task` was read, so that the events are not read.
        is_runner: the caller runs `task`; if another process, or this one, has started it again since, that
            start stores the event.

    Returns:
        the result of the write; [] where the event was stored already.

    Raises:
        ConflictError: the task was started again, or deleted, meanwhile.
        StoreError: the store cannot write. The event may be stored.
    """
    event = _event(approval, task)
    expects: dict[str, Json] = {"generation": approval.generation}
    if is_runner:
        expects |= {"owner": task.owner, "started_at": task.started_at}
    known = task.updated_at
    while True:
        if not is_first:
            found = (await db.get([task.id])).get(task.id)
            if found is None or any(getattr(found, name) != value for name, value in expects.items()):
                raise ConflictError(f"Task {task.id!r} was started again meanwhile.")
            known = found.updated_at
            if await _is_stored(db, event):
                return []
        sets = {"updated_at": max(utc_now(), _after(known))}
        move = Transition(task.id, task.root_id, expects | {"updated_at": known}, sets, (event,))
        try:
            return await db.write(Change(moves=[move], is_strict=True))
        except MoveLostError:
            is_first = False  # it was changed, perhaps by the process that has stored the event


def _after(time: datetime | None) -> datetime:
    """Return a time that differs from the one before, also if the clock was set back."""
    return utc_now() if time is None else time + timedelta(microseconds=1)


async def _is_stored(db: TaskStore, event: TaskEvent) -> bool:
    after = 0
    while page := await db.events(event.root_task_id, after, PAGE):
        if any(
            (each.type, each.task_id, each.data) == (event.type, event.task_id, event.data) for each in page
        ):
            return True
        after = page[-1].sequence
    return False


def _event(approval: Approval, task: Task) -> TaskEvent:
    decision = approval.decision
    if decision is None:
        kind, message = EventType.APPROVAL_REQUESTED, approval.request.question
        data = approval.question_json()
    else:
        kind, message = EventType.APPROVAL_DECIDED, describe_decision(approval)
        data = decision.to_json()
    return TaskEvent(
        type=kind,
        task_id=task.id,
        key=task.key,
        root_task_id=task.root_id,
        timestamp=utc_now(),
        message=message,
        data=data,
    )
