"""JSON-RPC 2.0 (https://www.jsonrpc.org/specification): read requests and write responses.

Only `serve_rpc` and its batches call operations; the rest is pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, cast

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from apflow.core.model.task import Json
from apflow.core.service.task_service import TaskService
from apflow.server.api import dispatch
from apflow.server.auth.authentication import current_service
from apflow.server.http.api_error import (
    ApiError,
    Code,
    MalformedRequestError,
    RequestTooLargeError,
    api_error_of,
)
from apflow.server.http.limits import BATCH, read_json
from apflow.server.http.response import RPC_PATHS, JsonResponse
from apflow.server.streaming.event_stream import watch_response

VERSION: Final = "2.0"

router = APIRouter(tags=["JSON-RPC"])


@dataclass(frozen=True)
class Call:
    """A JSON-RPC request."""

    method: str
    params: Json
    id: Json = None
    is_notification: bool = False


async def serve_rpc(request: Request, service: TaskService = Depends(current_service)) -> Response:  # noqa: B008
    """Call one operation, or a batch, by JSON-RPC 2.0. A request without an `id` gets no answer (204)."""
    given = await read_json(request, request.app.state.settings)
    if isinstance(given, list):
        return await _serve_batch(cast("list[Json]", given), service, request)
    call: Call | None = None
    try:
        call = read_call(given)
        parsed = dispatch.parse(call.method, call.params)
        if parsed.is_stream:
            task_id, after, first = await dispatch.prepare_stream(service, parsed, request)
            if call.is_notification:
                return Response(status_code=204)
            head = answered(call, first) if first is not None else None
            return await watch_response(service, task_id, after, head)
        result = await dispatch.call(service, parsed, request)
    except Exception as error:  # noqa: BLE001 - the border: every error becomes a response
        return _error_response(call, api_error_of(error))
    return Response(status_code=204) if call.is_notification else JsonResponse(answered(call, result))


for _path in RPC_PATHS:
    router.add_api_route(
        _path,
        serve_rpc,
        methods=["POST"],
        name=f"rpc{_path}",
        response_class=JsonResponse,
    )


async def _serve_batch(given: list[Json], service: TaskService, request: Request) -> Response:
    if not given:
        raise MalformedRequestError("A batch must contain at least one request.")
    if len(given) > BATCH:
        raise RequestTooLargeError(f"A batch may contain at most {BATCH} requests.")
    request.app.state.rate.check_user(service.user_id, len(given) - 1)
    answers = [await _answer_one(each, service, request) for each in given]
    sent = [each for each in answers if each is not None]
    return JsonResponse(sent) if sent else Response(status_code=204)


async def _answer_one(given: Json, service: TaskService, request: Request) -> dict[str, Json] | None:
    """Return the answer to one request of a batch; None for a notification."""
    call: Call | None = None
    try:
        call = read_call(given)
        parsed = parse_without_stream(call)
        result = await dispatch.call(service, parsed, request)
    except Exception as error:  # noqa: BLE001 - as above
        return None if call is not None and call.is_notification else failed(call, api_error_of(error))
    return None if call.is_notification else answered(call, result)


def parse_without_stream(call: Call) -> dispatch.ParsedCall:
    """Parse a request of a batch.

    Raises:
        ApiError: the call is invalid, or its answer is a stream of events.
    """
    parsed = dispatch.parse(call.method, call.params)
    if parsed.is_stream:
        raise MalformedRequestError(
            "A batch cannot contain a call that returns events. Send that call separately."
        )
    return parsed


def read_call(given: Json) -> Call:
    """Read a JSON-RPC request.

    Raises:
        MalformedRequestError: the value is not a valid request.
    """
    if not isinstance(given, dict):
        raise MalformedRequestError("A JSON-RPC request must be an object.")
    read = cast("dict[str, Json]", given)
    if read.get("jsonrpc") != VERSION:
        raise MalformedRequestError('A JSON-RPC request must contain "jsonrpc": "2.0".')
    if not isinstance(read.get("method"), str):
        raise MalformedRequestError("`method` must be a string.")
    if not is_id(read.get("id")):
        raise MalformedRequestError("`id` must be a string, a number of at most 64 bits, or null.")
    params = read.get("params", {})
    if not isinstance(params, dict | list):
        raise MalformedRequestError("`params` must be an object or an array.")
    return Call(read["method"], params, read.get("id"), is_notification="id" not in read)


def is_id(given: Json) -> bool:
    """Return whether a value is a valid request ID, which the response can repeat exactly."""
    if isinstance(given, float):
        return math.isfinite(given)
    if isinstance(given, int):
        return not isinstance(given, bool) and -(2**63) <= given < 2**64
    return given is None or isinstance(given, str)


def answered(call: Call, result: Json) -> dict[str, Json]:
    """Return the response to a call."""
    return {"jsonrpc": VERSION, "id": call.id, "result": result}


def failed(call: Call | None, error: ApiError) -> dict[str, Json]:
    """Return the error response to a call."""
    return {"jsonrpc": VERSION, "id": call.id if call else None, "error": error.body()}


def status_of(error: ApiError) -> int:
    """Return the HTTP status: 200 if the request is valid and only the call failed."""
    if error.code in (Code.PARSE, Code.INVALID_REQUEST) or error.status in (413, 429, 503):
        return error.status
    return 200


def _error_response(call: Call | None, error: ApiError) -> Response:
    if call is not None and call.is_notification:
        return Response(status_code=204)
    return JsonResponse(failed(call, error), status_of(error), error.headers)
