"""A2A over HTTP: JSON-RPC, HTTP+JSON and the card, in versions 1.0 and 0.3.

The SDK reads and writes the messages. Around it are the limits of the server: the size and depth of a
request, its media type, the identity of the caller, and how long a client may read nothing of a stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, cast

# First, because of cycles of imports in the SDK (1.3): without the first, its client has no transport for 0.3
# over gRPC; without the second, the adapters cannot be imported.
import a2a.client  # pyright: ignore[reportUnusedImport]
import a2a.server.routes  # noqa: F401  # pyright: ignore[reportUnusedImport]
from a2a.compat.v0_3.jsonrpc_adapter import JSONRPC03Adapter
from a2a.compat.v0_3.rest_adapter import REST03Adapter
from a2a.extensions.common import HTTP_EXTENSION_HEADER, get_requested_extensions
from a2a.server.jsonrpc_models import InvalidParamsError, InvalidRequestError
from a2a.server.request_handlers.request_handler import RequestHandler
from a2a.server.request_handlers.response_helpers import build_error_response
from a2a.server.routes.common import create_event_source_response
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.server.routes.rest_routes import create_rest_routes
from a2a.types.a2a_pb2 import AgentCard
from a2a.utils.error_handlers import build_rest_error_payload, rest_stream_error_handler
from a2a.utils.errors import ContentTypeNotSupportedError
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.server.a2a.calls import CURRENT, LEGACY, Call
from apflow.server.a2a.card import EXTENSION, Addresses, Cards, card_json, is_known
from apflow.server.a2a.context import SERVICE, VERSION, ContextBuilder
from apflow.server.a2a.handler import TreeHandler
from apflow.server.auth.authentication import bearer_service
from apflow.server.http.api_error import ApiError, Code, MalformedRequestError
from apflow.server.http.limits import parse, read_body
from apflow.server.http.listening import Place, read_place
from apflow.server.streaming.event_stream import SEND_TIMEOUT

logger = logging.getLogger(__name__)

ENVELOPE: Final = 12  # levels of JSON around the values of a task
MEDIA_TYPES: Final = ("application/json", "application/a2a+json")
STATUS_NAMES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class LegacyAdapter(JSONRPC03Adapter):
    """Version 0.3 over JSON-RPC. Invalid parameters are -32602, where the SDK (1.3) answers -32600."""

    def _generate_error_response(self, request_id: Any, error: Any) -> Any:
        if isinstance(error, InvalidRequestError):
            error = InvalidParamsError(message="Invalid parameters", data=error.data)
        return super()._generate_error_response(request_id, error)


class LegacyRestAdapter(REST03Adapter):
    """Version 0.3 over HTTP+JSON. A stream that fails at its start is answered with the error.

    The SDK (1.3) has sent the head of the answer by then, and the client sees a broken connection.
    """

    @rest_stream_error_handler
    async def _handle_streaming_request(self, method: Any, request: Request) -> Any:
        events = aiter(method(request, self._context_builder.build(request)))
        first = await anext(events, None)

        async def written() -> AsyncGenerator[str, None]:
            if first is not None:
                yield dumps(first).decode()
            async for event in events:
                yield dumps(event).decode()

        return create_event_source_response(written())


class Endpoints:
    """What one application answers over A2A.

    Args:
        handler: of the operations; by default, trees are the tasks.
    """

    def __init__(self, app: FastAPI, handler: RequestHandler | None = None) -> None:
        self._app = app
        self._settings: Settings = app.state.settings
        self._cards = Cards(self._settings)
        self._base = self._settings.public_url.rstrip("/")
        self.handler = handler or TreeHandler(self._extended_card)
        builder = ContextBuilder()
        self._json_rpc = JsonRpcDispatcher(self.handler, builder, enable_v0_3_compat=True)
        self._json_rpc._v03_adapter = LegacyAdapter(self.handler, builder)  # noqa: SLF001 - it takes no other
        legacy = LegacyRestAdapter(self.handler, builder).routes()
        routes = [Route(path, endpoint, methods=[method]) for (path, method), endpoint in legacy.items()]
        self._rest = Router(routes=[*routes, *create_rest_routes(self.handler, builder)])

    async def card(self, request: Request) -> Response:
        """Answer with the public card."""
        body = card_json(await self._cards.make(self._addresses(request.scope), is_extended=False))
        headers = self._cards.headers(body)
        if is_known(request.headers, headers):
            return Response(status_code=304, headers=headers)
        return JSONResponse(body, headers=headers)

    async def json_rpc(self, request: Request, service: TaskService) -> Response:
        """Answer a request of JSON-RPC."""
        if _media_type(request.headers) != MEDIA_TYPES[0]:
            error = ContentTypeNotSupportedError("Content-Type must be application/json.")
            return JSONResponse(build_error_response(None, error))
        try:
            body = await read_body(request, self._settings)
            method = _method(parse(body, self._settings.max_json_depth + ENVELOPE))
        except MalformedRequestError as error:
            return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error.body()})
        _prepare(request, service, LEGACY if "/" in method else CURRENT)
        answer = await self._json_rpc.handle_requests(Request(request.scope, _replay(body, request.receive)))
        return BoundedResponse(answer, request)

    async def rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of HTTP+JSON, as an ASGI application."""
        request = Request(scope, receive)
        try:
            service = await bearer_service(request)
            if request.method == "POST":
                body = await read_body(request, self._settings)
                if body and _media_type(request.headers) not in MEDIA_TYPES:
                    error = ContentTypeNotSupportedError(f"Content-Type must be {' or '.join(MEDIA_TYPES)}.")
                    await JSONResponse(build_rest_error_payload(error), 400)(scope, receive, send)
                    return
                if body:
                    parse(body, self._settings.max_json_depth + ENVELOPE)
                receive = _replay(body, receive)
        except ApiError as error:
            await _rest_error(error)(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        _prepare(request, service, LEGACY if path.startswith("/v1/") else CURRENT)
        try:
            await BoundedResponse(self._rest, request)(scope, receive, send)
        except HTTPException as error:  # of the router: the path or its method does not exist
            await _rest_problem(
                error.status_code, f"{request.method} {path}: {error.detail}.", error.headers
            )(scope, receive, send)

    async def _extended_card(self, call: Call) -> AgentCard:
        return await self._cards.make(self._addresses(call.connection.scope), is_extended=True)

    def _addresses(self, scope: Mapping[str, Any]) -> Addresses:
        """Return where the agent is: at the public URL, else where the request came in. Never by its Host."""
        settings = self._settings
        if not settings.public_url and scope.get("server"):
            host, port = scope["server"][:2]
            root: str = scope.get("app_root_path", scope.get("root_path", ""))
            place = Place(host, port) if port else host
            self._base = f"{scope.get('scheme', 'http')}://{place}{root}"
        base = self._base or f"http://{read_place(settings.bind)}"
        grpc: str = settings.a2a_grpc_url or self._app.state.a2a_grpc_address
        return Addresses(base, grpc, has_legacy=settings.a2a_legacy)


class BoundedResponse(Response):
    """An answer of the SDK. A client that reads nothing of it for long is given up."""

    def __init__(self, app: ASGIApp, request: Request) -> None:
        super().__init__()
        self._app = app
        given = get_requested_extensions(request.headers.getlist(HTTP_EXTENSION_HEADER))
        self._activated = EXTENSION if EXTENSION in given else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            if message["type"] == "http.response.start" and self._activated:
                MutableHeaders(scope=message)[HTTP_EXTENSION_HEADER] = self._activated
            async with asyncio.timeout(SEND_TIMEOUT):
                await send(message)

        try:
            await self._app(scope, receive, send_in_time)
        except* TimeoutError:
            logger.info("A client of A2A read nothing for long.")


def _prepare(request: Request, service: TaskService, version: str) -> None:
    """Store what the context of the call needs."""
    setattr(request.state, SERVICE, service)
    setattr(request.state, VERSION, version)


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _method(body: Json) -> str:
    method = cast("dict[str, Json]", body).get("method") if isinstance(body, dict) else None
    return method if isinstance(method, str) else ""


def _replay(body: bytes | bytearray, receive: Receive) -> Receive:
    """Return what yields a body that was read already, and then what follows."""
    waiting = [bytes(body)]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay


def _rest_error(error: ApiError) -> Response:
    status = error.status if error.code is not Code.PARSE else 400
    return _rest_problem(status, error.message, error.headers)


def _rest_problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as section 11.6 of the specification defines it."""
    body = {"code": status, "status": STATUS_NAMES.get(status, "UNKNOWN"), "message": message}
    return JSONResponse({"error": body}, status, headers=headers)
