"""The former functions that make the application of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from aipartnerupflow.api.protocols import check_protocol_dependency
from apflow.core.extensions.user_modules import import_modules
from apflow.core.settings import get_settings
from apflow.server import create_app

__all__ = [
    "create_app",
    "create_app_by_protocol",
    "create_runnable_app",
    "initialize_extensions",
    "setup_app",
]


def create_app_by_protocol(
    protocol: str | None = None,
    *,
    custom_routes: Sequence[BaseRoute] = (),
    custom_middleware: Sequence[Callable[..., ASGIApp]] = (),
) -> FastAPI:
    """Return the application, which serves every protocol of `get_supported_protocols()` at once.

    Args:
        protocol: the protocol that clients use; None for any. It changes nothing, but is checked.
        custom_routes: routes of Starlette that are added after those of apflow. They are as open as their
            code is: apflow authenticates no request to them. In a package, prefer the entry-point group
            `apflow.server`.
        custom_middleware: ASGI middleware classes, the last one outermost.

    Raises:
        InvalidInputError: there is no such protocol.
        ImportError: the library of the protocol is not installed.
        SettingsError: a setting of the server cannot be used.
    """
    if protocol is not None:
        check_protocol_dependency(protocol)
    app = create_app()
    app.router.routes.extend(custom_routes)
    for middleware in custom_middleware:
        app.add_middleware(middleware)
    return app


create_runnable_app = create_app_by_protocol
setup_app = create_app_by_protocol


def initialize_extensions() -> None:
    """Import the modules that `APFLOW_IMPORT` names. Installed executors are known without it.

    The application does this by itself when it starts.

    Raises:
        SettingsError: a module cannot be imported.
    """
    import_modules(get_settings().import_modules)
