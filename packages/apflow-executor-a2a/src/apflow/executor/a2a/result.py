"""The result of a call of an agent, and the error that it ended with. Pure."""

from __future__ import annotations

from typing import Final, cast

from a2a.types.a2a_pb2 import TaskState

from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.executor.a2a.answer import Answer, as_json, parts_as_json, text_of
from apflow.executor.a2a.errors import (
    A2aAuthRequiredError,
    A2aCancelledError,
    A2aEndedError,
    A2aInputRequiredError,
    A2aRejectedError,
    A2aTaskFailedError,
)

SAID_LENGTH: Final = 4000  # characters of what the agent says, in an error

ENDS: Final[dict[int, type[A2aEndedError]]] = {
    TaskState.TASK_STATE_FAILED: A2aTaskFailedError,
    TaskState.TASK_STATE_REJECTED: A2aRejectedError,
    TaskState.TASK_STATE_CANCELED: A2aCancelledError,
    TaskState.TASK_STATE_INPUT_REQUIRED: A2aInputRequiredError,
    TaskState.TASK_STATE_AUTH_REQUIRED: A2aAuthRequiredError,
}


def error_of(answer: Answer) -> A2aEndedError | None:
    """Return the error for the state of the agent's task; None if it has completed."""
    kind = ENDS.get(answer.state) if answer.task_id is not None else None
    if kind is None:
        return None
    return kind(answer.where, answer.task_id, _said(answer)[:SAID_LENGTH])


def result_of(answer: Answer, facts: dict[str, Json]) -> dict[str, Json]:
    """Return what is known of an answer as the result of the task.

    Args:
        facts: of the agent; they come first.
    """
    artifacts = [
        {
            "artifact_id": each.artifact_id,
            "name": each.name or None,
            "description": each.description or None,
            "parts": each.parts_as_json(),
            "metadata": each.metadata,
        }
        for each in answer.artifacts.values()
    ]
    parts = [part for each in answer.artifacts.values() for part in each.parts_as_json()]
    said = [] if answer.message is None else parts_as_json(answer.message.parts)
    texts = _under("text", parts) or _under("text", said)
    message = None
    if answer.message is not None:
        message = {"parts": said, "metadata": as_json(answer.message.metadata)}
    return {
        "success": answer.state_name == "completed",
        "status": answer.state_name,
        **facts,
        "task_id": answer.task_id,
        "context_id": answer.context_id,
        "text": "\n".join(texts),
        "data": _under("data", [*parts, *said]),
        "artifacts": artifacts,
        "message": message,
    }


def _said(answer: Answer) -> str:
    """Return the text of the last message; if it has only data, the `error` in it, or all of it as JSON."""
    text = text_of(answer.message)
    if text or answer.message is None:
        return text
    return "\n".join(_data_as_text(each) for each in _under("data", parts_as_json(answer.message.parts)))


def _data_as_text(data: Json) -> str:
    error = cast("dict[str, Json]", data).get("error") if isinstance(data, dict) else None
    return error if isinstance(error, str) and error else dumps(data).decode()


def _under(name: str, parts: list[dict[str, Json]]) -> list[Json]:
    return [part[name] for part in parts if name in part]


def failure_of(answer: Answer, error: A2aEndedError, facts: dict[str, Json]) -> dict[str, Json]:
    """Return a failed result with everything that is known: the question, for example, and the task's id."""
    return result_of(answer, facts) | {
        "success": False,
        "status": "failed",
        "state": answer.state_name,
        "error": str(error),
        "error_type": type(error).__name__,
    }
