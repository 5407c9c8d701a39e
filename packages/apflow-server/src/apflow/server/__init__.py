"""Serves apflow over HTTP: JSON-RPC, event streams, webhooks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apflow.server.app import create_app
    from apflow.server.embedding import create_router

__all__ = ["create_app", "create_router"]

_MODULES = {"create_app": "apflow.server.app", "create_router": "apflow.server.embedding"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is used: the delivery of webhooks needs no web framework."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
