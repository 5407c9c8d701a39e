"""A2A over gRPC, in versions 1.0 and 0.3, on a separate port.

The same token identifies the caller as over HTTP: `authorization: Bearer TOKEN` in the metadata. TLS is for a
proxy in front of the server.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final, cast

# First, because of a cycle of imports in the SDK (1.3): else its client has no transport for 0.3 over gRPC.
import a2a.client  # noqa: F401  # pyright: ignore[reportUnusedImport]
import grpc
import grpc.aio
from a2a.compat.v0_3 import a2a_v0_3_pb2_grpc
from a2a.compat.v0_3.grpc_handler import CompatGrpcHandler
from a2a.extensions.common import HTTP_EXTENSION_HEADER, get_requested_extensions
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.grpc_handler import GrpcHandler, GrpcServerCallContextBuilder
from a2a.server.request_handlers.request_handler import RequestHandler
from a2a.types import a2a_pb2_grpc
from fastapi import FastAPI
from starlette.requests import HTTPConnection

from apflow.core.settings import Settings
from apflow.server.a2a.calls import CALL, CURRENT, LEGACY, Call
from apflow.server.a2a.context import VERSION_HEADER, KnownUser, check_version
from apflow.server.auth.authentication import bearer_service
from apflow.server.http.api_error import ApiError
from apflow.server.http.listening import CannotListenError, Place

STOP_SECONDS: Final = 5.0  # seconds that calls have to end when the server stops
LEGACY_SERVICE: Final = "/a2a.v1."  # how the paths of version 0.3 begin

Details = grpc.HandlerCallDetails
Continue = Callable[[Details], Awaitable[Any]]

_call: ContextVar[Call] = ContextVar("a2a_call")


class GrpcServer:
    """Serves the operations of one application over gRPC."""

    def __init__(self, app: FastAPI, handler: RequestHandler) -> None:
        self._app, self._handler = app, handler

    @asynccontextmanager
    async def serving(self, place: Place) -> AsyncGenerator[str]:
        """Serve while the context lasts, and yield the address.

        Raises:
            CannotListenError: the address is not available.
        """
        settings: Settings = self._app.state.settings
        server = grpc.aio.server(
            interceptors=[Identity(self._app)],
            options=[
                ("grpc.max_receive_message_length", settings.max_request_bytes),
                ("grpc.so_reuseport", 0),
            ],
        )
        builder = KnownContext()
        current, legacy = cast("Any", a2a_pb2_grpc), cast("Any", a2a_v0_3_pb2_grpc)
        current.add_A2AServiceServicer_to_server(GrpcHandler(self._handler, builder), server)
        legacy.add_A2AServiceServicer_to_server(CompatGrpcHandler(self._handler, builder), server)
        try:
            port = server.add_insecure_port(str(place))
        except RuntimeError as error:
            raise CannotListenError(place, "the address is not available") from error
        await server.start()
        try:
            yield str(Place(place.host, port))
        finally:
            await server.stop(STOP_SECONDS)


class KnownContext(GrpcServerCallContextBuilder):
    """Makes the context of a call, with the caller that `Identity` has found."""

    def build(self, context: Any) -> ServerCallContext:
        """Return the context of a call.

        Raises:
            VersionNotSupportedError: the client asks for another version.
        """
        call = _call.get()
        metadata = [(str(name), str(value)) for name, value in context.invocation_metadata() or ()]
        check_version(dict(metadata).get(VERSION_HEADER, ""), call.version)
        extensions = [value for name, value in metadata if name.lower() == HTTP_EXTENSION_HEADER.lower()]
        return ServerCallContext(
            user=KnownUser(call.caller),
            state={"headers": dict(metadata), "grpc_context": context, CALL: call},
            requested_extensions=get_requested_extensions(extensions),
        )


class Identity(grpc.aio.ServerInterceptor):
    """Identifies the caller of each call."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def intercept_service(self, continuation: Continue, handler_call_details: Details) -> Any:
        """Return the handler of a call, or one that refuses it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        details: Any = handler_call_details
        method: str = details.method
        metadata = [(str(name), str(value)) for name, value in details.invocation_metadata or ()]
        version = LEGACY if method.startswith(LEGACY_SERVICE) else CURRENT
        connection = HTTPConnection(self._scope(metadata))
        try:
            service = await bearer_service(connection)
        except ApiError as error:
            return _refusing(handler, _STATUS.get(error.status, grpc.StatusCode.INTERNAL), error.message)
        _call.set(Call(service, connection.state.caller, connection, version))
        return handler

    def _scope(self, metadata: list[tuple[str, str]]) -> dict[str, Any]:
        """Return a connection as the identity check and the audit log know it."""
        headers = [(name.lower().encode(), value.encode()) for name, value in metadata]
        return {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": headers,
            "state": {},
            "client": None,
            "app": self._app,
        }


_STATUS: Final = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


def _refusing(handler: Any, code: grpc.StatusCode, message: str) -> Any:
    """Return a handler of the same kind that refuses the call."""

    async def refuse(_: Any, context: Any) -> Any:
        await context.abort(code, message)

    async def refuse_stream(_: Any, context: Any) -> AsyncGenerator[Any]:
        await context.abort(code, message)
        yield None

    coders = (handler.request_deserializer, handler.response_serializer)
    if handler.response_streaming:
        return cast("Any", grpc.unary_stream_rpc_method_handler)(refuse_stream, *coders)
    return cast("Any", grpc.unary_unary_rpc_method_handler)(refuse, *coders)
