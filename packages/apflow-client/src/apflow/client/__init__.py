"""A typed client of an apflow server."""

from __future__ import annotations

from apflow.client._generated_sync_client import SyncClient
from apflow.client.async_client import Client
from apflow.client.errors import (
    ServerBusyError,
    ServerError,
    ServerUnreachableError,
    UnknownOperationError,
)
from apflow.client.service import RemoteService

__all__ = [
    "Client",
    "RemoteService",
    "ServerBusyError",
    "ServerError",
    "ServerUnreachableError",
    "SyncClient",
    "UnknownOperationError",
]
