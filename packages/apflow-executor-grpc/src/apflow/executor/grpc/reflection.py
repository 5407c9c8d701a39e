"""Server reflection: asking a server what it offers. Version 1, else the older v1alpha.

Both versions have the same messages. The library's own client of it blocks, and asks with no time limit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from apflow.executor.grpc.description import MAX_FILES, MAX_NAME_LENGTH, MAX_NAMES, Description
from apflow.executor.grpc.errors import GrpcDescriptionError
from apflow.executor.grpc.metadata import Pairs

VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
MAX_BYTES = 32 << 20  # of all files together

T = TypeVar("T")
_Ask = Callable[[ServerReflectionRequest], Awaitable[ServerReflectionResponse]]


@dataclass(slots=True)
class Reflection:
    """What one server is asked about itself."""

    channel: grpc.aio.Channel
    metadata: Pairs
    timeout: float
    _bytes: int = field(default=0, init=False)

    async def learn(self, description: Description, symbol: str) -> bool:
        """Add the file that declares a symbol, and all that it imports. Say whether the server knows it.

        Raises:
            GrpcDescriptionError: the server offers no reflection, or says what makes no sense.
            AioRpcError: the call ended with another status.
        """
        return await self._by_any_version(lambda ask: self._learn(ask, description, symbol))

    async def services(self) -> list[str]:
        """Return the names of what the server offers, or nothing where it does not tell."""

        async def list_services(ask: _Ask) -> list[str]:
            answer = await ask(ServerReflectionRequest(list_services="*"))
            return sorted(each.name for each in answer.list_services_response.service)

        try:
            return await self._by_any_version(list_services)
        except (grpc.aio.AioRpcError, GrpcDescriptionError):
            return []

    async def _by_any_version(self, converse: Callable[[_Ask], Awaitable[T]]) -> T:
        for version in VERSIONS:
            try:
                return await converse(partial(self._ask, f"/{version}.ServerReflection/ServerReflectionInfo"))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
        raise GrpcDescriptionError(
            "The server does not describe itself (it has no reflection service). "
            "Give its .proto in proto_file, or a descriptor_set."
        )

    async def _ask(self, method: str, request: ServerReflectionRequest) -> ServerReflectionResponse:
        # A call for each question, whose stream of requests ends with the first. Questions on one stream
        # would have to be written one by one, and `call` explains what that does to the status.
        start = self.channel.unary_stream(
            method, ServerReflectionRequest.SerializeToString, ServerReflectionResponse.FromString
        )
        call: Any = start(request, timeout=self.timeout, metadata=self.metadata)
        answers = aiter(call)
        try:
            async for answer in answers:
                return cast("ServerReflectionResponse", answer)
        finally:
            await answers.aclose()
            call.cancel()
        raise GrpcDescriptionError("The server ended its reflection without an answer.")

    async def _learn(self, ask: _Ask, description: Description, symbol: str) -> bool:
        answer = await ask(ServerReflectionRequest(file_containing_symbol=symbol))
        if answer.HasField("error_response"):
            if answer.error_response.error_code != grpc.StatusCode.NOT_FOUND.value[0]:
                raise _refused(symbol, answer)
            return False
        files: dict[str, FileDescriptorProto] = {}
        self._take(answer, files)
        asked: set[str] = set()
        while missing := _missing(description, files):
            name = missing[0]
            if name in asked or len(files) > MAX_FILES:
                raise GrpcDescriptionError(f"The server describes no file {name!r}, which others import.")
            asked.add(name)
            answer = await ask(ServerReflectionRequest(file_by_filename=name))
            if answer.HasField("error_response"):
                raise _refused(name, answer)
            self._take(answer, files)
        description.add(files.values())
        return True

    def _take(self, answer: ServerReflectionResponse, files: dict[str, FileDescriptorProto]) -> None:
        for data in answer.file_descriptor_response.file_descriptor_proto:
            self._bytes += len(data)
            if self._bytes > MAX_BYTES:
                raise GrpcDescriptionError(f"The server describes itself in more than {MAX_BYTES} bytes.")
            try:
                each = FileDescriptorProto.FromString(data)
            except DecodeError as error:
                raise GrpcDescriptionError(
                    "The server's description is not a valid FileDescriptorProto."
                ) from error
            files.setdefault(each.name, each)


def _missing(description: Description, files: dict[str, FileDescriptorProto]) -> list[str]:
    return [
        name
        for each in files.values()
        for name in each.dependency
        if name not in files and not description.has_file(name)
    ]


def _refused(what: str, answer: ServerReflectionResponse) -> GrpcDescriptionError:
    said = answer.error_response.error_message[:200]
    return GrpcDescriptionError(f"The server does not describe {what[:MAX_NAME_LENGTH]!r}: {said}")


def not_offered(service: str, services: Sequence[str]) -> GrpcDescriptionError:
    """Return the error for a service that the server does not know."""
    shown = ", ".join(services[:MAX_NAMES]) + (", ..." if len(services) > MAX_NAMES else "")
    has = f" It has: {shown}." if services else ""
    return GrpcDescriptionError(f"The server describes no service {service[:MAX_NAME_LENGTH]!r}.{has}")
