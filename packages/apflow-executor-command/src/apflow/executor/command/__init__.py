"""The executor `command_executor`: runs programs that have been allowed."""

from apflow.executor.command.errors import (
    CommandError,
    CommandFailedError,
    CommandRefusedError,
    CommandStartError,
    CommandTimeoutError,
)
from apflow.executor.command.executor import CommandExecutor

__all__ = [
    "CommandError",
    "CommandExecutor",
    "CommandFailedError",
    "CommandRefusedError",
    "CommandStartError",
    "CommandTimeoutError",
]
