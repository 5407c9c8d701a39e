"""Finding the description of a method: from the task, otherwise from the server's reflection."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc.aio

from apflow.core.payload.json_value import dumps
from apflow.executor.grpc.catalogue import Catalogue
from apflow.executor.grpc.description import Description, Method, read_descriptor_set
from apflow.executor.grpc.errors import GrpcDescriptionError, GrpcInputError
from apflow.executor.grpc.protofile import compile_protos, read_protos
from apflow.executor.grpc.reflection import Reflection, not_offered
from apflow.executor.grpc.target import Server

MAX_TYPES = 50  # that one message may make us ask for


@dataclass(frozen=True, slots=True)
class Source:
    """Where a description comes from. Neither protos nor a descriptor set: from the server."""

    key: Hashable
    protos: Mapping[str, str] | None = None
    descriptor_set: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether the task brings the description."""
        return self.protos is not None or self.descriptor_set is not None


def read_source(inputs: Mapping[str, Any], server: Server) -> Source:
    """Return where the description of a task's service comes from.

    Raises:
        GrpcInputError: it gives two descriptions.
        GrpcDescriptionError: a file has no usable name.
    """
    proto_file, descriptor_set = inputs.get("proto_file"), inputs.get("descriptor_set")
    if proto_file is not None and descriptor_set is not None:
        raise GrpcInputError("proto_file and descriptor_set", "are both given. Give one of them.")
    if proto_file is not None:
        protos = read_protos(proto_file)
        return Source(("protos", _digest(protos)), protos=protos)
    if descriptor_set is not None:
        return Source(("set", _digest(descriptor_set)), descriptor_set=descriptor_set)
    return Source(("server", server.host, server.port, server.authority, server.tls is not None))


def _digest(value: Any) -> bytes:
    return hashlib.sha256(dumps(value)).digest()


@dataclass(frozen=True, slots=True)
class Lookup:
    """A search for what one call needs."""

    catalogue: Catalogue
    source: Source
    reflection: Reflection

    async def find(self, service: str, method: str) -> tuple[Description, Method]:
        """Return a method, and the description that it is in.

        Raises:
            GrpcDescriptionError: it is not described anywhere.
            AioRpcError: the server refuses to describe itself.
        """
        description, was_known = await self._describe(service)
        if was_known and not (self.source.is_given or description.has_method(service, method)):
            # The server may have a newer version by now.
            self.forget(description)
            description, _ = await self._describe(service)
        return description, description.method(service, method)

    async def learn(self, description: Description, types: set[str]) -> bool:
        """Ask for messages that are not described yet; say whether one of them is now."""
        if self.source.is_given or len(types) > MAX_TYPES:
            return False
        learned = False
        for each in sorted(types):
            with suppress(GrpcDescriptionError, grpc.aio.AioRpcError):
                learned |= await self.reflection.learn(description, each)
        return learned

    def forget(self, description: Description) -> None:
        """Look again next time."""
        self.catalogue.forget(self.source.key, description)

    async def _describe(self, service: str) -> tuple[Description, bool]:
        """Return a description with the service, and whether that was known before."""
        async with self.catalogue.entry(self.source.key) as description:
            was_known = description.has_service(service)
            if not was_known:
                await self._fill(description, service)
            return description, was_known

    async def _fill(self, description: Description, service: str) -> None:
        source = self.source
        if source.protos is not None:
            description.add(await compile_protos(source.protos))
        elif source.descriptor_set is not None:
            description.add(read_descriptor_set(source.descriptor_set))
        elif not await self.reflection.learn(description, service):
            raise not_offered(service, await self.reflection.services())
