"""Where and why JSON is not the message that a method takes. Faults name fields and kinds, never values."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from apflow.core.payload.json_value import copy_json
from apflow.executor.grpc.description import MAX_NAMES, Description, is_name

ANY = AnyMessage.DESCRIPTOR.full_name
BYTES_VALUE = "google.protobuf.BytesValue"

FLOAT_VALUE = "google.protobuf.FloatValue"
# Messages whose numbers are floats, whatever their JSON says.
_HOLD_FLOATS = frozenset(
    {FLOAT_VALUE} | {f"google.protobuf.{name}" for name in ("DoubleValue", "Struct", "ListValue", "Value")}
)

# Messages whose JSON is not an object of their fields.
WELL_KNOWN_FORMS = {
    "google.protobuf.Timestamp": 'a moment such as "2026-01-31T12:00:00Z"',
    "google.protobuf.Duration": 'a duration such as "1.5s"',
    "google.protobuf.FieldMask": 'paths such as "name,owner.id"',
    "google.protobuf.Struct": "an object",
    "google.protobuf.ListValue": "a list",
    "google.protobuf.Value": "JSON",
    ANY: 'an object with "@type" and the fields of that type (or "value")',
    "google.protobuf.BoolValue": "true or false",
    "google.protobuf.BytesValue": "bytes as base64",
    "google.protobuf.StringValue": "a string",
    "google.protobuf.DoubleValue": "a number",
    "google.protobuf.FloatValue": "a number",
    "google.protobuf.Int32Value": "a whole number of 32 bits",
    "google.protobuf.Int64Value": "a whole number of 64 bits",
    "google.protobuf.UInt32Value": "a whole number of 32 bits from 0 on",
    "google.protobuf.UInt64Value": "a whole number of 64 bits from 0 on",
}
_SCALAR_FORMS = {
    FieldDescriptor.CPPTYPE_INT32: "a whole number of 32 bits",
    FieldDescriptor.CPPTYPE_INT64: "a whole number of 64 bits",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number of 32 bits from 0 on",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number of 64 bits from 0 on",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "a string",
}
# What the parser raises, beside its own error, where a value is of a kind that it does not expect.
PARSE_ERRORS = (json_format.ParseError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError,
                RecursionError)  # fmt: skip

# The parser drops what is not of the alphabet, and would send something else than was meant.
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")

Fault = tuple[str, str]  # the path, and what is wrong there


@dataclass(frozen=True, slots=True)
class _Part:
    """One value that a field is given: alone, in a list or in a map."""

    path: str
    field: FieldDescriptor  # that describes the value
    value: Any
    alone: Any  # what the field would be given with this value only


def parse(description: Description, descriptor: Descriptor, value: Any) -> Message:
    """Return JSON as a message. Raises one of `PARSE_ERRORS`."""
    message = description.new_message(descriptor)
    # A copy: the parser takes "@type" out of what it is given, and may fail before it puts it back.
    given: Any = copy_json(value)
    json_format.ParseDict(given, message, descriptor_pool=description.pool)
    return message


def fault_of(description: Description, descriptor: Descriptor, value: Any, path: str) -> Fault:
    """Return the first fault of what the parser has refused."""
    return _Search(description).find(descriptor, value, path)


def change_in(description: Description, descriptor: Descriptor, value: Any, path: str) -> Fault | None:
    """Return the first value that the parser changes: bytes that are not base64, or a large integer."""
    if descriptor.full_name == BYTES_VALUE:
        return None if _is_base64(value) else (path, "is not bytes as base64")
    if descriptor.full_name == ANY:
        inner = _content(description, value)
        return None if inner is None else change_in(description, *inner, path)
    if descriptor.full_name in _HOLD_FLOATS:
        return _large_integer(value, path, descriptor.full_name == FLOAT_VALUE)
    if descriptor.full_name in WELL_KNOWN_FORMS or not isinstance(value, dict):
        return None
    for key, each in cast("dict[str, Any]", value).items():
        field = _field(descriptor, key)
        for part in _parts(field, each, f"{path}.{key}") if field is not None else ():
            fault = _changed_part(description, part)
            if fault is not None:
                return fault
    return None


def _changed_part(description: Description, part: _Part) -> Fault | None:
    if part.field.message_type is not None:
        return change_in(description, part.field.message_type, part.value, part.path)
    if part.field.type == FieldDescriptor.TYPE_BYTES and not _is_base64(part.value):
        return part.path, "is not bytes as base64"
    if part.field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return _large_integer(part.value, part.path, part.field.type == FieldDescriptor.TYPE_FLOAT)
    return None


def _large_integer(value: Any, path: str, is_single: bool) -> Fault | None:
    """Return the first integer in a value that a float does not hold exactly."""
    waiting = [(value, path)]
    while waiting:
        node, where = waiting.pop()
        if isinstance(node, dict):
            waiting += [(each, f"{where}.{key[:200]}") for key, each in cast("dict[str, Any]", node).items()]
        elif isinstance(node, list):
            waiting += [(each, f"{where}[{at}]") for at, each in enumerate(cast("list[Any]", node))]
        elif type(node) is int and int(_as_sent(node, is_single)) != node:
            return where, f"is an integer that a {'float' if is_single else 'double'} does not hold exactly"
    return None


def _as_sent(number: int, is_single: bool) -> float:
    sent: float = struct.unpack("f", struct.pack("f", number))[0] if is_single else float(number)
    return sent


def _is_base64(value: Any) -> bool:
    return not isinstance(value, str) or _BASE64.fullmatch(value) is not None


class _Search:
    """A search for what the parser refuses: it is asked again, about smaller and smaller parts."""

    def __init__(self, description: Description) -> None:
        self._description = description

    def find(self, descriptor: Descriptor, value: Any, path: str) -> Fault:
        name = descriptor.full_name
        if name == ANY:
            return self._in_any(value, path)
        if name in WELL_KNOWN_FORMS:
            return path, f"is not {WELL_KNOWN_FORMS[name]}"
        if not isinstance(value, dict):
            return path, f"is not an object, as {name} requires"
        for key, each in cast("dict[str, Any]", value).items():
            field = _field(descriptor, key)
            if field is None and not key.startswith("["):
                names = [field.name for field in descriptor.fields]
                return f"{path}.{key[:200]}", f"is not a field of {name}, which has {_listed(names)}"
            if not self._fits(descriptor, {key: each}):
                return self._in_field(descriptor, field, key, each, f"{path}.{key}")
        return path, f"gives a field or a choice (oneof) twice in {name}, or is nested too deep"

    def _in_any(self, value: Any, path: str) -> Fault:
        inner = _content(self._description, value)
        if inner is not None and inner[0].full_name not in WELL_KNOWN_FORMS:
            return self.find(*inner, path)
        named = cast("dict[str, Any]", value).get("@type") if isinstance(value, dict) else None
        if isinstance(named, str) and named and inner is None:
            return path, f"is of the type {named[:200]!r}, which is not described"
        return path, f"is not {WELL_KNOWN_FORMS[ANY]}"

    def _in_field(
        self, descriptor: Descriptor, field: FieldDescriptor | None, key: str, value: Any, path: str
    ) -> Fault:
        if field is None:
            return path, "is not a known extension, or does not match it"
        if _is_map(field) and not isinstance(value, dict):
            return path, "is not an object, as a map requires"
        if _is_repeated(field) and not _is_map(field) and not isinstance(value, list):
            return path, "is not a list"
        for part in _parts(field, value, path):
            if not self._fits(descriptor, {key: part.alone}):
                return self._in_part(part, is_in_map=_is_map(field))
        return path, "does not fit"

    def _in_part(self, part: _Part, *, is_in_map: bool) -> Fault:
        field = part.field
        if field.message_type is not None:
            return self.find(field.message_type, part.value, part.path)
        if field.enum_type is not None:
            return part.path, f"is none of {_listed([each.name for each in field.enum_type.values])}"
        form = _SCALAR_FORMS[field.cpp_type]
        if field.type == FieldDescriptor.TYPE_BYTES:
            form = WELL_KNOWN_FORMS[BYTES_VALUE]
        return part.path, f"is not {form}{', or its key is of the wrong kind' if is_in_map else ''}"

    def _fits(self, descriptor: Descriptor, value: Any) -> bool:
        try:
            parse(self._description, descriptor, value)
        except PARSE_ERRORS:
            return False
        return True


def _parts(field: FieldDescriptor, value: Any, path: str) -> Iterator[_Part]:
    if field.message_type is not None and _is_map(field):
        inner = field.message_type.fields_by_name["value"]
        for name, each in (cast("dict[str, Any]", value) if isinstance(value, dict) else {}).items():
            yield _Part(f"{path}[{name!r}]", inner, each, {name: each})
    elif _is_repeated(field):
        for number, each in enumerate(cast("list[Any]", value) if isinstance(value, list) else []):
            yield _Part(f"{path}[{number}]", field, each, [each])
    else:
        yield _Part(path, field, value, value)


def _content(description: Description, value: Any) -> tuple[Descriptor, Any] | None:
    """Return the described type that the JSON of an `Any` names, and the JSON of that."""
    if not isinstance(value, dict):
        return None
    fields = dict(cast("dict[str, Any]", value))
    name = type_name(fields.pop("@type", None))
    if not is_name(name) or not description.has_message(name):
        return None
    inner = description.pool.FindMessageTypeByName(name)
    return inner, fields.get("value") if name in WELL_KNOWN_FORMS else fields


def type_name(url: Any) -> str:
    """Return the full name of the message that the URL of a type means."""
    return url.rpartition("/")[2] if isinstance(url, str) else ""


def _field(descriptor: Descriptor, key: str) -> FieldDescriptor | None:
    return next((each for each in descriptor.fields if key in (each.name, each.json_name)), None)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_repeated(field: FieldDescriptor) -> bool:
    told: Any = field
    # Since protobuf 6.31; before, the label says it.
    return bool(told.is_repeated if hasattr(told, "is_repeated") else told.label == told.LABEL_REPEATED)


def _listed(names: list[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
