"""The exit codes of the program."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended. Scripts rely on these numbers."""

    DONE = 0
    FAILED = 1  # a task failed; or, in `doctor`, a check did
    INVALID = 2  # usage, or input that cannot be used
    NOT_FOUND = 3
    REFUSED = 4  # the state of a task forbids it now
    STORE = 5  # the store is locked, unreachable or too new; or the server is, or has failed
    TIMEOUT = 6
    CANCELLED = 7
    HUNG_UP = 129  # SIGHUP: the run was released, and can be resumed
    INTERRUPTED = 130  # Ctrl-C
    CLOSED_PIPE = 141  # the reader of the output has closed it
    TERMINATED = 143  # SIGTERM: the run was released, and can be resumed


OF_STATUS = {
    "completed": ExitCode.DONE,
    "skipped": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "cancelled": ExitCode.CANCELLED,
}
