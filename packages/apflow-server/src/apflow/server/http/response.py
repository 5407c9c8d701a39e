"""Answers as responses of HTTP."""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.server.http.api_error import ApiError, api_error_of

RPC_PATHS: Final = ("/tasks", "/system")

_ANY = TypeAdapter[object](object)


class JsonResponse(Response):
    """A response of JSON, times and states as text."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return dumps(as_json(content))


def as_json(content: object) -> Json:
    """Return a result as plain JSON, times and states as text."""
    return _ANY.dump_python(content, mode="json")


def path_of(connection: HTTPConnection) -> str:
    """Return the path within the application. `connection.url` would need a valid Host header."""
    path: str = connection.scope["path"]
    return path.removeprefix(connection.scope.get("root_path", ""))


def error_response(connection: HTTPConnection, error: ApiError) -> Response:
    """Return the response for an error, in the format of the requested path: JSON-RPC has its own."""
    body: dict[str, Json] = {"error": error.body()}
    if path_of(connection) in RPC_PATHS:
        body = {"jsonrpc": "2.0", "id": None} | body
    return JsonResponse(body, error.status, error.headers)


async def handle_error(request: Request, error: Exception) -> Response:
    """Return the response for any exception; an unexpected one is logged and not described."""
    return error_response(request, api_error_of(error))
