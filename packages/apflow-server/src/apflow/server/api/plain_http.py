"""Operations over plain HTTP: `POST /call/<operation>` takes the parameters as JSON and returns the result.

A call that fails has the matching HTTP status, and the same error object as JSON-RPC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS, Operation
from apflow.core.service.task_service import TaskService
from apflow.server.api import dispatch
from apflow.server.api.openapi import PREFIX
from apflow.server.auth.authentication import current_service
from apflow.server.http.api_error import MalformedRequestError
from apflow.server.http.limits import read_json
from apflow.server.http.response import JsonResponse
from apflow.server.streaming.event_stream import watch_response


def make_router() -> APIRouter:
    """Return a router with one path for each operation of the table."""
    router = APIRouter(tags=["operations"])
    for operation in OPERATIONS.values():
        router.add_api_route(
            PREFIX + operation.name,
            _endpoint(operation),
            methods=["POST"],
            name=operation.name,
            summary=operation.summary,
            description=operation.description,
            response_class=JsonResponse,
        )
    return router


def _endpoint(operation: Operation) -> Callable[..., Awaitable[Response]]:
    async def serve(request: Request, service: TaskService = Depends(current_service)) -> Response:  # noqa: B008
        given = await read_json(request, request.app.state.settings)
        if not isinstance(given, dict):
            raise MalformedRequestError("The parameters must be an object.")
        parsed = dispatch.parse(operation.name, cast("dict[str, Json]", given))
        if parsed.is_stream:
            stream = await dispatch.prepare_stream(service, parsed, request)
            return await watch_response(service, *stream)
        return JsonResponse(await dispatch.call(service, parsed, request))

    serve.__doc__ = operation.summary
    return serve
