"""Reading JSON text from outside, more strictly than `json.loads` and with the place of what is refused.

The text is parsed in C. Only refused text is read a second time, token by token, to find the line
and the column. Nothing here recurses, so the nesting of a hostile text meets a limit.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NoReturn

from apflow.core.errors import MalformedTextError
from apflow.core.model.task import Json
from apflow.core.payload.json_value import is_deeper

SHOWN_KEY: Final = 80  # characters of a key in a message

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{},:]|-?(?:NaN|Infinity)|-?\d++(?:\.\d++)?(?:[eE][-+]?\d++)?')


class _RefusedError(ValueError):
    """The value is refused: where, is still to be found."""


def read_json(text: str, *, max_depth: int, is_located: bool = True) -> Json:
    """Return the value of a JSON text.

    Args:
        is_located: find the line and column of a fault that the parser does not locate. It takes about a
            second for 5 MB of text.

    Raises:
        MalformedTextError: the text is not JSON, repeats a key in one object, or is nested too deeply.
    """
    try:
        value: Json = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise MalformedTextError(_lower(error.msg), error.lineno, error.colno) from error
    except (ValueError, RecursionError) as error:
        fault = _locate(text, max_depth) if is_located else None
        raise fault or MalformedTextError(_cause(error, max_depth)) from error
    if text.count("[") + text.count("{") > max_depth and is_deeper(value, max_depth):
        fault = _locate(text, max_depth) if is_located else None
        raise fault or MalformedTextError(too_deep(max_depth))
    return value


def too_deep(max_depth: int) -> str:
    """Return the message for text that is nested too deeply."""
    return f"it is nested more than {max_depth} levels deep"


def repeated(key: str) -> str:
    """Return the message for a key that an object has twice."""
    shown = key if len(key) <= SHOWN_KEY else f"{key[:SHOWN_KEY]}..."
    return f"the key {shown!r} is repeated in one object; keep one of the two"


def too_long(length: int) -> str:
    """Return the message for a number with more digits than Python converts."""
    return f"the number has {length} digits, more than {sys.get_int_max_str_digits()}; write it as text"


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) != len(pairs):
        times = Counter(key for key, _ in pairs)
        raise _RefusedError(repeated(times.most_common(1)[0][0]))
    return made


def _refuse(name: str) -> NoReturn:
    raise _RefusedError(_no_value(name))


def _no_value(name: str) -> str:
    return f"{name} is not a JSON value"


def _cause(error: ValueError | RecursionError, max_depth: int) -> str:
    if isinstance(error, RecursionError):
        return too_deep(max_depth)
    return (
        str(error) if isinstance(error, _RefusedError) else "a number has too many digits; write it as text"
    )


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


@dataclass(slots=True)
class _Container:
    """An object or array whose end has not been read."""

    keys: set[str] | None  # None for an array
    expects_key: bool = field(init=False)

    def __post_init__(self) -> None:
        self.expects_key = self.keys is not None

    def take(self, part: str) -> str | None:
        """Process a comma or a string directly in this container, and return its fault, if any."""
        if part == ",":
            self.expects_key = self.keys is not None
        elif part[0] == '"' and self.keys is not None and self.expects_key:
            self.expects_key = False
            key: str = json.loads(part)
            if key in self.keys:
                return repeated(key)
            self.keys.add(key)
        return None


def _locate(text: str, max_depth: int) -> MalformedTextError | None:
    """Return the first fault of grammatically valid JSON, with its place."""
    containers: list[_Container] = []
    for found in _TOKEN.finditer(text):
        fault = _take(found[0], containers, max_depth)
        if fault is not None:
            line = text.count("\n", 0, found.start()) + 1
            return MalformedTextError(fault, line, found.start() - text.rfind("\n", 0, found.start()))
    return None


def _take(part: str, containers: list[_Container], max_depth: int) -> str | None:
    """Take one token into the containers that are open, and return what is wrong with it."""
    fault = None
    if part in "[{":
        containers.append(_Container(set() if part == "{" else None))
        fault = too_deep(max_depth) if len(containers) > max_depth else None
    elif part in "]}":
        del containers[-1:]
    elif part.lstrip("-") in ("NaN", "Infinity"):
        fault = _no_value(part)
    elif part.lstrip("-").isdigit():
        fault = _check_length(part.lstrip("-"))
    elif containers:
        fault = containers[-1].take(part)
    return fault


def _check_length(digits: str) -> str | None:
    most = sys.get_int_max_str_digits()
    return too_long(len(digits)) if 0 < most < len(digits) else None
