"""A typed client of an apflow server."""

from __future__ import annotations

from apflow.client.asyncclient import Client
from apflow.client.errors import (
    ServerBusyError,
    ServerError,
    ServerUnreachableError,
    UnknownOperationError,
)
from apflow.client.service import RemoteService
from apflow.client.syncclient import SyncClient

__all__ = [
    "Client",
    "RemoteService",
    "ServerBusyError",
    "ServerError",
    "ServerUnreachableError",
    "SyncClient",
    "UnknownOperationError",
]
