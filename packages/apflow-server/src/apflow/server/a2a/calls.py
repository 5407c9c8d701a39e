"""Calls of A2A operations: the caller, and calls of the operations of apflow's table.

Every transport stores the verified caller in the connection that its call context holds, so that there is one
identity check and one way to the operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from a2a.server.context import ServerCallContext
from starlette.requests import HTTPConnection

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.operations import Operation
from apflow.core.service.task_service import TaskService
from apflow.server.api.dispatch import parse
from apflow.server.auth.caller import Caller
from apflow.server.drain import Drain
from apflow.server.http.api_error import api_error_of
from apflow.server.observability import audit
from apflow.server.streaming.event_stream import Streams

CALL: Final = "apflow"  # key of the state of a call context
CURRENT: Final = "1.0"  # versions of the protocol
LEGACY: Final = "0.3"


@dataclass(frozen=True)
class Call:
    """One call of an A2A operation, with its caller."""

    service: TaskService
    caller: Caller
    connection: HTTPConnection  # for the audit log
    version: str  # of the protocol that the client uses: `CURRENT` or `LEGACY`
    tenant: str = ""

    @property
    def streams(self) -> Streams:
        """The open streams of the server."""
        streams: Streams = self.connection.scope["app"].state.streams
        return streams

    @property
    def drain(self) -> Drain:
        """How far the end of the server has come."""
        drain: Drain = self.connection.scope["app"].state.drain
        return drain


def call_of(context: ServerCallContext) -> Call:
    """Return the call of a context, with the tenant that the client names."""
    call: Call = context.state[CALL]
    return replace(call, tenant=context.tenant or "")


async def operate(call: Call, name: str, parameters: Mapping[str, Json]) -> Json:
    """Call an operation of the table, and note it in the audit log.

    Raises:
        ApiError: the operation does not exist, or the call failed.
    """
    parsed = parse(name, dict(parameters))
    operation: Operation = parsed.operation
    if parsed.is_stream:
        message = f"{name} is answered with a stream. Use SubscribeToTask."
        raise InvalidInputError("Invalid message.", [f"metadata.method: {message}"])
    arguments = dict(parsed.arguments)
    if operation.wait_parameter is not None:
        arguments.pop(operation.wait_parameter, None)
    with audit.of(call.connection, call.service, operation, arguments):
        try:
            return await operation.bound_to(call.service)(**arguments)
        except Exception as error:
            raise api_error_of(error) from error
