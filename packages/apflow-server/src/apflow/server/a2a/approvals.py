"""Approvals over A2A: a task that waits for one requires input, and a message to the task decides.

https://a2a-protocol.org/latest/specification/ (TASK_STATE_INPUT_REQUIRED)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from a2a.types.a2a_pb2 import Message, TaskState, TaskStatus

from apflow.core.errors import InvalidInputError
from apflow.core.model.approval import Approval
from apflow.core.model.event import TaskEvent
from apflow.core.model.task import Json
from apflow.core.payload.secrets import mask
from apflow.server.a2a.executions import Execution
from apflow.server.a2a.projection import TERMINAL, agent_message, status_of
from apflow.server.a2a.values import data_part

APPROVAL: Final = "approval"  # the key in a data part of what is asked
WORDS: Final = {"approve": True, "approved": True, "reject": False, "rejected": False}
HINT: Final = (
    'The task waits for an approval. Send a data part {"approved": true or false, "answers": {...}, '
    '"reason": "...", "task_id": "..."}, of which only `approved` is required, or the text "approve" or '
    '"reject".'
)


def required_status(execution: Execution, status: TaskStatus, approvals: Sequence[Approval]) -> TaskStatus:
    """Return the status of a task: that input is required, if it has not ended and approvals wait."""
    if not approvals or status.state in TERMINAL:
        return status
    asked_at = max(each.asked_at for each in approvals)
    found = status_of(execution, TaskState.TASK_STATE_INPUT_REQUIRED, asked_at)
    first = approvals[0]
    asked = question(first.task_id, _asked(first), first.asked_at.isoformat(), execution)
    for each in approvals[1:]:
        asked.parts.append(data_part({APPROVAL: {"task_id": each.task_id, **_asked(each)}}))
    found.message.CopyFrom(asked)
    return found


def event_status(execution: Execution, event: TaskEvent) -> TaskStatus:
    """Return the status that the event of a question makes."""
    status = status_of(execution, TaskState.TASK_STATE_INPUT_REQUIRED, event.timestamp)
    given = cast("dict[str, Json]", event.data or {})
    shown = {name: mask(value) if name == "data" else value for name, value in given.items()}
    status.message.CopyFrom(question(event.task_id, shown, event.timestamp.isoformat(), execution))
    return status


def question(task_id: str, asked: Mapping[str, Json], at: str, execution: Execution) -> Message:
    """Return the message of the agent that asks."""
    message_id = f"{execution.task_id}:approval:{task_id}:{at}"
    return agent_message(execution, {APPROVAL: {"task_id": task_id, **asked}}, message_id=message_id)


def read_decision(contents: Sequence[Json]) -> dict[str, Json]:
    """Return what a message decides: `approved`, and perhaps `answers`, `reason` and `task_id`.

    Raises:
        InvalidInputError: it decides nothing.
    """
    [content] = contents if len(contents) == 1 else [None]
    if isinstance(content, str) and content.lower().rstrip(".!") in WORDS:
        return {"approved": WORDS[content.lower().rstrip(".!")]}
    if isinstance(content, dict):
        given = cast("dict[str, Json]", content)
        unknown = sorted(given.keys() - {"approved", "answers", "reason", "task_id"})
        if isinstance(given.get("approved"), bool) and not unknown:
            return given
    raise InvalidInputError("Invalid message.", [f"message.parts: {HINT}"])


def chosen(decision: Mapping[str, Json], approvals: Sequence[Approval]) -> str:
    """Return the ID of the task whose approval a message decides.

    Raises:
        InvalidInputError: several approvals wait, and the message names none.
    """
    named = decision.get("task_id")
    if named is not None:
        return str(named)
    if len(approvals) == 1:
        return approvals[0].task_id
    ids = ", ".join(each.task_id for each in approvals)
    raise InvalidInputError("Invalid message.", [f"message.parts: Name one of these in task_id: {ids}."])


def _asked(approval: Approval) -> dict[str, Json]:
    request, deadline = approval.request, approval.deadline
    return {
        "question": request.question,
        "data": mask(request.data),
        "form": request.form,
        "approvers": {"users": list(request.users), "roles": list(request.roles)},
        "asked_at": approval.asked_at.isoformat(),
        "deadline": None if deadline is None else deadline.isoformat(),
        "on_timeout": str(request.on_timeout),
    }
