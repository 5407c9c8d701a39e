"""Reading YAML text from outside: the core schema of YAML 1.2, as plain JSON values, within limits.

PyYAML (libyaml, where it is built in) supplies the events of its parser. The values are built here without
recursion, because PyYAML's own constructor reads YAML 1.1, takes repeated keys and expands aliases without a
limit.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Final, NoReturn, cast

import yaml

from apflow.core.errors import MalformedTextError
from apflow.core.model.task import Json
from apflow.core.payload.json_text import repeated, too_deep, too_long

DIRECTIVES: Final = 16  # lines that begin with % before the document
EXPANSION: Final = 250_000  # characters that aliases may stand for, and this many times the text:
EXPANSION_FACTOR: Final = 10
MERGE: Final = "<<"

TAG: Final = "tag:yaml.org,2002:"
NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
BOOLEANS: Final = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
# What a plain scalar that is not text begins with.
_FIRST = frozenset("-+.0123456789~nNtTfF")


def read_yaml(text: str, *, max_depth: int, parser: Callable[[str], Any] | None = None) -> Json:
    """Return the value of the one document of a YAML text.

    Raises:
        MalformedTextError: the text is not YAML, uses what JSON has no value for, repeats a key, or is nested
            or expanded beyond the limits.
    """
    _check_directives(text)
    made = (parser or _fastest())(text)
    builder = _Builder(max_depth, EXPANSION + EXPANSION_FACTOR * len(text))
    try:
        while not isinstance(event := made.get_event(), yaml.StreamEndEvent):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _malformed(error) from error
    except yaml.reader.ReaderError as error:
        raise MalformedTextError(f"the character #x{error.character:04x} is not allowed in YAML") from error
    finally:
        made.dispose()
    return builder.value


def _fastest() -> Callable[[str], Any]:
    return cast("Callable[[str], Any]", getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _check_directives(text: str) -> None:
    """Refuse a document with so many directives that libyaml compares them for minutes."""
    found = 0
    for line in re.finditer(r"[^\n]*\n?", text):
        if line[0].startswith("%"):
            found += 1
            if found > DIRECTIVES:
                raise MalformedTextError(f"there are more than {DIRECTIVES} directives", found, 1)
        elif line[0].strip() and not line[0].lstrip().startswith("#"):
            return


def _malformed(error: yaml.MarkedYAMLError) -> MalformedTextError:
    words = [each for each in (error.context, error.problem) if each]
    mark = error.problem_mark or error.context_mark
    fault = ", ".join(words) or "the text cannot be parsed"
    return MalformedTextError(fault, *((mark.line + 1, mark.column + 1) if mark else ()))


def _refuse(event: Any, fault: str) -> NoReturn:
    raise MalformedTextError(fault, event.start_mark.line + 1, event.start_mark.column + 1)


@dataclass(slots=True)
class _Node:
    """A finished value, and what an alias to it costs."""

    value: Json
    size: int  # characters of scalars, and one for each value
    height: int = 0  # levels of containers


@dataclass(slots=True)
class _Container:
    """A mapping or sequence whose end has not been read."""

    value: dict[str, Json] | list[Json]
    anchor: str | None
    size: int = 1
    height: int = 1
    key: str | None = None  # of a mapping, whose value comes next
    is_merge: bool = False  # whether that key is a merge key
    merged: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])


class _Builder:
    """Builds the value of a document from the events of a parser."""

    def __init__(self, max_depth: int, max_expansion: int) -> None:
        self.value: Json = None
        self._max_depth = max_depth
        self._left = self._max_expansion = max_expansion
        self._open: list[_Container] = []
        self._anchors: dict[str, _Node | None] = {}  # None while the value is not finished
        self._documents = 0

    def take(self, event: Any) -> None:
        """Take the next event."""
        if isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            self._take_alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                _refuse(event, "a second document begins; give one document")

    def _take_scalar(self, event: Any) -> None:
        if self._expects_key():
            self._take_key(event, self._open[-1])
            return
        node = _Node(_scalar(event), 1 + len(event.value))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._add(event, node)

    def _expects_key(self) -> bool:
        return bool(self._open) and type(self._open[-1].value) is dict and self._open[-1].key is None

    def _take_key(self, event: Any, mapping: _Container) -> None:
        """Take a key as it is written: JSON has no other keys than text."""
        key: str = event.value
        if event.tag not in (None, "!", f"{TAG}str"):
            _refuse(event, "a key is text and takes no tag")
        if not key and event.implicit[0]:
            _refuse(event, "a key is missing before the colon")
        mapping.is_merge = key == MERGE and event.implicit[0]
        if mapping.merged if mapping.is_merge else key in mapping.value:
            _refuse(event, repeated(key))
        mapping.key = key
        mapping.size += len(key)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Node(key, 1 + len(key))

    def _begin(self, event: Any) -> None:
        if self._expects_key():
            _refuse(event, "a key must be text, not a mapping or sequence")
        if len(self._open) >= self._max_depth:
            _refuse(event, too_deep(self._max_depth))
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{TAG}{'map' if is_mapping else 'seq'}"):
            _refuse(event, _strange_tag(event.tag))
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_Container({} if is_mapping else [], event.anchor))

    def _end(self, event: Any) -> None:
        ended = self._open.pop()
        if isinstance(ended.value, dict):
            for each in ended.merged:
                for key, value in each.items():
                    ended.value.setdefault(key, value)
        node = _Node(ended.value, ended.size, ended.height)
        if ended.anchor is not None:
            self._anchors[ended.anchor] = node
        self._add(event, node)

    def _take_alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            _refuse(event, f"the alias *{event.anchor} has no anchor before it")
        node = self._anchors[event.anchor]
        if node is None:
            _refuse(event, f"the alias *{event.anchor} stands inside what it stands for")
        if len(self._open) + node.height > self._max_depth:
            _refuse(event, too_deep(self._max_depth))
        self._left -= node.size
        if self._left < 0:
            _refuse(
                event, f"aliases stand for more than {self._max_expansion} characters; write the values out"
            )
        if not self._expects_key():
            self._add(event, node)
        elif isinstance(node.value, str):
            key = yaml.ScalarEvent(None, None, (False, True), node.value, event.start_mark)
            self._take_key(key, self._open[-1])
        else:
            _refuse(event, "a key must be text")

    def _add(self, event: Any, node: _Node) -> None:
        """Put a finished value where it belongs."""
        if not self._open:
            self.value = node.value
            return
        parent = self._open[-1]
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if isinstance(parent.value, list):
            parent.value.append(node.value)
        elif parent.is_merge:
            parent.merged += _merged(event, node.value)
        else:
            parent.value[cast("str", parent.key)] = node.value
        parent.key = None


def _merged(event: Any, value: Json) -> list[dict[str, Json]]:
    """Return the mappings that a merge key names: one, or a sequence of them."""
    found = cast("list[Json]", value if isinstance(value, list) else [value])
    if not all(isinstance(each, dict) for each in found):
        _refuse(event, f"{MERGE} takes a mapping, or a sequence of mappings")
    return cast("list[dict[str, Json]]", found)


def _strange_tag(tag: str) -> str:
    return f"the tag {tag.replace(TAG, '!!')} has no meaning in JSON"


def _scalar(event: Any) -> Json:
    """Return what a scalar means by the core schema."""
    text: str = event.value
    tag: str | None = event.tag
    if tag is None:
        return _resolve(event, text) if event.implicit[0] else text
    if tag in ("!", f"{TAG}str"):
        return text
    kinds = {"null": NoneType, "bool": bool, "int": int, "float": float}
    kind = kinds.get(tag.removeprefix(TAG)) if tag.startswith(TAG) else None
    if kind is None:
        _refuse(event, _strange_tag(tag))
    value = _resolve(event, text)
    if kind is float and type(value) is int:
        return _finite(event, text)
    if type(value) is not kind:
        _refuse(event, f"{text[:80]!r} is not {tag.replace(TAG, '!!')}")
    return value


def _resolve(event: Any, text: str) -> Json:
    """Return what a plain scalar means."""
    if text and text[0] not in _FIRST:
        return text
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return _integer(event, text)
    if _FLOAT.fullmatch(text):
        return _finite(event, text)
    if _NOT_FINITE.fullmatch(text):
        _refuse(event, f"{text} is not a JSON value")
    return text


def _integer(event: Any, text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    most = sys.get_int_max_str_digits() // (1 if base == 10 else 2)
    if 0 < most < len(text):
        _refuse(event, too_long(len(text)))
    return int(text, base)


def _finite(event: Any, text: str) -> float:
    value = float(text)
    if math.isinf(value):
        _refuse(event, f"{text[:80]} is too large for a number")
    return value
