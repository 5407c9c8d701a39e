"""What can go wrong with a tree on another server. The class name becomes the `error_type` of the task.

What that server says of a call comes as the core's own error (`NotFoundError`, `ConflictError`, ...), and as
`ServerUnreachableError` or `ServerError` of `apflow.client`.
"""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.errors import ExecutorError


class RemoteError(ExecutorError):
    """A call of another server did not come to the end that was asked for."""


class RemoteInputError(RemoteError):
    """The inputs describe no call that can be made. Nothing was sent."""

    def __init__(self, message: str, violations: Sequence[str] = ()) -> None:
        super().__init__(" ".join([message, *(f"{each}." for each in violations)]))
        self.violations = list(violations)


class RemoteTreeFailedError(RemoteError):
    """The tree there has failed."""

    def __init__(self, base_url: str, task_id: str, error: str) -> None:
        super().__init__(f"{error} (task {task_id!r} at {base_url})")
        self.base_url, self.task_id, self.error = base_url, task_id, error


class RemoteTreeCancelledError(RemoteError):
    """The remote tree was cancelled, but not by this task."""

    def __init__(self, base_url: str, task_id: str, error: str | None) -> None:
        why = f": {error}" if error else ""
        super().__init__(f"Task {task_id!r} at {base_url} was cancelled there{why}.")
        self.base_url, self.task_id = base_url, task_id


class RemoteTimeoutError(RemoteError):
    """It took too long. What was running there was cancelled."""

    def __init__(self, base_url: str, method: str, seconds: float) -> None:
        super().__init__(f"{method} at {base_url} took longer than {seconds:g} s (timeout).")
        self.base_url, self.method, self.seconds = base_url, method, seconds
