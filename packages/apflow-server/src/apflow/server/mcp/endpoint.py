"""The endpoint `/mcp` of the application.

The SDK is imported with the first request, because that takes half a second and many servers get none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from apflow.core.process.late_import import import_late
from apflow.core.settings import Settings
from apflow.server.auth.authentication import bearer_service
from apflow.server.auth.caller import Caller
from apflow.server.http.api_error import ApiError, Code, UnauthorizedError
from apflow.server.http.limits import read_body
from apflow.server.http.protection import has_auth
from apflow.server.http.response import JsonResponse
from apflow.server.mcp.access import METADATA, PATH, challenged, check_names, metadata
from apflow.server.mcp.protocol_version import refusal, unsupported_version
from apflow.server.streaming.event_stream import until_closed

if TYPE_CHECKING:
    from apflow.server.mcp.exchange import Exchange
    from apflow.server.mcp.handlers import Additions
    from apflow.server.mcp.sdk import HttpServer

LISTEN: Final = "subscriptions/listen"  # a request whose answer is a stream
MISSING: Final = (
    "This server does not speak MCP, because the Python package mcp is not installed there: "
    'pip install "apflow-server[mcp]".'
)


class McpEndpoint:
    """An ASGI application that answers MCP clients.

    Args:
        settings: those of the application.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.additions: Additions | None = None  # what is offered beside apflow's tools; before the first use
        self._starting: asyncio.Task[HttpServer] | None = None
        self._running: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        check_names(request.headers, self._settings)
        try:
            request.state.mcp_service = await bearer_service(request)
        except UnauthorizedError as error:
            raise challenged(error, request, self._settings) from error
        caller: Caller = request.state.caller
        server = await self._server()
        unsupported = unsupported_version(request.headers, server.versions) if server.versions else None
        if unsupported is not None:
            refused = refusal(unsupported, server.versions, await read_body(request, self._settings))
            await JsonResponse(refused, 400)(scope, receive, send)
            return
        handling = server.handle(scope, receive, send, caller.user_id)
        if request.method != "GET" and request.headers.get("mcp-method") != LISTEN:
            await handling
            return
        request.app.state.streams.check(caller)
        with request.app.state.streams.opened("mcp", caller):
            await _while_open(handling, request, caller)

    async def close(self) -> None:
        """End all sessions. The next request starts the server again."""
        starting, self._starting = self._starting, None
        running, self._running = self._running, None
        if starting is not None:
            await asyncio.wait({starting})
        self._ending.set()
        if running is not None:
            await running
        self._ending = asyncio.Event()

    async def _server(self) -> HttpServer:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="apflow:mcp:start")
        return await asyncio.shield(self._starting)

    async def _start(self) -> HttpServer:
        try:
            sdk = await asyncio.to_thread(import_late, "apflow.server.mcp.sdk")
        except ModuleNotFoundError as error:
            raise ApiError(501, Code.UNKNOWN_METHOD, MISSING) from error
        from apflow.server.mcp.handlers import Handlers

        settings = self._settings
        handlers = Handlers(
            settings.mcp_tools, _calls_of, self.additions, task_seconds=settings.mcp_task_seconds
        )
        server: HttpServer = sdk.HttpServer(
            handlers,
            has_sessions=settings.mcp_sessions,
            max_bytes=settings.max_request_bytes,
        )
        is_ready = asyncio.Event()
        self._running = asyncio.create_task(self._run(server, is_ready), name="apflow:mcp")
        await is_ready.wait()
        return server

    async def _run(self, server: HttpServer, is_ready: asyncio.Event) -> None:
        async with server.running():
            is_ready.set()
            await self._ending.wait()


async def _while_open(handling: Any, request: Request, caller: Caller) -> None:
    """Serve a stream until the client, the server or the token ends."""
    stream = asyncio.ensure_future(handling)
    closed = asyncio.ensure_future(until_closed(request.app.state.drain, caller))
    try:
        await asyncio.wait([stream, closed], return_when=asyncio.FIRST_COMPLETED)
        if stream.done():
            stream.result()
    finally:
        for each in (stream, closed):
            each.cancel()
        await asyncio.wait([stream, closed])


def _calls_of(exchange: Exchange) -> Any:
    from apflow.server.mcp.calls import HttpCalls

    request = cast("Request", exchange.request)
    return HttpCalls(request.state.mcp_service, request)


def add_mcp(app: FastAPI, settings: Settings) -> McpEndpoint:
    """Add the endpoint to an application, and the metadata by which clients find the issuer of tokens."""
    endpoint = McpEndpoint(settings)

    async def describe(request: Request) -> Response:
        return JsonResponse(metadata(request, settings))

    app.router.routes += [Route(path, endpoint) for path in (PATH, f"{PATH}/")]
    if has_auth(settings):
        app.router.routes += [Route(path, describe) for path in (METADATA, METADATA + PATH)]
    return endpoint
