"""Text of the command line as values of JSON, by the types that a JSON Schema permits."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from apflow.core.errors import MalformedTextError
from apflow.core.model.task import Json
from apflow.core.payload.json_text import read_json
from apflow.core.payload.schema_defaults import declared_parts

# What messages call the types, and what a value looks like.
NOUNS: Final[Mapping[str, str]] = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "an array in JSON, such as [1, 2]",
    "object": 'an object in JSON, such as {"a": 1}',
}
_NAMES: Final[Mapping[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}
MAX_REFERENCES: Final = 16  # `$ref` and `anyOf` inside each other
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def read_typed(text: str, types: Collection[str], max_depth: int) -> Json:
    """Return the value that text means for one of these types.

    A string is the text as it is: if the types permit a string or are unknown (empty), nothing is converted.

    Raises:
        ValueError: the text is not of these types; the message says what they are.
    """
    if not types or "string" in types:
        return text
    expected = " or ".join(NOUNS[each] for each in NOUNS if each in types)
    try:
        value = read_json(text, max_depth=max_depth)
    except MalformedTextError as error:
        raise ValueError(f"must be {expected}, not {_shortened(text)}") from error
    if not any(_is(value, each) for each in types):
        raise ValueError(f"must be {expected}, not {_shortened(text)}")
    return value


def _is(value: Json, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS.get(kind, ()))


def _shortened(text: str) -> str:
    shown = json.dumps(text[:60], ensure_ascii=False)
    return shown if len(text) <= 60 else f"{shown}..."


def types_of(schema: Json, root: Mapping[str, Json], depth: int = 0) -> frozenset[str]:
    """Return the types that a schema permits; empty if it does not say.

    Args:
        root: the schema that the `$ref`s of `schema` refer to.
        depth: levels of `anyOf` and `oneOf` around `schema`.
    """
    if depth > MAX_REFERENCES:
        return frozenset()
    for part in declared_parts(schema, dict(root)):
        declared = part.get("type")
        if isinstance(declared, str):
            return frozenset([declared])
        if isinstance(declared, list):
            return frozenset(str(each) for each in cast("list[Json]", declared))
        choices = part.get("anyOf") or part.get("oneOf")
        if isinstance(choices, list):
            found = [types_of(each, root, depth + 1) for each in cast("list[Json]", choices)]
            return frozenset[str]().union(*found) if all(found) else frozenset()
        of_values = _types_of_values(part)
        if of_values:
            return of_values
    return frozenset()


def _types_of_values(given: Mapping[str, Any]) -> frozenset[str]:
    """Return the types of the values of `enum` or `const`."""
    declared = given.get("enum")
    values: list[Json] = [given["const"]] if "const" in given else []
    if isinstance(declared, list):
        values = cast("list[Json]", declared)
    return frozenset(_type_of(each) for each in values)


def _type_of(value: object) -> str:
    return _NAMES.get(type(value), "null")
