"""The application as a router, for `include_router` of another FastAPI application.

The router forwards each request below its prefix to a complete application,
with its protection, limits, logs and error responses. FastAPI runs the lifespan of an included router with
the lifespan of the outer application.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore
from apflow.server.app import create_app

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ANY_PATH: Final = "/{path:path}"
OF_OUTER: Final = ("path_params", "route", "endpoint", "router")  # what the outer application's router adds


def create_router(settings: Settings | None = None, *, db: TaskStore | None = None) -> APIRouter:
    """Return a router that serves apflow: `app.include_router(create_router(), prefix="/flow")`.

    Dependencies of `include_router`, such as a check of the caller, apply to every request. The router
    matches every path under its prefix, so that routes added later under the same prefix are not reached.
    apflow's description of its operations is at `/docs` and `/openapi.json` below the prefix.

    Args:
        settings: those of this process, if None.
        db: the store; the one that the settings name, if None. A given store is not closed at the end.

    Raises:
        SettingsError: a setting of the server cannot be used.
    """
    return router_of(create_app(settings, db=db))


def router_of(app: FastAPI) -> APIRouter:
    """Return a router that serves an application of `create_app`; see `create_router`."""

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncGenerator[None]:
        async with app.router.lifespan_context(app):
            yield

    async def forward(request: Request) -> Response:
        return Forwarded(app, request.path_params["path"])

    async def forward_socket(socket: WebSocket) -> None:
        await app(scope_below(socket.scope, socket.path_params["path"]), socket.receive, socket.send)

    router = APIRouter(lifespan=lifespan, tags=["apflow"], redirect_slashes=False)
    router.add_api_route(ANY_PATH, forward, methods=list(METHODS), include_in_schema=False, name="apflow")
    router.add_api_websocket_route(ANY_PATH, forward_socket, name="apflow:socket")
    return router


class Forwarded(Response):
    """A response that an application gives to the same request."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        super().__init__()
        self._app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope_below(scope, self._path), receive, send)
        if self.background is not None:  # tasks that dependencies have added
            await self.background()


def scope_below(scope: Scope, path: str) -> Scope:
    """Return the scope for the application that serves the rest of the path, as a mount has it."""
    below = {name: value for name, value in scope.items() if name not in OF_OUTER}
    root: str = scope.get("root_path", "")
    return below | {
        "root_path": scope["path"].removesuffix(f"/{path}"),
        "app_root_path": scope.get("app_root_path", root),
        "state": dict(scope.get("state", {})),
    }
