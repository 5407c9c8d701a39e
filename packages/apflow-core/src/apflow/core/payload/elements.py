"""The references of a template to its element: `{"$item": PATH}` and `{"$index": FIRST}`.

`{"$item": "@"}` is the element, `{"$item": "a.b"}` a part of it by JMESPath, and `{"$index": 0}` its number
in the list, counted from 0; `{"$index": 1}` counts from 1. A member `of` names a `for_each` task further out.
When an element is created, its values take the places of these references. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from apflow.core.bounds import is_integer
from apflow.core.errors import InputsError, QueryError
from apflow.core.model.task import Json
from apflow.core.payload.inputs import query_of
from apflow.core.payload.json_value import CONTAINERS, Place, copy_json, dumps, rewrite, storable

_ITEM: Final = "$item"
_INDEX: Final = "$index"
_KEYS: Final = (frozenset({_ITEM, "of", "default"}), frozenset({_INDEX, "of"}))
_MAX_QUERY_LENGTH: Final = 2000
_MAX_FIRST: Final = 1_000_000
_MAX_DEPTH: Final = 200
WHOLE: Final = "@"  # the path of the element itself
# Members that make an object a reference; in a list that comes from a result they are refused.
RESERVED: Final = ("$from", "$secret", "$run", _ITEM, _INDEX)


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a list."""

    of: str  # the name of the task with `for_each`
    index: int  # counted from 0
    item: Json  # one item, or the list of those of a batch


@dataclass(frozen=True, slots=True)
class ItemReference:
    """A reference to an element, inside a value."""

    place: str
    of: str | None  # the name of a task with `for_each`; None: the nearest one


def refers_to_elements(value: Json) -> bool:
    """Return whether a value may hold a reference to an element."""
    if type(value) not in CONTAINERS or not value:
        return False
    text = dumps(value)
    return b'"$item"' in text or b'"$index"' in text


def find_item_references(value: Json, name: str) -> list[ItemReference]:
    """Return every reference to an element inside a value, in order.

    Args:
        name: of the value, for the places.

    Raises:
        InputsError: a reference is malformed; `violations` has all of them, each with its place.
    """
    found: list[ItemReference] = []
    faults: list[str] = []

    def change(node: Json, place: Place | None) -> Json:
        if not _is_reference(node):
            return node
        where = place.path(name) if place else name
        fault = _fault_of(cast("dict[str, Json]", node))
        if fault is not None:
            faults.append(f"{where}{fault}")
        else:
            found.append(ItemReference(where, node.get("of")))
        return None

    if refers_to_elements(value):
        rewrite(value, change)
    if faults:
        raise InputsError("References to elements cannot work: " + "; ".join(faults), faults)
    return found


def _fault_of(node: Mapping[str, Json]) -> str | None:
    """Return what is wrong with an object that has the members of a reference, after its place."""
    of = node.get("of")
    if "of" in node and (not isinstance(of, str) or not of):
        return ".of must be the name of a task with for_each"
    if _INDEX in node:
        if not is_integer(node[_INDEX], 0, _MAX_FIRST):
            return ".$index must be the number of the first element: 0 or 1"
        return None
    path = node[_ITEM]
    if not isinstance(path, str) or not 0 < len(path) <= _MAX_QUERY_LENGTH:
        return f'.$item must be a JMESPath of 1 to {_MAX_QUERY_LENGTH} characters; "@" is the whole element'
    if "default" in node and reserved_in(node["default"]) is not None:
        return ".default may not hold a reference itself"
    try:
        query_of(path)
    except QueryError as error:
        return f".$item is not a valid JMESPath expression: {error.cause}"
    return None


def fill(value: Json, element: Element, name: str, *, is_nearest: bool) -> Json:
    """Return a copy of a value in which the element takes the places of the references to it.

    Args:
        name: of the value, for messages.
        is_nearest: the references without `of` are to this element.

    Raises:
        InputsError: a path finds nothing in the element, or fails.
    """

    def change(node: Json, place: Place | None) -> Json:
        if not _is_reference(node):
            return node
        of = node.get("of")
        if not (is_nearest if of is None else of == element.of):
            return node
        if _INDEX in node:
            return element.index + node[_INDEX]
        return _part(cast("dict[str, Json]", node), element, place.path(name) if place else name)

    return rewrite(value, change)


def _part(node: Mapping[str, Json], element: Element, where: str) -> Json:
    path = node[_ITEM]
    if path == WHOLE:
        return copy_json(element.item) if type(element.item) in CONTAINERS else element.item
    try:
        found = _search(path, element.item)
    except QueryError as error:
        raise _fault(where, path, f"fails in element {element.index}: {error.cause}") from error
    if found is None and "default" in node:
        return copy_json(node["default"])
    if found is None:
        raise _fault(where, path, f"finds nothing in element {element.index}; correct it, or give a default")
    return storable(found, where, max_depth=_MAX_DEPTH) if type(found) in CONTAINERS else found


def _search(path: str, item: Json) -> Json:
    if isinstance(item, dict) and path.isascii() and path.isidentifier():
        return cast("dict[str, Json]", item).get(path)  # what most paths are, without an interpreter
    return query_of(path).search(item)


def _fault(where: str, path: str, why: str) -> InputsError:
    fault = f"{where}: the path {path!r} {why}"
    return InputsError(fault, [fault])


def reserved_in(value: Json) -> tuple[str, str] | None:
    """Return the place, and the member, of an object in a value that would be taken for a reference."""
    if not isinstance(value, dict | list) or not value:  # not by its type, which may be `Quoted`
        return None
    text = dumps(value)
    if not any(f'"{name}"'.encode() in text for name in RESERVED):
        return None
    return next(_reserved(value), None)


def _reserved(value: Json) -> Iterator[tuple[str, str]]:
    waiting: list[tuple[Json, str]] = [(value, "")]
    while waiting:
        node, place = waiting.pop()
        if isinstance(node, dict):
            members = cast("dict[str, Json]", node)
            yield from ((place, name) for name in RESERVED if name in members)
            waiting.extend((each, f"{place}.{name}") for name, each in members.items())
        elif isinstance(node, list):
            waiting.extend((each, f"{place}[{at}]") for at, each in enumerate(cast("list[Json]", node)))


def _is_reference(node: Json) -> bool:
    if not isinstance(node, dict) or (_ITEM not in node and _INDEX not in node):
        return False
    names = cast("dict[str, Json]", node).keys()
    return any(names <= keys for keys in _KEYS)
