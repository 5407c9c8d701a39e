"""Errors of the connection between a client and its server.

An error that the server returns is raised as the core's class for it (`NotFoundError`, `ConflictError`, ...),
with the message of the server. The classes of this module exist in a client only.
"""

from __future__ import annotations

from apflow.core.errors import ApflowError, LimitExceededError


class ServerError(ApflowError, RuntimeError):
    """The server failed, or its answer is invalid. `code` is the JSON-RPC error code."""

    def __init__(
        self, message: str, status: int, code: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


class ServerBusyError(LimitExceededError):
    """The server refused the call because a limit is exceeded; it did nothing.

    `limit` and `user_id` are those of the core's error if too many runs are waiting or in progress, otherwise
    0 and None. `retry_after` is in seconds.
    """

    def __init__(
        self, message: str, retry_after: float | None = None, limit: int = 0, user_id: str | None = None
    ) -> None:
        super().__init__(limit, user_id)
        self.args = (message,)
        self.retry_after = retry_after


class ServerUnreachableError(ApflowError, ConnectionError):
    """The server does not answer, or the connection was lost before the answer."""

    def __init__(self, url: str, cause: str, *, was_sent: bool) -> None:
        what = "gave no answer" if was_sent else "cannot be reached"
        unknown = " It is not known whether it executed the call." if was_sent else ""
        super().__init__(
            f"The server at {url} {what}: {cause}.{unknown} Check that it is running (`apflow serve`) and "
            "that the address is correct."
        )
        self.url, self.was_sent = url, was_sent


class UnknownOperationError(ApflowError, LookupError):
    """No operation has this name."""

    def __init__(self, name: str, near: str) -> None:
        advice = f" Did you mean {near!r}?" if near else ""
        super().__init__(f"Operation {name!r} does not exist.{advice}")
        self.name = name
