"""The paths of A2A. The SDK is imported with the first request: it takes more than a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.server.auth.authentication import bearer_service
from apflow.server.http.api_error import ApiError, Code, MalformedRequestError
from apflow.server.http.listening import read_place

if TYPE_CHECKING:
    from apflow.server.a2a.endpoints import Endpoints

JSON_RPC_PATHS: Final = ("/", "/a2a", "/a2a/")
CARD_PATHS: Final = ("/.well-known/agent-card.json", "/.well-known/agent-card", "/.well-known/agent.json")
REST_PATH: Final = "/v1"


def add_routes(app: FastAPI) -> None:
    """Add the paths of A2A to an application."""
    app.state.a2a = None  # `Endpoints`, once there was a request
    app.state.a2a_grpc_address = ""
    router = APIRouter(tags=["A2A"])
    for path in JSON_RPC_PATHS:
        router.add_api_route(path, _json_rpc, methods=["POST"], include_in_schema=False)
    for path in CARD_PATHS:
        router.add_api_route(path, _card, methods=["GET"], include_in_schema=False)
    app.include_router(router)
    app.mount(REST_PATH, _rest)


@asynccontextmanager
async def serving_grpc(app: FastAPI) -> AsyncGenerator[None]:
    """Serve A2A over gRPC in this context, if APFLOW_A2A_GRPC_BIND is set.

    Raises:
        CannotListenError: the address is not available.
    """
    settings: Settings = app.state.settings
    if not settings.a2a_grpc_bind:
        yield
        return
    place = read_place(settings.a2a_grpc_bind, "APFLOW_A2A_GRPC_BIND")
    handler = (await endpoints(app)).handler
    from apflow.server.a2a.grpc_server import GrpcServer

    async with GrpcServer(app, handler).serving(place) as address:
        app.state.a2a_grpc_address = address
        try:
            yield
        finally:
            app.state.a2a_grpc_address = ""


async def endpoints(app: FastAPI) -> Endpoints:
    """Return what an application answers over A2A.

    Raises:
        ApiError: the A2A SDK is not installed.
    """
    if app.state.a2a is None:
        if find_spec("a2a") is None:
            raise ApiError(
                404, Code.NOT_FOUND, "This server does not serve A2A. Install apflow-server[a2a] to add it."
            )
        made = await asyncio.to_thread(_make, app)
        if app.state.a2a is None:
            app.state.a2a = made
    found: Endpoints = app.state.a2a
    return found


def _make(app: FastAPI) -> Endpoints:
    from apflow.server.a2a.endpoints import Endpoints

    return Endpoints(app)


async def _json_rpc(request: Request, service: TaskService = Depends(bearer_service)) -> Response:  # noqa: B008
    return await (await endpoints(request.app)).json_rpc(request, service)


async def _card(request: Request) -> Response:
    return await (await endpoints(request.app)).card(request)


async def _rest(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise MalformedRequestError("A2A does not use WebSockets.")
    await (await endpoints(scope["app"])).rest(scope, receive, send)
