"""The operations that every interface offers: their parameters, authorization and results."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `TaskService` on first use: `from apflow.core.service import TaskService` is documented."""
    if name != "TaskService":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from apflow.core.service.task_service import TaskService

    return TaskService
