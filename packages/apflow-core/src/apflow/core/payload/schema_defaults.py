"""The defaults that a JSON Schema declares below its top level.

Local references are followed, so a schema may contain itself, and so may a default. Filling is bounded in
the number of defaults, in their bytes as JSON, in depth and in work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from apflow.core.errors import ValidationError
from apflow.core.model.task import Json
from apflow.core.payload.json_value import copy_json, dumps

Schema = dict[str, Json]

MAX_DEFAULTS: Final = 10_000
MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64
MAX_STEPS: Final = 100_000  # a value beside a part of the schema


def declared_parts(schema: Json, root: Schema | None = None) -> list[Schema]:
    """Return a schema and what it holds as a whole: the targets of local `$ref`s and `allOf`."""
    root = cast(Schema, schema) if root is None else root
    parts: list[Schema] = []
    waiting: list[Json] = [schema]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop(0)
        if not isinstance(part, dict) or id(cast(Json, part)) in seen:
            continue
        found = cast(Schema, part)
        seen.add(id(found))
        parts.append(found)
        waiting.extend(found.get("allOf", ()))
        if isinstance(found.get("$ref"), str):
            waiting.append(_target(root, found["$ref"]))
    return parts


def _target(root: Schema, reference: str) -> Json:
    """Return what a local reference points at, or None."""
    if not reference.startswith("#"):
        return None
    node: Json = root
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        node = cast(Schema, node).get(name) if isinstance(node, dict) else None
    return node


class DefaultFiller:
    """Fills the defaults of the objects inside a value."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._parts: dict[int, list[Schema]] = {}  # the schemas live as long as the root does

    @classmethod
    def of(cls, root: Schema) -> DefaultFiller | None:
        """Return a filler, or None where only the top level declares defaults."""
        return cls(root) if _has_nested_default(root) else None

    def fill(self, value: Json) -> None:
        """Add, in place, the defaults of what `value` and the objects inside it lack.

        Raises:
            ValidationError: a bound is exceeded.
        """
        budget = _Budget()
        waiting: list[tuple[Json, Json, int]] = [(value, self._root, 0)]
        while waiting:
            node, schema, depth = waiting.pop()
            for part in self._parts_of(schema):
                budget.spend(depth)
                if isinstance(node, dict):
                    found = _fill_object(cast("dict[str, Json]", node), part, budget)
                    waiting.extend((each, below, depth + 1) for each, below in found)
                elif isinstance(node, list) and isinstance(part.get("items"), dict):
                    items = cast("list[Json]", node)
                    waiting.extend(
                        (each, part["items"], depth + 1) for each in items if each.__class__ in _BOTH
                    )

    def _parts_of(self, schema: Json) -> list[Schema]:
        known = self._parts.get(id(schema))
        if known is None:
            known = self._parts[id(schema)] = declared_parts(schema, self._root)
        return known


_BOTH = (dict, list)


class _Budget:
    """What is left to one filling."""

    def __init__(self) -> None:
        self._steps = self._defaults = self._bytes = 0
        self._weights: dict[int, int] = {}  # of the defaults of the schema, which lives longer than this

    def spend(self, depth: int) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise _exceeded(f"take more than {MAX_STEPS:,} steps")
        if depth > MAX_DEPTH:
            raise _exceeded(f"are nested more than {MAX_DEPTH} deep; a default may contain itself")

    def take(self, default: Json) -> Json:
        """Return a copy of a default."""
        if not isinstance(default, _BOTH):
            weight = len(default) if isinstance(default, str) else 1
        elif (known := self._weights.get(id(cast(Json, default)))) is not None:
            weight = known
        else:
            weight = self._weights[id(cast(Json, default))] = len(dumps(default))
        self._defaults += 1
        self._bytes += weight
        if self._defaults > MAX_DEFAULTS:
            raise _exceeded(f"are more than {MAX_DEFAULTS:,}")
        if self._bytes > MAX_BYTES:
            raise _exceeded(f"have more than {MAX_BYTES:,} bytes")
        return copy_json(default)


def _exceeded(how: str) -> ValidationError:
    fault = f"inputs: the defaults that the schema fills in {how}"
    return ValidationError(f"The inputs cannot be built: {fault}.", [fault])


def _fill_object(node: dict[str, Json], part: Schema, budget: _Budget) -> Iterable[tuple[Json, Json]]:
    declared = cast("dict[str, Json]", part.get("properties", {}))
    for name, schema in declared.items():
        if not isinstance(schema, dict):
            continue
        if name not in node and "default" in schema:
            node[name] = budget.take(cast(Schema, schema)["default"])
        if isinstance(node.get(name), (dict, list)):
            yield node[name], schema


def _has_nested_default(root: Schema) -> bool:
    waiting: list[tuple[Json, int]] = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, dict):
            found = cast(Schema, node)
            # The defaults of the top level stand two steps down: properties, name.
            if "default" in found and (depth != 2):
                return True
            waiting.extend((each, depth + 1) for each in found.values())
        elif isinstance(node, list):
            waiting.extend((each, depth + 1) for each in cast("list[Json]", node))
    return False
