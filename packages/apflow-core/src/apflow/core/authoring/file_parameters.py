"""Parameters of files of tasks: declared in `params` next to `tasks`, used as `${params.NAME}` in the tasks.

Pure. A value that is exactly one reference becomes the value of the parameter, with its type. In longer text,
a reference becomes text. Values are inserted once: what they contain is not searched for references, and
nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from apflow.core.authoring.array_validation import place_of
from apflow.core.authoring.violation import Violations, near, shown
from apflow.core.errors import InvalidInputError, ValidationError
from apflow.core.model.task import Json
from apflow.core.payload.json_value import CONTAINERS, Place, copy_json, dumps, rewrite
from apflow.core.payload.schema import compile_schema

Schema = dict[str, Json]

TYPES: Final = ("string", "integer", "number", "boolean", "array", "object")
# Keywords of JSON Schema that a declaration may have.
KEYWORDS: Final = (
    "type", "description", "default", "enum", "examples", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "format", "items", "minItems",
    "maxItems", "uniqueItems", "properties", "required", "additionalProperties",
)  # fmt: skip
NAME_PATTERN: Final = r"[A-Za-z_][A-Za-z0-9_-]{0,79}"
# A string that is one reference, in the notation of JSON Schema.
REFERENCE_PATTERN: Final = rf"^\$\{{params\.{NAME_PATTERN}\}}$"

MAX_INSERTED: Final = 64 << 20  # bytes of JSON that the references of a file may stand for

_NAME: Final = re.compile(NAME_PATTERN)
_MARK: Final = "${params."
_REFERENCE: Final = re.compile(r"(\$?)\$\{params\.([^{}]*)\}")
_EMPTY: Final[Mapping[str, Json]] = {
    "integer": 1, "number": 1, "boolean": False, "array": [], "object": {},
}  # fmt: skip


def declares_parameters(given: Json) -> bool:
    """Return whether what a file contains is an object with `params` and `tasks`."""
    return isinstance(given, Mapping) and "tasks" in given and "params" in given


@dataclass(frozen=True, slots=True)
class FileParameters:
    """The parameters that a file declares, by name: each a JSON Schema with a `type`."""

    declared: Mapping[str, Schema]

    def type_of(self, name: str) -> str:
        """Return the type of a declared parameter."""
        return cast("str", self.declared[name]["type"])

    def missing(self, values: Collection[str]) -> list[str]:
        """Return the parameters that have neither a value nor a default."""
        return [
            name for name, schema in self.declared.items() if name not in values and "default" not in schema
        ]

    def complete(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """Return the values with the defaults of the others. A required one that is missing stays missing.

        Raises:
            InvalidInputError: a value is for no parameter, or does not match its schema; `violations` lists
                every fault.
        """
        faults: list[str] = []
        for name, value in values.items():
            if name not in self.declared:
                faults.append(self.unknown(name))
            else:
                faults += _faults_of(self.declared[name], value, name)
        if faults:
            raise InvalidInputError("The parameters of the file cannot be used.", faults)
        defaults = {name: each["default"] for name, each in self.declared.items() if "default" in each}
        return {**defaults, **values}

    def unknown(self, name: str) -> str:
        """Return the violation for a name that no parameter has."""
        known = ", ".join(self.declared) or "none"
        advice = near(name, self.declared)
        return f"the file has no parameter {shown(name)}.{advice or f' There are: {known}.'}"


def read_parameters(given: Mapping[str, Json]) -> FileParameters:
    """Read the declarations of a file that has `params` and `tasks`.

    Raises:
        InvalidInputError: a declaration is invalid, or the object has other keys; `violations` lists every
            fault with its place, such as "params.day.default: ...".
    """
    faults = Violations()
    for key in given:
        if key not in ("params", "tasks"):
            faults.add("", f"a file has no key {shown(key)} next to `tasks`. There are: params, tasks.")
    declared: Json = given["params"]
    if declared is None:
        declared = {}
    if not isinstance(declared, dict):
        faults.add("params", f"must be an object of parameters by name, not {shown(declared)}.")
        declared = {}
    read: dict[str, Schema] = {}
    for name, each in cast("dict[str, Json]", declared).items():
        if _is_declaration(name, each, faults):
            read[name] = cast("Schema", each)
    if faults.found:
        raise InvalidInputError("The parameters of the file are declared wrongly.", faults.found)
    return FileParameters(read)


def _is_declaration(name: str, given: Json, faults: Violations) -> bool:
    """Return whether a declaration is valid, and add its faults."""
    where = f"params.{name}"
    if not _NAME.fullmatch(name):
        rule = "letters, digits, _ and -, not beginning with a digit or -, at most 80 characters"
        faults.add("params", f"the name {shown(name)} cannot be used: {rule}.")
        return False
    if not isinstance(given, dict):
        faults.add(where, f'a parameter is an object such as {{"type": "string"}}, not {shown(given)}.')
        return False
    before = faults.count
    declared = cast("Schema", given)
    for key in declared:
        if key not in KEYWORDS:
            advice = faults.near(key, KEYWORDS) or f" There are: {', '.join(KEYWORDS)}."
            faults.add(where, f"there is no key {shown(key)}.{advice}")
    if declared.get("type") not in TYPES:
        place = f"{where}.type" if "type" in declared else where
        faults.add(place, f"the type must be one of {', '.join(TYPES)}, not {shown(declared.get('type'))}.")
    if not isinstance(declared.get("description", ""), str):
        faults.add(f"{where}.description", f"must be text, not {shown(declared['description'])}.")
    if faults.count == before:
        for each in _faults_of_schema(declared, name):
            faults.add("", each)
    return faults.count == before


def _faults_of_schema(schema: Schema, name: str) -> list[str]:
    try:
        compile_schema(schema)
    except ValidationError as error:
        return [f"params.{name}: {error}"]
    return _faults_of(schema, schema["default"], f"params.{name}.default") if "default" in schema else []


def _faults_of(schema: Schema, value: Json, where: str) -> list[str]:
    """Return the violations of one value. Its place follows `where`."""
    compiled = compile_schema(schema)
    try:
        if compiled is not None:
            compiled.validate(value, where)
    except ValidationError as error:
        return error.violations
    return []


@dataclass(frozen=True, slots=True)
class FilledTasks:
    """The tasks of a file with the values of its parameters.

    `incomplete` has the indexes of the tasks that use a parameter without a value. A placeholder of its type
    is in its place; a string is the reference itself.
    """

    tasks: list[Any]
    incomplete: frozenset[int]


def fill_parameters(
    tasks: Sequence[object], parameters: FileParameters, values: Mapping[str, Json]
) -> FilledTasks:
    """Return the tasks with each reference to a parameter replaced by its value.

    Args:
        tasks: as in the file, without nesting; see `flat_entries`.
        values: of the parameters; those without a value are replaced by placeholders.

    Raises:
        InvalidInputError: a reference names no parameter, an array or object is inside of text, or the values
            are too large together; `violations` lists every fault with its place.
    """
    faults = Violations()
    budget = _Budget(values)
    filled: list[Any] = []
    incomplete: set[int] = set()
    for index, entry in enumerate(tasks):
        name = cast("Mapping[str, Json]", entry).get("name") if isinstance(entry, Mapping) else None
        one = _Filling(parameters, values, place_of(index, name), faults, budget)
        filled.append(rewrite(entry, one.change))
        if one.is_incomplete:
            incomplete.add(index)
    if faults.found:
        raise InvalidInputError("The tasks use parameters wrongly.", faults.found)
    return FilledTasks(filled, frozenset(incomplete))


class _Budget:
    """How many bytes of JSON references may still stand for."""

    def __init__(self, values: Mapping[str, Json]) -> None:
        self._sizes = {name: len(dumps(value)) for name, value in values.items()}
        self._left = MAX_INSERTED

    def take(self, name: str) -> None:
        """Count one reference to a parameter.

        Raises:
            InvalidInputError: the references stand for too much.
        """
        self._left -= self._sizes[name]
        if self._left < 0:
            raise InvalidInputError(
                f"The values of parameters add more than {MAX_INSERTED >> 20} MiB to the tasks. Use shorter "
                "values, or refer to them in fewer places."
            )


class _Filling:
    """Replaces the references in one task."""

    def __init__(
        self,
        parameters: FileParameters,
        values: Mapping[str, Json],
        where: str,
        faults: Violations,
        budget: _Budget,
    ) -> None:
        self.is_incomplete = False
        self._parameters, self._values, self._budget = parameters, values, budget
        self._where, self._faults = where, faults

    def change(self, node: Json, place: Place | None) -> Json:
        if not isinstance(node, str) or _MARK not in node:
            return node
        whole = _REFERENCE.fullmatch(node)
        if whole and not whole[1]:
            return copy_json(self._value(whole[2], node, place))
        return _REFERENCE.sub(lambda found: self._text(found, place), node)

    def _text(self, found: re.Match[str], place: Place | None) -> str:
        if found[1]:
            return found[0][1:]
        value = self._value(found[2], found[0], place)
        if type(value) in CONTAINERS:
            kind = self._parameters.type_of(found[2])
            fault = f"{found[0]} is of type {kind}, so it must be the whole value, not a part of text."
            self._add(fault, place)
            return found[0]
        return value if isinstance(value, str) else dumps(value).decode()

    def _value(self, name: str, reference: str, place: Place | None) -> Json:
        if name in self._values:
            self._budget.take(name)
            return self._values[name]
        if name not in self._parameters.declared:
            self._add(f"{reference[:100]}: {self._parameters.unknown(name)}", place)
            return reference
        self.is_incomplete = True
        return _placeholder(self._parameters.declared[name], reference)

    def _add(self, fault: str, place: Place | None) -> None:
        at = f"{place.path('')}: " if place else ""
        self._faults.add(self._where, at + fault)


def _placeholder(schema: Schema, reference: str) -> Json:
    """Return a value for a parameter without one: an example or a value of its `enum`, if it has one."""
    for key in ("examples", "enum"):
        given = schema.get(key)
        if isinstance(given, list) and given and not _faults_of(schema, given[0], ""):
            return cast("list[Json]", given)[0]
    return _EMPTY.get(cast("str", schema["type"]), reference)
