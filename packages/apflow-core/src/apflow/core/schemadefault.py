"""The defaults that a JSON Schema declares below its top level.

Local references are followed, so a schema may hold itself; filling walks the value, which is finite.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from apflow.core.jsonvalue import copy_json
from apflow.core.task import Json

Schema = dict[str, Json]


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
        """Add, in place, the defaults of what `value` and the objects inside it lack."""
        waiting: list[tuple[Json, Json]] = [(value, self._root)]
        while waiting:
            node, schema = waiting.pop()
            for part in self._parts_of(schema):
                if isinstance(node, dict):
                    waiting.extend(_fill_object(cast("dict[str, Json]", node), part))
                elif isinstance(node, list) and isinstance(part.get("items"), dict):
                    waiting.extend((each, part["items"]) for each in cast("list[Json]", node))

    def _parts_of(self, schema: Json) -> list[Schema]:
        known = self._parts.get(id(schema))
        if known is None:
            known = self._parts[id(schema)] = declared_parts(schema, self._root)
        return known


def _fill_object(node: dict[str, Json], part: Schema) -> Iterable[tuple[Json, Json]]:
    declared = cast("dict[str, Json]", part.get("properties", {}))
    for name, schema in declared.items():
        if not isinstance(schema, dict):
            continue
        if name not in node and "default" in schema:
            node[name] = copy_json(cast(Schema, schema)["default"])
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
