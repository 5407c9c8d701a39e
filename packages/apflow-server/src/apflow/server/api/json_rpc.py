"""JSON-RPC 2.0 (https://www.jsonrpc.org/specification): requests read, answers worded.

`serve_rpc` does what a request asks; the rest is pure.
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
from apflow.server.http.api_error import Code, HttpFault, MalformedFault, TooLargeFault, fault_of
from apflow.server.http.limits import BATCH, read_json
from apflow.server.http.response import RPC_PATHS, JsonResponse
from apflow.server.streaming.event_stream import watch_response

VERSION: Final = "2.0"

router = APIRouter(tags=["JSON-RPC"])


@dataclass(frozen=True)
class Call:
    """One request of JSON-RPC."""

    method: str
    params: Json
    id: Json = None
    is_notification: bool = False


async def serve_rpc(request: Request, service: TaskService = Depends(current_service)) -> Response:  # noqa: B008
    """Call operations by JSON-RPC 2.0: one, or a batch. Without an `id` there is no answer (204)."""
    given = await read_json(request, request.app.state.settings)
    if isinstance(given, list):
        return await _serve_batch(cast("list[Json]", given), service, request)
    call: Call | None = None
    try:
        call = read_call(given)
        wanted = dispatch.read(call.method, call.params)
        if wanted.is_stream:
            task_id, after, first = await dispatch.prepare_stream(service, wanted, request)
            if call.is_notification:
                return Response(status_code=204)
            told = answered(call, first) if first is not None else None
            return await watch_response(service, task_id, after, told)
        result = await dispatch.perform(service, wanted, request)
    except Exception as error:  # noqa: BLE001 - the border: whatever it is, it is told in one form
        return _told(call, fault_of(error))
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
        raise MalformedFault("A batch holds at least one request.")
    if len(given) > BATCH:
        raise TooLargeFault(f"A batch holds at most {BATCH} requests.")
    request.app.state.rate.check_user(service.user_id, len(given) - 1)
    answers = [await _answer_one(each, service, request) for each in given]
    told = [each for each in answers if each is not None]
    return JsonResponse(told) if told else Response(status_code=204)


async def _answer_one(given: Json, service: TaskService, request: Request) -> dict[str, Json] | None:
    """Return the answer to one request of a batch; none to a notification."""
    call: Call | None = None
    try:
        call = read_call(given)
        wanted = read_without_stream(call)
        result = await dispatch.perform(service, wanted, request)
    except Exception as error:  # noqa: BLE001 - as above
        return None if call is not None and call.is_notification else failed(call, fault_of(error))
    return None if call.is_notification else answered(call, result)


def read_without_stream(call: Call) -> dispatch.Wanted:
    """Return what a call in a batch asks for.

    Raises:
        HttpFault: there is no such thing, or it is answered with events.
    """
    wanted = dispatch.read(call.method, call.params)
    if wanted.is_stream:
        raise MalformedFault("A batch cannot be answered with events. Ask for them alone.")
    return wanted


def read_call(given: Json) -> Call:
    """Return a request of JSON-RPC.

    Raises:
        MalformedFault: it is none.
    """
    if not isinstance(given, dict):
        raise MalformedFault("A request of JSON-RPC is an object.")
    read = cast("dict[str, Json]", given)
    if read.get("jsonrpc") != VERSION:
        raise MalformedFault('A request of JSON-RPC says "jsonrpc": "2.0".')
    if not isinstance(read.get("method"), str):
        raise MalformedFault("method is a text.")
    if not is_id(read.get("id")):
        raise MalformedFault("id is a text, a number of 64 bits, or null.")
    params = read.get("params", {})
    if not isinstance(params, dict | list):
        raise MalformedFault("params is an object or an array.")
    return Call(read["method"], params, read.get("id"), is_notification="id" not in read)


def is_id(given: Json) -> bool:
    """Say whether a value may be the id of a request: also the answer must be able to carry it."""
    if isinstance(given, float):
        return math.isfinite(given)
    if isinstance(given, int):
        return not isinstance(given, bool) and -(2**63) <= given < 2**64
    return given is None or isinstance(given, str)


def answered(call: Call, result: Json) -> dict[str, Json]:
    """Return the answer to a call."""
    return {"jsonrpc": VERSION, "id": call.id, "result": result}


def failed(call: Call | None, fault: HttpFault) -> dict[str, Json]:
    """Return what a call is told instead of an answer."""
    return {"jsonrpc": VERSION, "id": call.id if call else None, "error": fault.body()}


def status_of(fault: HttpFault) -> int:
    """Return the status of HTTP: 200 where the exchange is a valid one, and only the call failed."""
    if fault.code in (Code.PARSE, Code.INVALID_REQUEST) or fault.status in (413, 429, 503):
        return fault.status
    return 200


def _told(call: Call | None, fault: HttpFault) -> Response:
    if call is not None and call.is_notification:
        return Response(status_code=204)
    return JsonResponse(failed(call, fault), status_of(fault), fault.headers)
