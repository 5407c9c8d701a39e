"""Descriptions of services and messages, with a separate descriptor pool for each source."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf import (
    any_pb2,
    api_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    source_context_pb2,
    struct_pb2,
    timestamp_pb2,
    type_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from apflow.executor.grpc.errors import GrpcDescriptionError

# Known beforehand, whatever others say of them, each after what it imports.
WELL_KNOWN = (
    any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, source_context_pb2, struct_pb2,
    timestamp_pb2, wrappers_pb2, type_pb2, api_pb2,
)  # fmt: skip
WELL_KNOWN_FILES = frozenset(each.DESCRIPTOR.name for each in WELL_KNOWN)

MAX_FILES = 2000
MAX_NAMES = 20  # in an error
MAX_NAME_LENGTH = 200

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


@dataclass(frozen=True, slots=True)
class Method:
    """A method: what it takes and gives, one or many of each."""

    service: str
    name: str
    request: Descriptor
    response: Descriptor
    takes_stream: bool
    gives_stream: bool

    @property
    def path(self) -> str:
        """Its name in a call."""
        return f"/{self.service}/{self.name}"

    @property
    def shown(self) -> str:
        """Its name for people."""
        return f"{self.service}/{self.name}"


class Description:
    """Files that describe services and messages. More may be added, none is ever changed."""

    def __init__(self) -> None:
        self.pool = DescriptorPool()
        self._files = set(WELL_KNOWN_FILES)
        for each in WELL_KNOWN:
            self.pool.AddSerializedFile(each.DESCRIPTOR.serialized_pb)

    def has_file(self, name: str) -> bool:
        """Return whether a file is known."""
        return name in self._files

    def add(self, files: Iterable[FileDescriptorProto]) -> None:
        """Add files in any order, together with all that they import. Known files are not changed.

        Raises:
            GrpcDescriptionError: an import is missing, or a file cannot be used.
        """
        new = {each.name: each for each in files if each.name not in self._files}
        if len(self._files) + len(new) > MAX_FILES:
            raise GrpcDescriptionError(f"The description has more than {MAX_FILES} files.")
        for each in _by_import(new, self._files):
            try:
                self.pool.AddSerializedFile(each.SerializeToString())
            except (TypeError, ValueError, KeyError) as error:
                raise GrpcDescriptionError(
                    f"The description {each.name!r} cannot be used: {error}"
                ) from error
            self._files.add(each.name)

    def has_service(self, name: str) -> bool:
        """Return whether a service is known."""
        return _find(self.pool.FindServiceByName, name) is not None

    def has_method(self, service: str, name: str) -> bool:
        """Return whether a method is known."""
        found = _find(self.pool.FindServiceByName, service)
        return found is not None and name in found.methods_by_name

    def has_message(self, name: str) -> bool:
        """Return whether a message is known."""
        return _find(self.pool.FindMessageTypeByName, name) is not None

    def method(self, service: str, name: str) -> Method:
        """Return a method.

        Raises:
            GrpcDescriptionError: there is no such service or method here.
        """
        found = _find(self.pool.FindServiceByName, service)
        if found is None:
            has = _named(self._services())
            raise GrpcDescriptionError(f"The description has no service {service[:MAX_NAME_LENGTH]!r}{has}.")
        methods = {each.name: each for each in found.methods}
        if name not in methods:
            raise GrpcDescriptionError(
                f"The service {service!r} has no method {name[:MAX_NAME_LENGTH]!r}{_named(methods)}."
            )
        method = methods[name]
        return Method(
            service,
            name,
            method.input_type,
            method.output_type,
            takes_stream=method.client_streaming,
            gives_stream=method.server_streaming,
        )

    def new_message(self, descriptor: Descriptor) -> Message:
        """Return an empty message."""
        return message_factory.GetMessageClass(descriptor)()

    def _services(self) -> list[str]:
        files = [self.pool.FindFileByName(name) for name in sorted(self._files)]
        return [service.full_name for file in files for service in file.services_by_name.values()]


def is_name(text: str) -> bool:
    """Return whether this is a valid name of a service, a method or a message."""
    return _NAME.fullmatch(text) is not None


def read_descriptor_set(text: str) -> list[FileDescriptorProto]:
    """Return the files of a FileDescriptorSet in base64.

    Raises:
        GrpcDescriptionError: it is not a FileDescriptorSet.
    """
    try:
        return list(FileDescriptorSet.FromString(base64.b64decode(text, validate=True)).file)
    except (binascii.Error, ValueError, DecodeError) as error:
        raise GrpcDescriptionError(
            "descriptor_set is not a FileDescriptorSet in base64. Make one with: "
            "protoc --include_imports --descriptor_set_out=FILE ..., and base64 FILE."
        ) from error


def _by_import(files: dict[str, FileDescriptorProto], known: set[str]) -> list[FileDescriptorProto]:
    """Return the files, each after those that it imports."""
    ordered: dict[str, FileDescriptorProto] = {}
    entered: set[str] = set()
    waiting = list(reversed(files))
    while waiting:
        name = waiting[-1]
        if name in ordered:
            waiting.pop()
            continue
        missing = [each for each in files[name].dependency if each not in known and each not in ordered]
        for each in missing:
            if each not in files:
                raise GrpcDescriptionError(
                    f"The description {name!r} imports {each!r}, which is not there. "
                    "A descriptor set needs it too (protoc --include_imports)."
                )
            if each in entered:
                raise GrpcDescriptionError(f"The description {each!r} imports itself.")
        if missing:
            entered.add(name)
            waiting += missing
        else:
            ordered[name] = files[waiting.pop()]
    return list(ordered.values())


def _find(look_up: Any, name: str) -> Any:
    try:
        return look_up(name)
    except KeyError:
        return None


def _named(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = ", ..." if len(shown) > MAX_NAMES else ""
    return f" (it has: {', '.join(shown[:MAX_NAMES])}{more})" if shown else ""
