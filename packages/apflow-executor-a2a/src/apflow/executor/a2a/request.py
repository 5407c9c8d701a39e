"""What is sent to an agent, made from the inputs of a task. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from a2a.client.service_parameters import ServiceParametersFactory, with_a2a_extensions
from a2a.types.a2a_pb2 import Message, Part, Role, SendMessageConfiguration, SendMessageRequest
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct, Value

from apflow.core.model.task import Json
from apflow.core.net.headers import is_token
from apflow.core.payload.json_value import Place, rewrite
from apflow.executor.a2a.errors import A2aInputError

GREATEST_INTEGER: Final = 2**53 - 1  # A2A carries numbers as doubles
CONTENTS: Final = ("text", "data", "url", "raw")

_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
# Set by the client itself.
_RESERVED = frozenset({
    "a2a-version", "accept", "accept-encoding", "connection", "content-length", "content-type", "host", "te",
    "transfer-encoding", "upgrade", "user-agent",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class A2aRequest:
    """A message, and the headers that are sent with it. Never shown: both may contain credentials."""

    message: SendMessageRequest = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def read_request(inputs: Mapping[str, Any], message_id: str) -> A2aRequest:
    """Return the request that inputs describe.

    Raises:
        A2aInputError: a part of it cannot be sent.
    """
    metadata = _struct(inputs.get("metadata"))
    parts = _read_parts(inputs)
    try:
        message = Message(
            message_id=message_id,
            role=Role.ROLE_USER,
            parts=parts,
            task_id=inputs.get("task_id") or "",
            context_id=inputs.get("context_id") or "",
            reference_task_ids=inputs.get("reference_task_ids") or [],
            extensions=inputs.get("extensions") or [],
            metadata=metadata,
        )
    except DecodeError as error:  # of protobuf before 7.36
        raise A2aInputError("message", "is nested more deeply than A2A can carry") from error
    configuration = SendMessageConfiguration(
        accepted_output_modes=inputs.get("accepted_output_modes") or [], history_length=0
    )
    return A2aRequest(
        SendMessageRequest(message=message, configuration=configuration, metadata=metadata),
        _read_headers(inputs),
    )


def _read_parts(inputs: Mapping[str, Any]) -> list[Part]:
    message: Json = inputs.get("message")
    parts: list[dict[str, Json]] = inputs.get("parts") or []
    read = [_read_part(part, f"parts[{number}]") for number, part in enumerate(parts)]
    if message is not None:
        content = {"text": message} if isinstance(message, str) else {"data": message}
        read.insert(0, _read_part(content, "message"))
    if not read:
        raise A2aInputError("message", "is missing: give `message`, `parts` or both")
    return read


def _read_part(given: Mapping[str, Any], name: str) -> Part:
    contents = [each for each in CONTENTS if each in given]
    if len(contents) != 1:
        raise A2aInputError(name, f"must have exactly one of {', '.join(CONTENTS)}")
    [kind] = contents
    part = Part(
        media_type=given.get("media_type", ""),
        filename=given.get("filename", ""),
        metadata=_struct(given.get("metadata"), f"{name}.metadata"),
    )
    if kind == "data":
        part.data.CopyFrom(_value(given["data"], name if name == "message" else f"{name}.data"))
    elif kind == "raw":
        part.raw = _decoded(given["raw"], f"{name}.raw")
    else:
        setattr(part, kind, _unicode(given[kind], name))
    return part


def _decoded(content: str, name: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (ValueError, binascii.Error) as error:
        raise A2aInputError(name, "is not valid base64") from error


def _unicode(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise A2aInputError(name, "contains a lone surrogate, which is not valid Unicode") from error
    return text


def _struct(given: Mapping[str, Json] | None, name: str = "metadata") -> Struct | None:
    return _value(dict(given), name).struct_value if given else None


def _value(given: Json, name: str) -> Value:
    def check(node: Json, _: Place | None) -> Json:
        if isinstance(node, int) and not isinstance(node, bool) and abs(node) > GREATEST_INTEGER:
            raise A2aInputError(
                name, f"contains the integer {node}, which A2A cannot carry exactly: send it as a string"
            )
        return node

    try:
        return ParseDict(rewrite(given, check), Value())
    except (ParseError, RecursionError, UnicodeEncodeError) as error:
        raise A2aInputError(name, f"cannot be sent over A2A: {error}") from error


def _read_headers(inputs: Mapping[str, Any]) -> dict[str, str]:
    given: dict[str, str] = inputs.get("headers") or {}
    headers: dict[str, str] = {}
    for number, (name, value) in enumerate(given.items(), 1):
        if not is_token(name):  # not repeated: it may be a whole line with a credential
            raise A2aInputError("headers", f"contains a name that no header can have, number {number}")
        if name.lower() in _RESERVED or name.lower().startswith("grpc-"):
            raise A2aInputError(f"headers.{name}", "is set by the client itself")
        headers[name] = _header_value(value, f"headers.{name}")
    token = inputs.get("auth_token")
    if token is not None:
        if any(name.lower() == "authorization" for name in headers):
            raise A2aInputError("auth_token", "cannot be given beside the header Authorization")
        headers["Authorization"] = f"Bearer {_header_value(token, 'auth_token')}"
    extensions: Sequence[str] = inputs.get("extensions") or []
    return ServiceParametersFactory.create_from(headers, [with_a2a_extensions(list(extensions))])


def _header_value(value: str, name: str) -> str:
    if not _VALUE.fullmatch(value):  # the value is not repeated: it may be a credential
        raise A2aInputError(name, "is empty, or has characters that a header cannot have")
    return value
