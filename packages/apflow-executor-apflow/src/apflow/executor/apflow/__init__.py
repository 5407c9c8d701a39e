"""The executor `apflow_api_executor`: runs trees on another apflow server."""

from __future__ import annotations

from apflow.executor.apflow.connection import close_connections
from apflow.executor.apflow.errors import (
    RemoteError,
    RemoteInputError,
    RemoteTimeoutError,
    RemoteTreeCancelledError,
    RemoteTreeFailedError,
)
from apflow.executor.apflow.executor import ApFlowApiExecutor

__all__ = [
    "ApFlowApiExecutor",
    "RemoteError",
    "RemoteInputError",
    "RemoteTimeoutError",
    "RemoteTreeCancelledError",
    "RemoteTreeFailedError",
    "close_connections",
]
