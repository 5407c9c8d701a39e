"""What can go wrong between a client and its server.

What the server says of a call comes as the core's own errors (`NotFoundError`, `ConflictError`, ...), with
the server's words. Here stand those that only a client meets.
"""

from __future__ import annotations

from apflow.core.errors import ApflowError, LimitExceededError


class ServerError(ApflowError, RuntimeError):
    """The server could not do its work, or answers what is no answer. `code` is that of JSON-RPC."""

    def __init__(
        self, message: str, status: int, code: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


class ServerBusyError(LimitExceededError):
    """The server takes no more at this moment. Nothing was done.

    `limit` and `user_id` are those of the core's error where too many runs are waiting or going on; else 0
    and None. `retry_after` is in seconds.
    """

    def __init__(
        self, message: str, retry_after: float | None = None, limit: int = 0, user_id: str | None = None
    ) -> None:
        super().__init__(limit, user_id)
        self.args = (message,)
        self.retry_after = retry_after


class ServerUnreachableError(ApflowError, ConnectionError):
    """No server answers, or the connection was lost before it did."""

    def __init__(self, url: str, cause: str, *, was_sent: bool) -> None:
        what = "gave no answer" if was_sent else "cannot be reached"
        unknown = " Whether it did what it was asked is not known." if was_sent else ""
        super().__init__(
            f"The server at {url} {what}: {cause}.{unknown} Check that it runs (`apflow serve`) and that "
            "this is its address."
        )
        self.url, self.was_sent = url, was_sent


class UnknownOperationError(ApflowError, LookupError):
    """The table of operations has none of this name."""

    def __init__(self, name: str, near: str) -> None:
        advice = f" Did you mean {near!r}?" if near else ""
        super().__init__(f"There is no operation {name!r}.{advice}")
        self.name = name
