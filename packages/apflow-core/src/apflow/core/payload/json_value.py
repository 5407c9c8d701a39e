"""JSON values: what may be stored, and how it becomes text.

Plain JSON is dict, list, str, int, float, bool and None, exactly these types. The fast path is one round trip
through orjson, in C; a value that it changes or refuses is walked, and is repaired or refused with its path.
Nothing here recurses, so hostile nesting meets an error and not the end of the stack.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final, NamedTuple, NoReturn, cast

import orjson

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json

MAX_DEPTH: Final = 64
CONTAINERS: Final = frozenset({dict, list})
LARGE: Final = 1 << 18  # bytes of JSON text that is not read all at once
ADVICE: Final = "give it as text"  # for a number that cannot be kept exactly
ITEMS: Final = 1000  # of a large container that are read at once
LEAST_INT, GREATEST_INT = -(2**63), 2**64 - 1
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_PLAIN_KEY = re.compile(r"[A-Za-z_$][\w$-]*", re.ASCII)


class Place(NamedTuple):
    """The place of a node: created for every container, and formatted only for messages."""

    parent: Place | None
    key: str | int
    depth: int

    def path(self, root: str) -> str:
        """Return the place as text below `root`: `inputs.items[0].url`."""
        keys: list[str | int] = []
        place: Place | None = self
        while place is not None:
            keys.append(place.key)
            place = place.parent
        return path_of(root, reversed(keys))


def path_of(root: str, keys: Iterable[str | int]) -> str:
    """Return a path as people write it: `inputs.items[0]["a b"]`."""
    parts = [root] if root else []
    for key in keys:
        if isinstance(key, int):
            parts.append(f"[{key}]")
        elif _PLAIN_KEY.fullmatch(key) and len(key) <= 80:
            parts.append(f".{key}" if parts else key)
        else:
            parts.append(f"[{json.dumps(key[:80])}]")
    return "".join(parts)


def storable(value: object, path: str = "", *, max_depth: int = MAX_DEPTH) -> Json:
    """Return a plain JSON copy of `value` that every store keeps alike.

    U+0000 and lone surrogates become U+FFFD; tuples and subclasses become plain. Raises
    `InvalidInputError` naming the path of what is not JSON or too deep.
    """
    return encode(value, path, max_depth=max_depth)[0]


def encode(value: object, path: str = "", *, max_depth: int = MAX_DEPTH) -> tuple[Json, int]:
    """Return what `storable` returns, and its size in bytes as JSON text."""
    try:
        text = orjson.dumps(value)
    except TypeError:
        pass
    else:
        plain = _read_back(text, value)
        is_shallow = text.count(b"{") + text.count(b"[") <= max_depth or not is_deeper(plain, max_depth)
        # A value that comes back equal was plain JSON: NaN, tuples, dates and so on do not.
        if is_shallow and b"\\u0000" not in text and plain == value:
            return plain, len(text)
    plain = _mended(value, path, max_depth)
    return plain, len(orjson.dumps(plain))


def _read_back(text: bytes, value: object, levels: int = 4) -> Json:
    """Return what the JSON text of a value reads as.

    Reading takes several times the memory of the text: a large container is read in parts, those of as many
    `levels` as are likely to be large. The keys of a large object are shared.
    """
    if len(text) <= LARGE or not levels:
        return orjson.loads(text)
    if type(value) is list:
        return _read_back_items(cast("list[object]", value), levels - 1)
    if type(value) is dict and all(type(key) is str for key in cast("dict[object, object]", value)):
        members = cast("dict[str, object]", value)
        return dict(zip(members, _read_back_items(list(members.values()), levels - 1), strict=True))
    return orjson.loads(text)


def _read_back_items(items: list[object], levels: int) -> list[Json]:
    read: list[Json] = []
    for start in range(0, len(items), ITEMS):
        part = items[start : start + ITEMS]
        text = orjson.dumps(part)
        if len(text) <= LARGE:
            read += orjson.loads(text)
        else:
            read += [_read_back(orjson.dumps(item), item, levels) for item in part]
    return read


def is_deeper(value: Json, limit: int) -> bool:
    """Return whether containers are nested in each other more than `limit` times."""
    if type(value) not in CONTAINERS:
        return False
    level: list[Json] = [value]
    for _ in range(limit):
        children: list[Iterable[Json]] = [node.values() if type(node) is dict else node for node in level]
        level = [child for some in children for child in some if type(child) in CONTAINERS]
        if not level:
            return False
    return True


def is_larger(value: Json, most: int) -> bool:
    """Return whether a value has more than so many values in it: scalars, objects and arrays."""
    count = 0
    waiting: list[Json] = [value]
    while waiting:
        node = waiting.pop()
        count += 1
        if isinstance(node, dict):
            waiting.extend(cast("dict[str, Json]", node).values())
        elif isinstance(node, (list, tuple)):
            waiting.extend(cast("list[Json]", node))
        if count + len(waiting) > most:
            return True
    return False


def rewrite(
    value: Json,
    change: Callable[[Json, Place | None], Json],
    rename: Callable[[object, Place | None], str] | None = None,
) -> Json:
    """Return a copy of `value` in which each node is what `change` makes of it.

    A container that `change` returns unchanged is copied and descended into; a replacement is not.
    `rename` does the same for the keys of objects, given the place of the object.
    """
    holder: list[Json] = [None]
    waiting: list[tuple[Json, Json, str | int, Place | None]] = [(value, holder, 0, None)]
    while waiting:
        node, target, key, place = waiting.pop()
        new = change(node, place)
        if new is not node or not isinstance(node, (dict, list, tuple)):
            target[key] = new
            continue
        depth = place.depth + 1 if place else 1
        if isinstance(node, dict):
            source = cast("dict[str, Json]", node)
            if rename:
                source = {rename(name, place): child for name, child in source.items()}
            copy: Json = dict.fromkeys(source)  # keeps the order of the keys
            children: list[tuple[str | int, Json]] = list(source.items())
        else:
            items = cast("list[Json]", node)
            copy = [None] * len(items)
            children = list(enumerate(items))
        target[key] = copy
        waiting.extend((child, copy, name, Place(place, name, depth)) for name, child in reversed(children))
    return holder[0]


def _mended(value: object, path: str, max_depth: int) -> Json:
    def change(node: Json, place: Place | None) -> Json:
        if isinstance(node, (dict, list, tuple)):
            if (place.depth if place else 0) >= max_depth:
                _refuse(path, place, f"is nested more than {max_depth} deep", shorten=True)
            return cast(Json, node)
        return _mended_scalar(node, path, place)

    def rename(name: object, place: Place | None) -> str:
        if not isinstance(name, str):
            _refuse(path, place, f"has a key that is not text: {_kind(name)}")
        return clean_text(name)

    return rewrite(value, change, rename)


def _mended_scalar(node: Json, path: str, place: Place | None) -> Json:
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, str):
        return clean_text(node)
    if isinstance(node, int):
        if not LEAST_INT <= node <= GREATEST_INT:
            _refuse(path, place, f"is an integer beyond 64 bits: {ADVICE}")
        return int(node)
    if isinstance(node, float):
        if not math.isfinite(node):
            advice = "" if math.isnan(node) else f"; if it is a number beyond the range of a float: {ADVICE}"
            _refuse(path, place, f"is {float(node)!r}, which JSON does not have{advice}")
        return float(node)
    return _refuse(path, place, f"is not JSON: {_kind(node)}")


def _kind(value: object) -> str:
    """Name the type of a value; never its text, which may be huge, secret or raise."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _refuse(path: str, place: Place | None, why: str, *, shorten: bool = False) -> NoReturn:
    where = place.path(path) if place else path
    if shorten and len(where) > 120:
        where = f"{where[:120]}..."
    raise InvalidInputError(f"{where or 'value'} {why}", [f"{where or 'value'}: {why}"])


def clean_text(text: str) -> str:
    """Return `text` as every store can keep it: U+0000 and lone surrogates become U+FFFD."""
    if type(text) is not str:
        text = str.__str__(text)
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def copy_json(value: Json) -> Json:
    """Return a copy of plain JSON that shares nothing with it."""
    return loads(dumps(value)) if type(value) in CONTAINERS else value


def dumps(value: Json) -> bytes:
    """Return `value` as JSON text in UTF-8. Raises `InvalidInputError` for what is not JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(storable(value, max_depth=_ORJSON_DEPTH))


_ORJSON_DEPTH = 200  # orjson refuses to write more than 254 levels


def loads(text: str | bytes | bytearray) -> Json:
    """Read JSON text. Raises `InvalidInputError` for anything else, hostile nesting included."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _loads_slowly(text)


def _loads_slowly(text: str | bytes | bytearray) -> Json:
    """Read what orjson refuses and JSON allows (escaped lone surrogates); refuse the rest."""
    with refusing_other_text():
        return storable(json.loads(text, parse_constant=refuse_constant), max_depth=_ORJSON_DEPTH)


@contextmanager
def refusing_other_text() -> Generator[None]:
    """Raise `InvalidInputError` where `json.loads` fails within the context, because its text is not JSON."""
    try:
        yield
    except RecursionError:
        raise InvalidInputError("This is not JSON that can be read: it is nested too deeply.") from None
    except ValueError as error:
        raise InvalidInputError(f"This is not JSON: {error}") from error


def refuse_constant(name: str) -> NoReturn:
    """Refuse `NaN` and `Infinity`, which Python reads as JSON."""
    raise InvalidInputError(f"{name} is not a JSON value")


def whole(value: object) -> object:
    """Return a number without a fraction as an integer: JSON has one kind of numbers, and 5.0 is 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def size_of(value: Json) -> int:
    """Return the size of `value` in bytes, as JSON text."""
    return len(dumps(value))
