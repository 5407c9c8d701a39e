"""Operations of the core's table over HTTP: parsed, called and audited.

JSON-RPC, plain HTTP and the WebSocket share this module; each reads its own requests and writes its own
responses. What is special about an operation is a column of the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from starlette.requests import Request

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS, Operation, unknown_operation
from apflow.core.service.task_service import TaskService
from apflow.server.drain import Drain
from apflow.server.http.api_error import (
    ApiError,
    Code,
    InvalidParametersError,
    UnavailableError,
    api_error_of,
)
from apflow.server.observability import audit

PROTOCOL: Final = "jsonrpc"


@dataclass(frozen=True)
class ParsedCall:
    """A call of an operation, with validated arguments."""

    operation: Operation
    arguments: Mapping[str, Any]

    @property
    def is_stream(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.operation.is_stream or self.arguments.get(self.operation.stream_parameter or "") is True

    @property
    def is_waiting(self) -> bool:
        """Whether the answer waits for the end of a run."""
        return bool(self.arguments.get(self.operation.wait_parameter or ""))


def parse(name: str, params: Json) -> ParsedCall:
    """Find an operation and validate its parameters.

    Raises:
        ApiError: the operation does not exist, or its parameters are invalid.
    """
    operation = OPERATIONS.get(name)
    if operation is None:
        raise ApiError(404, Code.UNKNOWN_METHOD, unknown_operation(name))
    named = named_parameters(operation, params)
    try:
        return ParsedCall(operation, operation.read(named))
    except InvalidInputError as error:
        raise InvalidParametersError(error) from error


def named_parameters(operation: Operation, params: Json) -> dict[str, Json]:
    """Return the parameters by name, with the shorthand of the operation expanded.

    Raises:
        ApiError: the parameters are an array, and the operation has no shorthand.
    """
    shorthand = operation.shorthand
    if isinstance(params, list):
        if shorthand is not None:
            return {shorthand.parameter: params}
        raise InvalidParametersError(InvalidInputError(f"{operation.name} takes its parameters by name."))
    named = cast("dict[str, Json]", params)
    if shorthand is None or shorthand.parameter in named:
        return named
    value = {name: given for name, given in named.items() if name not in shorthand.options}
    options = {name: given for name, given in named.items() if name in shorthand.options}
    return ({shorthand.parameter: value} if value else {}) | options


async def call(
    service: TaskService, parsed: ParsedCall, request: Request, *, protocol: str = PROTOCOL
) -> Json:
    """Call an operation and return its result. A call answered with events is for `prepare_stream`.

    Args:
        protocol: the protocol of the call, for results that name it.

    Raises:
        ApiError: the call failed.
    """
    with audit.of(request, service, parsed.operation, parsed.arguments):
        try:
            return await _call(service, parsed, request, protocol)
        except Exception as error:
            raise api_error_of(error) from error


async def prepare_stream(
    service: TaskService, parsed: ParsedCall, request: Request
) -> tuple[str, int | None, dict[str, Json] | None]:
    """Request the run, if the call requests one, and return what the stream of its events needs.

    Returns:
        the ID of the task, the number of the last event that the client has, and the result of the call,
        which precedes the events.

    Raises:
        ApiError: the call failed.
    """
    request.app.state.streams.check(request.state.caller)
    operation = parsed.operation
    if operation.is_stream:
        return parsed.arguments["task_id"], parsed.arguments.get("after"), None
    arguments = {name: value for name, value in parsed.arguments.items() if name != operation.wait_parameter}
    result = await call(service, replace(parsed, arguments=arguments), request)
    return result["root_task_id"], None, result


async def _call(service: TaskService, parsed: ParsedCall, request: Request, protocol: str) -> Json:
    calling = parsed.operation.bound_to(service)(**parsed.arguments)
    if parsed.is_waiting:
        calling = cancel_on_disconnect(calling, request.app.state.drain, request)
    result = await calling
    return {"protocol": protocol} | result if parsed.operation.reports_protocol else result


async def cancel_on_disconnect(calling: Coroutine[Any, Any, Json], drain: Drain, request: Request) -> Json:
    """Return the result of a call; cancel the call if the client disconnects or the server shuts down.

    Raises:
        UnavailableError: the call was cancelled.
    """
    answer = asyncio.ensure_future(calling)
    others = [asyncio.ensure_future(drain.over()), asyncio.ensure_future(_disconnected(request))]
    try:
        await asyncio.wait([answer, *others], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
    finally:
        for each in (answer, *others):
            each.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await each
    raise UnavailableError("The server ends before the run does. The run stays requested.", Code.LIMIT)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
