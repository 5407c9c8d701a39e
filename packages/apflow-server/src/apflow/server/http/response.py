"""Answers as responses of HTTP."""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.server.http.api_error import HttpFault, fault_of

RPC_PATHS: Final = ("/tasks", "/system")

_ANY = TypeAdapter[object](object)


class JsonResponse(Response):
    """A response of JSON, times and states as text."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return dumps(_ANY.dump_python(content, mode="json"))


def fault_response(connection: HTTPConnection, fault: HttpFault) -> Response:
    """Return an error in the format of the requested path: JSON-RPC has its own."""
    error: dict[str, Json] = {"error": fault.body()}
    if connection.url.path.removeprefix(connection.scope.get("root_path", "")) in RPC_PATHS:
        error = {"jsonrpc": "2.0", "id": None} | error
    return JsonResponse(error, fault.status, fault.headers)


async def tell_fault(request: Request, error: Exception) -> Response:
    """Return any error as a response; what was not foreseen is logged, and not told."""
    return fault_response(request, fault_of(error))
