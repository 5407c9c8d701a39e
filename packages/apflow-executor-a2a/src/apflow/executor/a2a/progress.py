"""The updates of an agent as progress events of the task. Pure."""

from __future__ import annotations

from typing import Final, cast

from a2a.types.a2a_pb2 import StreamResponse

from apflow.core.model.task import Json
from apflow.executor.a2a.answer import Answer, as_json, text_of

SHOWN_TEXT: Final = 100_000  # characters of a string in an event
SHOWN_METADATA: Final = 1 << 16  # bytes
OURS: Final = "apflow"  # the key of the progress that servers of apflow add


def is_piece(update: StreamResponse) -> bool:
    """Return whether an update adds to an artifact, of which there may be thousands."""
    return update.HasField("artifact_update") and update.artifact_update.append


def event_of(update: StreamResponse, answer: Answer) -> dict[str, Json] | None:
    """Return the event for an update that was applied to the answer; None if there is nothing to report."""
    match update.WhichOneof("payload"):
        case "status_update":
            change = update.status_update
            metadata = as_json(change.metadata) if change.metadata.ByteSize() <= SHOWN_METADATA else {}
            return _event(
                answer,
                _fraction(metadata),
                text_of(answer.message)[:SHOWN_TEXT] or answer.state_name,
                {"metadata": metadata} if metadata else {},
            )
        case "artifact_update":
            artifact = answer.artifacts[update.artifact_update.artifact.artifact_id]
            shown = {"artifact_id": artifact.artifact_id, "name": artifact.name or None}
            text = artifact.text[-SHOWN_TEXT:]
            return _event(answer, None, artifact.name or None, {"artifact": shown | {"text": text}})
        case "task":
            return _event(answer, None, text_of(answer.message)[:SHOWN_TEXT] or answer.state_name, {})
        case _:
            return None


def _event(
    answer: Answer, fraction: float | None, message: str | None, more: dict[str, Json]
) -> dict[str, Json]:
    return {
        "type": "progress",
        "progress": fraction,
        "message": message,
        "data": {"task_id": answer.task_id, "state": answer.state_name, **more},
    }


def _fraction(metadata: dict[str, Json]) -> float | None:
    """Return the fraction that a server of apflow reports. The protocol itself does not have one."""
    ours = metadata.get(OURS)
    if not isinstance(ours, dict):
        return None
    known = cast("dict[str, Json]", ours)
    value = known.get("root_progress", known.get("progress"))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
