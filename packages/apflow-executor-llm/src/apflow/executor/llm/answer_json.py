"""Reading JSON from the answer of a model, which may wrap it in prose, or write it as Python would. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import json_repair

from apflow.core.errors import InvalidInputError, ValidationError
from apflow.core.payload.exact_json import loads_exactly
from apflow.core.payload.json_value import storable
from apflow.core.payload.schema import InputSchema

Json = Any

MAX_LENGTH = 4 << 20  # characters of an answer that is read
_FENCE = re.compile(r"```[\w-]*\s*\n(.*?)(?:\n\s*```|\Z)", re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_STRING_OR_LITERAL = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\b(?:True|False|None)\b""", re.DOTALL)
_LITERALS = {"True": "true", "False": "false", "None": "null"}


class NoJsonError(ValueError):
    """An answer holds no JSON."""


def parse_leniently(text: str) -> Json:
    """Return the JSON of an answer: the whole of it, or the largest part of it that can be read as JSON.

    Code fences, text before and after, comments, trailing commas, single quotes and the literals of Python
    are tolerated.

    Raises:
        NoJsonError: there is none.
    """
    if len(text) > MAX_LENGTH:
        raise NoJsonError(f"The answer is longer than {MAX_LENGTH} characters.")
    for part in _parts(text):
        try:
            return storable(loads_exactly(part), "answer")
        except InvalidInputError:
            continue
    for part in _parts(text):
        found = _OPENING.search(part)
        repaired = json_repair.loads(_without_literals_of_python(part[found.start() :])) if found else None
        if isinstance(repaired, (dict, list)) and repaired:
            try:
                return storable(repaired, "answer")
            except InvalidInputError as error:
                raise NoJsonError(f"The answer cannot be used: {error}.") from error
    raise NoJsonError("The answer holds no JSON.")


def _without_literals_of_python(text: str) -> str:
    """Replace None, True and False outside of strings: json-repair before 0.63 takes None for a string."""
    return _STRING_OR_LITERAL.sub(lambda found: _LITERALS.get(found.group(), found.group()), text)


def faults_of(value: Json, schema: InputSchema | None) -> list[str]:
    """Return what is wrong with a value; without a schema, it must be an object."""
    if schema is None:
        return [] if isinstance(value, dict) else ["answer: is not a JSON object"]
    try:
        schema.validate(value, "answer")
    except ValidationError as error:
        return list(error.violations) or [str(error)]
    return []


def _parts(text: str) -> Iterator[str]:
    """Yield what may be JSON, best first: the whole, fenced blocks, from the first bracket to the last."""
    yield text.strip()
    yield from sorted(_FENCE.findall(text), key=len, reverse=True)
    opening = _OPENING.search(text)
    if opening is not None:
        closing = max(text.rfind("]"), text.rfind("}"))
        yield text[opening.start() : closing + 1] if closing > opening.start() else text[opening.start() :]
