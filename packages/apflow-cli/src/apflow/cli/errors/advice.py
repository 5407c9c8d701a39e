"""The command that helps after an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from apflow.core.errors import (
    AlreadyRunningError,
    ConflictError,
    ExecutorNotFoundError,
    LimitExceededError,
    MoveLostError,
    SecretNotFoundError,
)

# The first that fits.
_COMMANDS: Mapping[type[Exception], Callable[[Any], str]] = {
    AlreadyRunningError: lambda error: f"apflow watch {error.root_id}, or apflow cancel {error.root_id}",
    MoveLostError: lambda error: f"apflow tasks why {error.task_ids[0]}" if error.task_ids else "",
    ExecutorNotFoundError: lambda _: "apflow executors list",
    SecretNotFoundError: lambda _: "apflow config secrets list",
    LimitExceededError: lambda _: "apflow ps",
}


def next_command(error: Exception) -> str:
    """Return the commands to try after an error; empty if its message names them, or none helps."""
    if "`apflow " in str(error):
        return ""
    task_id = getattr(error, "task_id", None)
    found = next((command for kind, command in _COMMANDS.items() if isinstance(error, kind)), None)
    if found is not None:
        return found(error)
    return f"apflow tasks why {task_id}" if isinstance(error, ConflictError) and task_id else ""
