"""Messages as JSON and back, by the JSON mapping of protobuf; fields are called as in the `.proto` file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from apflow.executor.grpc.description import MAX_NAMES, Description, is_name
from apflow.executor.grpc.errors import GrpcRequestError, GrpcResponseError
from apflow.executor.grpc.fault import (
    ANY,
    PARSE_ERRORS,
    WELL_KNOWN_FORMS,
    change_in,
    fault_of,
    parse,
    type_name,
)


def encode(description: Description, descriptor: Descriptor, value: Any, path: str) -> bytes:
    """Return JSON as an encoded message.

    Raises:
        GrpcRequestError: it does not fit, with the path of the first fault. The message contains no values.
    """
    try:
        if not isinstance(value, dict) and descriptor.full_name not in WELL_KNOWN_FORMS:
            raise TypeError
        message: Any = parse(description, descriptor, value)
    except PARSE_ERRORS:
        # The cause is left out: it quotes values.
        raise GrpcRequestError(*fault_of(description, descriptor, value, path)) from None
    fault = change_in(description, descriptor, value, path)
    if fault is not None:
        raise GrpcRequestError(*fault)
    try:
        return cast("bytes", message.SerializeToString())
    except (EncodeError, ValueError):
        missing = ", ".join(message.FindInitializationErrors()[:MAX_NAMES])
        raise GrpcRequestError(path, f"lacks required fields: {missing}") from None


def decode(description: Description, descriptor: Descriptor, data: bytes) -> Message:
    """Return an encoded message.

    Raises:
        GrpcResponseError: it is none of this type.
    """
    message = description.new_message(descriptor)
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise GrpcResponseError(
            f"The server sent {len(data)} bytes that are no {descriptor.full_name}. "
            "Is that what describes the service up to date?"
        ) from error
    return message


def to_json(description: Description, message: Message) -> Any:
    """Return a message as JSON: 64-bit integers are strings, bytes are base64, default values are included.

    Raises:
        GrpcResponseError: it holds an `Any` of an unknown type, or what has no JSON.
    """
    try:
        return json_format.MessageToDict(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            descriptor_pool=description.pool,
        )
    except (json_format.SerializeToJsonError, *PARSE_ERRORS, DecodeError) as error:
        raise GrpcResponseError(
            f"A {message.DESCRIPTOR.full_name} that the server sent has no JSON: {error}"
        ) from error


def types_in_request(value: Any) -> set[str]:
    """Return the full names of the messages that JSON names as the content of an `Any`."""
    names: set[str] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            names.add(type_name(cast("dict[str, Any]", each).get("@type")))
            waiting += cast("dict[str, Any]", each).values()
        elif isinstance(each, list):
            waiting += cast("list[Any]", each)
    return {each for each in names if is_name(each)}


def unknown_types(description: Description, message: Message) -> set[str]:
    """Return the full names of the messages inside any `Any` of a message that are not described."""
    names: set[str] = set()
    waiting: list[Message] = [message]
    while waiting:
        each = waiting.pop()
        if each.DESCRIPTOR.full_name != ANY:
            waiting += _messages_in(each)
            continue
        packed = cast("Any", each)
        name = type_name(packed.type_url)
        if not is_name(name):
            continue
        if not description.has_message(name):
            names.add(name)
            continue
        try:
            waiting.append(decode(description, description.pool.FindMessageTypeByName(name), packed.value))
        except GrpcResponseError:
            continue  # told when it is shown
    return names


def _messages_in(message: Message) -> Iterator[Message]:
    for field, content in message.ListFields():
        if field.message_type is None:
            continue
        if isinstance(content, Message):
            yield content
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                yield from content.values()
        else:
            yield from content
