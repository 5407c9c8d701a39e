"""The executor `a2a_executor`: calls any agent over the A2A protocol."""

from __future__ import annotations

from apflow.executor.a2a.connection import close_connections
from apflow.executor.a2a.errors import (
    A2aAuthRequiredError,
    A2aCancelledError,
    A2aCardError,
    A2aEndedError,
    A2aError,
    A2aInputError,
    A2aInputRequiredError,
    A2aInterfaceError,
    A2aRefusedError,
    A2aRejectedError,
    A2aResponseError,
    A2aTaskFailedError,
    A2aTimeoutError,
    A2aTooLargeError,
    A2aUnauthorizedError,
    A2aUnreachableError,
)
from apflow.executor.a2a.executor import A2aExecutor, NamedA2aExecutor, named_agent

__all__ = [
    "A2aAuthRequiredError",
    "A2aCancelledError",
    "A2aCardError",
    "A2aEndedError",
    "A2aError",
    "A2aExecutor",
    "A2aInputError",
    "A2aInputRequiredError",
    "A2aInterfaceError",
    "A2aRefusedError",
    "A2aRejectedError",
    "A2aResponseError",
    "A2aTaskFailedError",
    "A2aTimeoutError",
    "A2aTooLargeError",
    "A2aUnauthorizedError",
    "A2aUnreachableError",
    "NamedA2aExecutor",
    "close_connections",
    "named_agent",
]
