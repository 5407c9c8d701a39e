"""How much work a JSON Schema can make of a value: an estimate, made once, before anything is validated.

A validator may evaluate a value many times: `anyOf` of two references to the next of 40 levels takes 2^40
evaluations, of a schema of 4 kB. The validator holds the interpreter meanwhile and cannot be interrupted, so
such a schema is refused.

The estimate follows the schema as an automaton. A state says how often each subschema is evaluated for one
value; each key of an object leads to another state, and so does each item of an array. What applies to the
value itself (`$ref`, `allOf`, `anyOf`, ...) multiplies within a state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, cast

from apflow.core.errors import ValidationError
from apflow.core.model.task import Json
from apflow.core.payload.json_value import is_larger

Schema = dict[str, Json]
State = dict[int, int]  # identity of a subschema -> how often it is evaluated

MAX_EVALUATIONS: Final = 20_000  # of one value
MAX_WORDS: Final = 20_000  # values in a schema: objects, arrays and scalars
MAX_STEPS: Final = 20_000  # of the estimate itself
MAX_REFERENCES: Final = 500  # one after the other, for the same value
MAX_PATTERN_BYTES: Final = 64 << 10  # of all different patterns
MAX_COMPILED_BYTES: Final = 16 << 20  # of all different patterns, estimated: 8 ms of compiling each MiB
MAX_LEVELS: Final = 70  # of a value; JSON of tasks is at most 64 deep
# Evaluations that one keyword costs, measured with jsonschema-rs 0.56.
FANCY_PATTERN: Final = 2_000  # a pattern that needs backtracking, within the limit of the engine
CONTAINER: Final = 10  # a comparison with an object or array of `enum` or `const`

_FANCY: Final = re.compile(r"\(\?[=!<>]|\\[1-9kKG]|[*+?}]\+|\(\?\(")
_COUNT: Final = re.compile(r"\{(?:\d+,)?(\d+),?\}")
_CLASS: Final = re.compile(r"\\[pPwWdDsS]")
_ONCE: Final = ("$ref", "$dynamicRef", "$recursiveRef", "if", "then", "else")
_ALL: Final = ("allOf",)
_TWICE: Final = ("anyOf", "oneOf")  # evaluated again for the errors, or to see that no second one matches
_CHILDREN: Final = (
    "properties", "patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties",
    "items", "prefixItems", "additionalItems", "contains", "unevaluatedItems",
)  # fmt: skip
_UNEVALUATED: Final = ("unevaluatedProperties", "unevaluatedItems")


def weigh(root: Json) -> int:
    """Return at most how many evaluations of a subschema one value takes.

    Raises:
        ValidationError: more than `MAX_EVALUATIONS`, or the schema is too complex to estimate.
    """
    if is_larger(root, MAX_WORDS):
        raise _too_costly(f"it has more than {MAX_WORDS:,} values")
    return _Estimate(root).largest() if isinstance(root, dict) else 1


class _Estimate:
    def __init__(self, root: Json) -> None:
        self._root = cast(Schema, root)
        self._steps = 0
        self._schemas: dict[int, Schema] = {}
        self._named: dict[str, Schema] = {}
        self._read_names()
        self._check_patterns()

    def largest(self) -> int:
        """Follow every state, level by level, until no new one is found."""
        largest = 0
        waiting = [self._expanded({self._known(self._root): 1})]
        seen: set[frozenset[tuple[int, int]]] = set()
        for _ in range(MAX_LEVELS):
            following: list[State] = []
            for state in waiting:
                key = frozenset(state.items())
                if key in seen:
                    continue
                seen.add(key)
                largest = max(largest, self._weight(state))
                following += [self._expanded(each) for each in self._below(state)]
            if not following:
                break
            waiting = following
        return largest

    def _read_names(self) -> None:
        """Note what `$id` and anchors name."""
        for node in self._nodes(self._root):
            for word, mark in (("$id", ""), ("id", ""), ("$anchor", "#"), ("$dynamicAnchor", "#")):
                name = node.get(word)
                if isinstance(name, str):
                    self._named.setdefault(mark + name, node)

    def _check_patterns(self) -> None:
        patterns: set[str] = set()
        for node in self._nodes(self._root):
            patterns.update(_patterns_of(node))
        if sum(map(len, patterns)) > MAX_PATTERN_BYTES:
            raise _too_costly(f"its patterns have more than {MAX_PATTERN_BYTES:,} characters")
        if sum(map(_compiled_bytes, patterns)) > MAX_COMPILED_BYTES:
            raise _too_costly("its patterns repeat parts so often that compiling them takes too much memory")

    def _nodes(self, root: Json) -> Iterator[Schema]:
        waiting: list[Json] = [root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict):
                yield cast(Schema, node)
                waiting.extend(cast(Schema, node).values())
            elif isinstance(node, list):
                waiting.extend(cast("list[Json]", node))

    def _known(self, schema: Schema) -> int:
        self._schemas[id(schema)] = schema
        return id(schema)

    def _spend(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise _too_costly("it is too complex to estimate what a validation takes")

    def _expanded(self, state: State) -> State:
        """Add what applies to the same value, each as often as it is evaluated."""
        whole: State = {}
        waiting = state
        for _ in range(MAX_REFERENCES):
            following: State = {}
            for at, count in waiting.items():
                whole[at] = whole.get(at, 0) + count
                for each, times in self._in_place(self._schemas[at]):
                    self._spend()
                    below = self._known(each)
                    following[below] = following.get(below, 0) + count * times
            if sum(whole.values()) + sum(following.values()) > MAX_EVALUATIONS:
                raise _too_costly(f"one value would be evaluated more than {MAX_EVALUATIONS:,} times")
            if not following:
                return whole
            waiting = following
        raise _too_costly(f"more than {MAX_REFERENCES} references follow each other, perhaps in a circle")

    def _in_place(self, schema: Schema) -> Iterator[tuple[Schema, int]]:
        factor = 3 if any(word in schema for word in _UNEVALUATED) else 1
        for word in _ONCE:
            part = schema.get(word)
            found = self._target(part) if isinstance(part, str) else part
            if isinstance(found, dict) and found is not schema:
                yield cast(Schema, found), factor
        for part in _schemas_of(schema.get("not")):
            yield part, 2 * factor
        for words, times in ((_ALL, 1), (_TWICE, 2)):
            for word in words:
                for part in _schemas_of(schema.get(word)):
                    yield part, times * factor
        for word in ("dependentSchemas", "dependencies"):
            named = schema.get(word)
            for part in cast(Schema, named).values() if isinstance(named, dict) else ():
                if isinstance(part, dict):
                    yield cast(Schema, part), factor

    def _target(self, reference: str) -> Json:
        if reference in self._named:
            return self._named[reference]
        if not reference.startswith("#"):
            return next((node for name, node in self._named.items() if name.endswith(reference)), self._root)
        node: Json = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                node = cast(Schema, node).get(name)
            elif isinstance(node, list) and name.isdigit() and int(name) < len(cast("list[Json]", node)):
                node = cast("list[Json]", node)[int(name)]
            else:
                return None
        return node

    def _weight(self, state: State) -> int:
        total = sum(count * _own_weight(self._schemas[at]) for at, count in state.items())
        if total > MAX_EVALUATIONS:
            raise _too_costly(f"one value would take more than {MAX_EVALUATIONS:,} evaluations")
        return total

    def _below(self, state: State) -> Iterator[State]:
        """Give the state of each key of an object, of each item of an array, and of the others."""
        parts = [(self._schemas[at], count) for at, count in state.items()]
        if not any(word in schema for schema, _ in parts for word in _CHILDREN):
            return
        keys = {key for schema, _ in parts for key in _members(schema, "properties")}
        for key in (*keys, None):
            yield from self._state((self._for_key(schema, key), count) for schema, count in parts)
        longest = max((len(_schemas_of(schema.get("prefixItems"))) for schema, _ in parts), default=0)
        longest = max(longest, max((len(_listed(schema.get("items"))) for schema, _ in parts), default=0))
        for index in range(longest + 1):
            yield from self._state((self._for_item(schema, index), count) for schema, count in parts)

    def _state(self, found: Iterator[tuple[list[Json], int]]) -> Iterator[State]:
        state: State = {}
        for schemas, count in found:
            for schema in schemas:
                self._spend()
                if isinstance(schema, dict):
                    at = self._known(cast(Schema, schema))
                    state[at] = state.get(at, 0) + count
        if state:
            yield state

    @staticmethod
    def _for_key(schema: Schema, key: str | None) -> list[Json]:
        declared = _members(schema, "properties")
        found: list[Json] = [*_members(schema, "patternProperties").values()]
        if key is not None and key in declared:
            found.append(declared[key])
        else:
            found += [schema.get("additionalProperties"), schema.get("unevaluatedProperties")]
        return [*found, schema.get("propertyNames")]

    @staticmethod
    def _for_item(schema: Schema, index: int) -> list[Json]:
        listed = _listed(schema.get("prefixItems")) or _listed(schema.get("items"))
        found: list[Json] = [schema.get("contains"), schema.get("contains")]
        if index < len(listed):
            found.append(listed[index])
        else:
            items = schema.get("items")
            found += [items if isinstance(items, dict) else None, schema.get("additionalItems")]
            found.append(schema.get("unevaluatedItems"))
        return found


def _own_weight(schema: Schema) -> int:
    """Return what the keywords of one subschema cost beside the evaluation itself."""
    weight = 1
    for value in (*_listed(schema.get("enum")), schema.get("const")):
        if isinstance(value, (dict, list)):
            weight += CONTAINER
    for pattern in _patterns_of(schema):
        weight += FANCY_PATTERN if _FANCY.search(pattern) else 1
    return weight


def _patterns_of(schema: Schema) -> list[str]:
    pattern = schema.get("pattern")
    return [*_members(schema, "patternProperties"), *([pattern] if isinstance(pattern, str) else [])]


def _compiled_bytes(pattern: str) -> int:
    """Return about how large a pattern is when compiled: as if each count stood within the others."""
    product = 1
    for count in _COUNT.findall(pattern):
        product *= max(1, int(count[-9:]))
        if product > MAX_COMPILED_BYTES:
            break
    return 16_000 + product * (8_000 if _CLASS.search(pattern) else 400 if "." in pattern else 16)


def _members(schema: Schema, word: str) -> Schema:
    found = schema.get(word)
    return cast(Schema, found) if isinstance(found, dict) else {}


def _listed(value: Json) -> list[Json]:
    return cast("list[Json]", value) if isinstance(value, list) else []


def _schemas_of(value: Json) -> list[Schema]:
    found: list[Json] = [cast(Json, value)] if isinstance(value, dict) else _listed(value)
    return [cast(Schema, each) for each in found if isinstance(each, dict)]


def _too_costly(why: str) -> ValidationError:
    fault = f"schema: {why}; use fewer alternatives, references and levels"
    return ValidationError(f"This JSON Schema is too costly: {fault}", [fault])
