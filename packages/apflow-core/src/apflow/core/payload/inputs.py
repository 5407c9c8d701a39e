"""The inputs of one run of a task: what it says, what its dependencies gave, and defaults.

Pure. What is stored in `task.inputs`, and the results, are never handed out themselves: an executor may
change what it gets. The scan for references is a search in the JSON text, which the copy needs anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from apflow.core.errors import InputsError, InvalidInputError, QueryError
from apflow.core.model.task import Json, Task, to_json
from apflow.core.payload.json_value import CONTAINERS, Place, copy_json, dumps, loads, rewrite, storable
from apflow.core.payload.schema import InputSchema
from apflow.core.payload.secrets import quoted

if TYPE_CHECKING:
    from apflow.core.payload.jmespath import Query

_FROM: Final = "$from"
_RUN: Final = "$run"
RUN_VALUES: Final = ("scheduled_at",)  # what `{"$run": NAME}` may name
_KEYS: Final = frozenset({"$from", "path", "default"})
_MAX_QUERY_LENGTH: Final = 2000
_MAX_RESULT_DEPTH: Final = 200
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class Reference:
    """An object `{"$from": id, "path": JMESPath, "default": value}` inside inputs."""

    place: str  # where it stands: inputs.items[0]
    source: str  # id of a dependency; in arrays without ids, its name
    query: str | None = None
    default: Json = None
    has_default: bool = False


def build_inputs(
    task: Task,
    results: Mapping[str, Json],
    names: Mapping[str, str],
    schema: InputSchema | None,
    max_bytes: int = 64 << 20,
    *,
    scheduled_at: datetime | None = None,
) -> dict[str, Json]:
    """Return the inputs of a run, before hooks, secrets and validation.

    `results` are those of the completed dependencies by id, in the order of the dependencies; `names`
    gives a dependency's id a second key to put its result under.

    Args:
        max_bytes: of JSON that the references may bring in together.
        scheduled_at: the value of `{"$run": "scheduled_at"}`, which becomes an ISO 8601 string.

    Raises:
        InputsError: references are malformed, find nothing, or bring in too much; each with its path.
    """
    inputs = own_inputs(task, results, max_bytes, scheduled_at)
    if results and not (schema is not None and schema.is_explicit_only):
        _inject(inputs, task.inputs, results, names, schema)
    if schema is not None:
        schema.fill_defaults(inputs)
    return inputs


def resolved_value(
    value: Json,
    task: Task,
    results: Mapping[str, Json],
    max_bytes: int,
    name: str,
    check: Callable[[Json, str], object],
) -> Json:
    """Return a value in which the references to dependencies of a task are resolved, as in its inputs.

    Args:
        results: of the completed dependencies, by id.
        max_bytes: of JSON that the references may bring in together.
        name: of the value, for messages.
        check: called with each value that a reference brings in, and its place; raises to refuse it.

    Raises:
        InputsError: a reference is malformed, finds nothing, or brings in too much.
    """
    declared = {each["id"] for each in task.dependencies}
    size = _Size(max_bytes)

    def change(node: Json, place: Place | None) -> Json:
        if not _is_reference(node):
            return node
        reference = _read(node, place, name)
        found = _value_of(reference, results, declared, size)
        check(found, reference.place)
        return found

    return rewrite(value, change)


def own_inputs(
    task: Task, results: Mapping[str, Json], max_bytes: int, scheduled_at: datetime | None
) -> dict[str, Json]:
    """Return the inputs of a task with its references resolved; see `build_inputs` for the arguments.

    Raises:
        InputsError: as `build_inputs`.
    """
    given = task.inputs
    for value in given.values():
        if type(value) in CONTAINERS:
            break
    else:
        if _FROM not in given and _RUN not in given:
            return dict(given)
    text = dumps(given)
    if b'"$from"' not in text and b'"$run"' not in text:
        return cast("dict[str, Json]", loads(text))
    return _resolved(task, results, max_bytes, {"scheduled_at": to_json(scheduled_at)})


def _resolved(
    task: Task, results: Mapping[str, Json], max_bytes: int, run: Mapping[str, Json]
) -> dict[str, Json]:
    declared = {each["id"] for each in task.dependencies}
    faults: list[str] = []
    size = _Size(max_bytes)

    def change(node: Json, place: Place | None) -> Json:
        if not _is_reference(node) and not _is_run_value(node):
            return node
        if size.is_exceeded:
            return None  # said once
        try:
            if _is_run_value(node):
                return run[_run_value(node, place)]
            reference = _read(node, place)
            return _value_of(reference, results, declared, size)
        except InvalidInputError as error:
            faults.extend(error.violations or [str(error)])
            return None

    resolved = rewrite(task.inputs, change)
    if not faults and not isinstance(resolved, dict):
        faults.append("inputs: the reference gives no object")
    if faults:
        raise InputsError("The inputs cannot be built: " + "; ".join(faults), faults)
    return cast("dict[str, Json]", resolved)


class _Size:
    """How many bytes of JSON references have brought in, and may."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._total = 0
        self.is_exceeded = False
        self._known: dict[int, int] = {}  # of the results, which live longer than this

    def add(self, value: Json, where: str, *, is_result: bool) -> None:
        """Count a value before it is copied."""
        if type(value) not in CONTAINERS:
            self._total += len(value) if isinstance(value, str) else 8
        elif is_result and id(value) in self._known:
            self._total += self._known[id(value)]
        else:
            size = len(dumps(value))
            self._total += size
            if is_result:
                self._known[id(value)] = size
        if self._total > self._most:
            self.is_exceeded = True
            raise _fault(
                where,
                f"the references of these inputs bring in more than {self._most:,} bytes "
                "(APFLOW_MAX_REFERENCED_BYTES); name smaller parts of the results, by a path",
            )


def _value_of(reference: Reference, results: Mapping[str, Json], declared: set[str], size: _Size) -> Json:
    if reference.source not in declared:
        raise _fault(reference.place, f"{reference.source!r} is not a dependency of this task")
    if reference.source not in results:
        return copy_json(reference.default)
    if reference.query is None:
        size.add(results[reference.source], reference.place, is_result=True)
        return quoted(results[reference.source])
    found = _search(reference, results[reference.source])
    if found is None and not reference.has_default:
        raise _fault(
            reference.place,
            f"the path {reference.query!r} finds nothing in the result of {reference.source!r}; "
            "correct it, or give a default",
        )
    if found is None:
        return copy_json(reference.default)
    # An expression can make what is not JSON (NaN, a function).
    if type(found) in CONTAINERS:
        found = storable(found, reference.place, max_depth=_MAX_RESULT_DEPTH)
    size.add(found, reference.place, is_result=False)
    return quoted(storable(found, reference.place, max_depth=_MAX_RESULT_DEPTH))


def _search(reference: Reference, result: Json) -> Json:
    try:
        return query_of(reference.query or "").search(result)
    except QueryError as error:
        raise _fault(reference.place, f"the path {reference.query!r} fails: {error.cause}") from error


@lru_cache(maxsize=1024)
def query_of(text: str) -> Query:
    """Return a JMESPath expression, compiled once.

    Raises:
        QueryError: it is not a valid expression.
    """
    from apflow.core.payload.jmespath import Query  # few inputs have paths, and it brings the library

    return Query(text)


def _inject(
    inputs: dict[str, Json],
    given: Mapping[str, Json],
    results: Mapping[str, Json],
    names: Mapping[str, str],
    schema: InputSchema | None,
) -> None:
    """Step 2: declared properties that are wanted, then each result as a whole under its id and name."""
    wanted = _wanted(given, schema) if schema else set[str]()
    for dependency_id, result in results.items():
        result = quoted(result)
        for name in sorted(wanted):
            value = _part_of(result, name)
            if value is not _NOTHING:
                inputs[name] = copy_json(value)
                wanted.discard(name)
        if schema is not None and not schema.allows_additional:
            continue
        for key in (dependency_id, names.get(dependency_id)):
            if key is not None and _is_free(key, inputs, given, wanted, schema):
                inputs[key] = result
                wanted.discard(key)


def _is_free(
    key: str,
    inputs: Mapping[str, Json],
    given: Mapping[str, Json],
    wanted: set[str],
    schema: InputSchema | None,
) -> bool:
    """Return whether a result may be stored under `key`. Values of the task are never overwritten."""
    if key in wanted:
        return True
    if schema is not None and schema.is_named_only and key in schema.properties:
        return False
    return key not in inputs or (is_empty(inputs[key]) and key in given)


def _wanted(given: Mapping[str, Json], schema: InputSchema) -> set[str]:
    """Return the properties to fill: named with an empty value, or required, absent and without default."""
    wanted = {name for name, value in given.items() if is_empty(value) and name in schema.properties}
    if not schema.is_named_only:
        wanted |= {name for name in schema.required if name not in given and name not in schema.defaults}
    return wanted & schema.properties.keys()


def _part_of(result: Json, name: str) -> Json:
    if not isinstance(result, dict):
        return _NOTHING
    outer = cast("dict[str, Json]", result)
    if name in outer:
        return outer[name]
    inner = outer.get("result")
    return cast("dict[str, Json]", inner).get(name, _NOTHING) if isinstance(inner, dict) else _NOTHING


def is_empty(value: Json) -> bool:
    """Return whether a value only holds a place: None, [] or {}."""
    return value is None or (type(value) in CONTAINERS and not value)


def find_references(inputs: Mapping[str, Json], name: str = "inputs") -> list[Reference]:
    """Return every reference inside `inputs`, in order. `name`: what messages call the inputs.

    Raises `InputsError` with every reference that is malformed, each with its path.
    """
    found: list[Reference] = []
    faults: list[str] = []

    def change(node: Json, place: Place | None) -> Json:
        if not _is_reference(node) and not _is_run_value(node):
            return node
        try:
            if _is_run_value(node):
                _run_value(node, place)
                return None
            reference = _read(node, place, name)
            _check_query(reference)
            found.append(reference)
        except InputsError as error:
            faults.extend(error.violations)
        return None

    if _may_refer(inputs):
        rewrite(inputs, change)
    if faults:
        raise InputsError("The inputs hold references that cannot work: " + "; ".join(faults), faults)
    return found


def remap_references(inputs: Mapping[str, Json], mapping: Mapping[str, str]) -> dict[str, Json]:
    """Return a copy of `inputs` whose references name what `mapping` says; others stay."""

    def change(node: Json, _: Place | None) -> Json:
        if not _is_reference(node) or not isinstance(node[_FROM], str):
            return node
        return {**copy_json(node), _FROM: mapping.get(node[_FROM], node[_FROM])}

    if not _may_refer(inputs):
        return cast("dict[str, Json]", copy_json(inputs)) if inputs else {}
    return cast("dict[str, Json]", rewrite(inputs, change))


def with_run_values(inputs: Mapping[str, Json], run: Mapping[str, Json]) -> dict[str, Json]:
    """Return a copy of `inputs` in which `run` gives the value of each `{"$run": NAME}`."""

    def change(node: Json, place: Place | None) -> Json:
        return run[_run_value(node, place)] if _is_run_value(node) else node

    return cast("dict[str, Json]", rewrite(inputs, change))


def _may_refer(inputs: Mapping[str, Json]) -> bool:
    if not inputs:
        return False
    text = dumps(inputs)
    return b'"$from"' in text or b'"$run"' in text


def _is_reference(node: Json) -> bool:
    return isinstance(node, dict) and _FROM in node and cast("dict[str, Json]", node).keys() <= _KEYS


def _is_run_value(node: Json) -> bool:
    return isinstance(node, dict) and len(cast("dict[str, Json]", node)) == 1 and _RUN in node


def _run_value(node: Mapping[str, Json], place: Place | None) -> str:
    """Return the name in `{"$run": NAME}`."""
    name = node[_RUN]
    if place is None:
        raise _fault("inputs.$run", "is text; put it inside of the inputs, under a name")
    if name not in RUN_VALUES:
        raise _fault(f"{place.path('inputs')}.$run", f"must be {' or '.join(RUN_VALUES)}")
    return str(name)


def _read(node: Mapping[str, Json], place: Place | None, name: str = "inputs") -> Reference:
    """Read an object that has the keys of a reference."""
    where = place.path(name) if place else name
    source, query = node[_FROM], node.get("path")
    if not isinstance(source, str) or not source:
        raise _fault(f"{where}.$from", "must be the id of a dependency")
    if "path" in node and (not isinstance(query, str) or not 0 < len(query) <= _MAX_QUERY_LENGTH):
        raise _fault(f"{where}.path", f"must be a JMESPath of 1 to {_MAX_QUERY_LENGTH} characters")
    if "default" in node and _may_refer({"default": node["default"]}):
        raise _fault(f"{where}.default", "may not hold a reference itself")
    return Reference(where, source, query, node.get("default"), "default" in node)


def _check_query(reference: Reference) -> None:
    if reference.query is None:
        return
    try:
        query_of(reference.query)
    except QueryError as error:
        raise _fault(
            f"{reference.place}.path", f"is not a valid JMESPath expression: {error.cause}"
        ) from error


def _fault(place: str, why: str) -> InputsError:
    return InputsError(f"{place}: {why}", [f"{place}: {why}"])
