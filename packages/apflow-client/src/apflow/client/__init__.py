"""A typed client of an apflow server.

Every name below is imported on first use (PEP 562): a command that asks another process of this machine
needs no HTTP.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apflow.client._generated_sync_client import SyncClient
    from apflow.client.async_client import Client
    from apflow.client.errors import (
        ServerBusyError,
        ServerError,
        ServerUnreachableError,
        UnknownOperationError,
    )
    from apflow.client.service import RemoteService

_HOME = {
    "Client": "async_client",
    "RemoteService": "service",
    "ServerBusyError": "errors",
    "ServerError": "errors",
    "ServerUnreachableError": "errors",
    "SyncClient": "_generated_sync_client",
    "UnknownOperationError": "errors",
}

__all__ = [
    "Client",
    "RemoteService",
    "ServerBusyError",
    "ServerError",
    "ServerUnreachableError",
    "SyncClient",
    "UnknownOperationError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"apflow.client.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
