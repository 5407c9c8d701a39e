"""The outcome of a run, as `tasks.execute` returns it. Pure."""

from __future__ import annotations

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json


def run_outcome(status: str, progress: float | None, error: str | None, result: Json) -> dict[str, Json]:
    """Return the outcome of a run.

    Args:
        status: of the tree.
        progress: of the tree, from 0.0 to 1.0.
        error: why the tree failed or was cancelled.
        result: of the root.
    """
    return {
        "success": status not in (TaskStatus.FAILED, TaskStatus.CANCELLED),
        "status": str(status),
        "progress": progress,
        "message": _message(status, error),
        "error": error,
        "result": result,
    }


def _message(status: str, error: str | None) -> str:
    match status:
        case TaskStatus.PENDING | TaskStatus.IN_PROGRESS:
            return (
                "The run is requested. Use tasks.watch to follow it, or tasks.running.status for its status."
            )
        case TaskStatus.COMPLETED:
            return "All tasks have completed."
        case _:
            return error or f"It was {status}."
