"""JSON in the messages of A2A. Pure.

protobuf keeps every number as a double, so integers are restored when a value is read.
"""

from __future__ import annotations

from typing import Any, cast

from a2a.types.a2a_pb2 import Part
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.struct_pb2 import Struct, Value

from apflow.core.model.task import Json

MAX_DEPTH = 1000  # of messages; each level of JSON is two
JSON_TYPE = "application/json"


def read_value(message: ProtoMessage) -> Json:
    """Return the JSON of a `Struct` or a `Value`, with its integers restored."""
    return with_integers(MessageToDict(message))


def with_integers(value: Json) -> Json:
    """Return JSON in which each number without a fraction is an integer."""
    if isinstance(value, dict):
        items = cast("dict[str, Json]", value)
        return {name: with_integers(each) for name, each in items.items()}
    if isinstance(value, list):
        return [with_integers(each) for each in cast("list[Json]", value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def to_struct(value: dict[str, Json]) -> Struct:
    """Return a JSON object as protobuf has it."""
    return ParseDict(value, Struct(), max_recursion_depth=MAX_DEPTH)


def data_part(value: Json) -> Part:
    """Return a part of a message that holds JSON."""
    made: Any = ParseDict(value, Value(), max_recursion_depth=MAX_DEPTH)
    return Part(data=made, media_type=JSON_TYPE)
