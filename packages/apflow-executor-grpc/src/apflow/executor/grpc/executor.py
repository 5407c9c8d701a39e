"""The executor that calls a method of a gRPC service."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, ClassVar, cast

import grpc
import grpc.aio

from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.model.task import Json
from apflow.executor.grpc.call import Answer, Exchange
from apflow.executor.grpc.catalogue import catalogues
from apflow.executor.grpc.channel import channels
from apflow.executor.grpc.description import MAX_NAME_LENGTH, Description, Method, is_name
from apflow.executor.grpc.errors import GrpcInputError, GrpcRequestError, GrpcTimeoutError
from apflow.executor.grpc.fault import WELL_KNOWN_FORMS
from apflow.executor.grpc.inputs import SCHEMA
from apflow.executor.grpc.lookup import Lookup, Source, read_source
from apflow.executor.grpc.message import encode, types_in_request
from apflow.executor.grpc.metadata import Pairs, read_metadata
from apflow.executor.grpc.reflection import Reflection
from apflow.executor.grpc.status import error_of
from apflow.executor.grpc.target import Server, judge, read_server

DEFAULT_TIMEOUT = 30
MAX_TIMEOUT_SECONDS = 365 * 86400  # a deadline that gRPC can still reckon with
DEFAULT_OUTPUT_BYTES = 1 << 20
# A server describes itself in messages of up to this size, however little output is wanted of it.
SMALLEST_RECEIVE = 4 << 20


class GrpcExecutor(BaseTask):
    """Calls one method of a gRPC service, of any of the four kinds."""

    id = "grpc_executor"
    name = "gRPC"
    description = "Calls a method of a gRPC service, described by the server itself or by a .proto file."
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    uses_net_policy = True
    _answer: Answer | None = None

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Call the method.

        Raises:
            GrpcError: one of its kinds, see `errors`.
            AddressRefusedError: the network policy forbids to connect there.
            HostNotFoundError, HostUnreachableError: nothing is there.
        """
        for name in ("service", "method"):
            if not is_name(inputs[name]):
                raise GrpcInputError(
                    f"{name} {inputs[name][:MAX_NAME_LENGTH]!r}", f"is not a valid {name} name."
                )
        server = await read_server(inputs["server"], inputs.get("tls"))
        metadata = read_metadata(inputs.get("metadata", {}))
        source = read_source(inputs, server)
        timeout = min(inputs.get("timeout", DEFAULT_TIMEOUT), MAX_TIMEOUT_SECONDS)
        try:
            async with asyncio.timeout(timeout):
                return await self._execute(inputs, server, metadata, source, time.monotonic() + timeout)
        except TimeoutError as error:
            raise GrpcTimeoutError(
                server.shown,
                f"{inputs['service']}/{inputs['method']}",
                grpc.StatusCode.DEADLINE_EXCEEDED.name,
                f"it took over {timeout:g} s and was cancelled",
            ) from error

    async def cancel(self) -> dict[str, Any]:
        """Return the responses that have come so far. The end of `execute` is what ends the call."""
        if self._answer is None:
            return {"status": "cancelled"}
        return {"status": "cancelled", "partial_result": {"responses": list(self._answer.responses)}}

    async def _execute(
        self, inputs: dict[str, Any], server: Server, metadata: Pairs, source: Source, deadline: float
    ) -> dict[str, Any]:
        limit = inputs.get("max_output_bytes", DEFAULT_OUTPUT_BYTES)
        answer = self._answer = Answer(limit, inputs.get("max_responses"))
        target, catalogue, open_channels = await judge(server), await catalogues.get(), await channels.get()
        async with open_channels.lease(target, max(limit, SMALLEST_RECEIVE)) as channel:
            told, description = "server reflection", None
            reflection = Reflection(channel, metadata, deadline - time.monotonic())
            lookup = Lookup(catalogue, source, reflection)
            try:
                description, method = await lookup.find(inputs["service"], inputs["method"])
                learn = partial(lookup.learn, description)
                requests = await _requests(description, method, inputs["request"], lookup)
                told = method.shown
                exchange = Exchange(method, description, metadata, learn)
                await exchange.run(channel, requests, deadline - time.monotonic(), answer)
            except grpc.aio.AioRpcError as error:
                if description is not None and error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    lookup.forget(description)
                pools = [description.pool] if description else []
                raise error_of(
                    error, server.shown, told, limit=limit, metadata=metadata, pools=pools
                ) from None  # the cause shows what the server said, which may repeat credentials
        return _result(method, answer)


async def _requests(description: Description, method: Method, request: Json, lookup: Lookup) -> list[bytes]:
    """Return the encoded messages to send.

    Raises:
        GrpcRequestError: one does not fit.
    """
    types = {each for each in types_in_request(request) if not description.has_message(each)}
    if types:
        await lookup.learn(description, types)
    if not method.takes_stream:
        if isinstance(request, list) and method.request.full_name not in WELL_KNOWN_FORMS:
            raise GrpcRequestError("request", f"is a list, but {method.shown} takes one message")
        return [encode(description, method.request, request, "request")]
    messages = cast("list[Json]", request if isinstance(request, list) else [request])
    return [
        encode(description, method.request, each, f"request[{number}]")
        for number, each in enumerate(messages)
    ]


def _result(method: Method, answer: Answer) -> dict[str, Any]:
    responses = answer.responses
    code = grpc.StatusCode.CANCELLED if answer.is_truncated else grpc.StatusCode.OK
    return {
        "success": True,
        **({"responses": responses} if method.gives_stream else {"response": responses[0]}),
        **({"truncated": True} if answer.is_truncated else {}),
        "metadata": answer.metadata,
        "code": code.name,
        "service": method.service,
        "method": method.name,
    }
