"""Whether an operation continues after its connection was lost. Pure.

A server that runs a call as a separate task continues while nothing is connected to it. Its task is then
followed over another connection, and the tool is not called again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from apflow.core.errors import ApflowError, HostNotFoundError, HostUnreachableError
from apflow.executor.mcp.errors import (
    UNAVAILABLE_STATUSES,
    McpAuthError,
    McpConnectError,
    McpDiscoveryError,
    McpHttpError,
    McpLostError,
    McpSessionEndedError,
)
from apflow.executor.mcp.task_handle import Handle, RemoteTask

FIRST_DELAY_SECONDS: Final = 0.5  # doubles with each failure
MAX_DELAY_SECONDS: Final = 15.0


@dataclass(slots=True)
class Resumption:
    """The failures of the connections of one operation.

    Args:
        outlasts_connections: whether the server may be there when a connection has ended. A program is not.
    """

    outlasts_connections: bool
    task: RemoteTask = field(default_factory=RemoteTask)
    lost: ApflowError | None = None  # why the last connection ended
    _delay: float = 0.0
    _known: Handle | None = None  # when the last connection ended
    _is_repeated: bool = False

    def delay_after(self, error: ApflowError) -> float:
        """Return the seconds until the operation must be tried over another connection.

        Raises:
            ApflowError: the given error, because it ends the operation.
        """
        if self.task.handle is None:
            if not isinstance(error, McpSessionEndedError) or self._is_repeated:
                raise error
            self._is_repeated = True  # the server did not act on the request
            return 0.0
        if not (self.outlasts_connections and _is_passing(error)):
            raise error
        has_advanced = self.task.handle is not self._known
        self._delay = FIRST_DELAY_SECONDS if has_advanced else min(MAX_DELAY_SECONDS, 2 * self._delay)
        self.lost, self._known = error, self.task.handle
        return self._delay


def _is_passing(error: ApflowError) -> bool:
    """Return whether a server that was lost, or could not be reached, may be there again later."""
    if isinstance(error, McpHttpError | McpAuthError):
        return error.status_code in UNAVAILABLE_STATUSES
    if isinstance(error, McpDiscoveryError):
        return False
    return isinstance(error, McpLostError | McpConnectError | HostNotFoundError | HostUnreachableError)
