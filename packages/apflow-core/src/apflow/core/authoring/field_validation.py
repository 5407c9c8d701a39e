"""Validation of the fields of one task, as given by a user.

Every function reads one value, returns it in the form to store, and records faults instead of raising, so
that the caller gets all of them together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from apflow.core.authoring.violation import Violations, shown
from apflow.core.bounds import MAX_TAGS
from apflow.core.errors import InvalidInputError
from apflow.core.model.ids import fault_of_extension_id
from apflow.core.model.tags import fault_of_tag
from apflow.core.model.task import PUBLIC_FIELDS, Json
from apflow.core.payload.inputs import find_references
from apflow.core.payload.json_value import clean_text, dumps, encode
from apflow.core.payload.secrets import refuse_masked
from apflow.core.settings import Settings

MAX_TEXT = 255  # characters of an id; longer ones would not fit the index of every database

# What an array may say of a task. `status` and `result` only of work that is done already: copies do that.
KEYS = (
    "id", "key", "name", "parent_id", "user_id", "priority", "dependencies", "inputs", "params", "schemas",
    "policy", "budget", "resources", "when", "trigger", "for_each", "label", "tags", "status", "result",
    "original_task_id",
)  # fmt: skip

# Fields that only the engine sets. Output of apflow can be given back as input: these are ignored in it.
READ_ONLY = (
    *(name for name in PUBLIC_FIELDS if name not in KEYS),
    "history",
    "usage",
    "budget_state",
    "tree",
)

# Keys that people write where something else is meant.
_MEANT = {
    "executor_id": "params.executor_id",
    "executor": "params.executor_id",
    "method": "schemas.method",
    "input_schema": "schemas.input_schema",
    "output_schema": "schemas.output_schema",
    "timeout": "policy.timeout",
    "deadline": "policy.deadline of the root",
    "cleanup_timeout": "policy.cleanup_timeout of the root",
    "retry": "policy.retry",
    "retries": "policy.retry.max_attempts",
    "effect": "policy.effect",
    "cache": "policy.cache",
    "ttl": "policy.cache.ttl",
    "limit": "policy.limit",
    "gpu": "resources.gpu",
    "labels": "resources",
    "rate": "policy.limit.rate",
    "rate_limit": "policy.limit.rate",
    "concurrency": "policy.limit.concurrency",
    "if": "when",
    "condition": "when",
    "trigger_rule": "trigger",
    "foreach": "for_each",
    "map": "for_each",
    "with_items": "for_each.items",
    "max_parallel": "for_each.max_parallel",
    "depends_on": "dependencies",
    "after": "dependencies",
    "needs": "dependencies",
    "children": "parent_id in each child",
}


def check_keys(keys: Iterable[Any], custom: Mapping[str, Json], where: str, faults: Violations) -> None:
    """Refuse keys that mean nothing in a task. Those of `READ_ONLY` are accepted, and ignored."""
    for key in keys:
        if key in KEYS or key in custom or key in READ_ONLY:
            continue
        if key in _MEANT:
            faults.add(where, f"there is no key {key!r}. Use {_MEANT[key]}.")
        else:
            advice = faults.near(key, [*KEYS, *custom]) if isinstance(key, str) else ""
            advice = advice or " Own columns are added by set_task_model_class()."
            faults.add(where, f"there is no key {shown(key)}.{advice}")


def read_text(value: object, name: str, where: str, faults: Violations) -> str | None:
    """Read an id or a name of a user: text of 1 to 255 characters."""
    if not isinstance(value, str) or not value.strip():
        faults.add(where, f"{name} must be text that is not empty, not {shown(value)}.")
        return None
    if len(value) > MAX_TEXT:
        faults.add(where, f"{name} has {len(value)} characters; at most {MAX_TEXT} are possible.")
        return None
    if value != clean_text(value):
        faults.add(where, f"{name} holds characters that cannot be stored (U+0000 or a lone surrogate).")
        return None
    return value


def read_name(value: object, where: str, faults: Violations) -> str:
    """Read the name of a task."""
    if not isinstance(value, str) or not value.strip():
        faults.add(where, f"every task needs a name: text that is not empty, not {shown(value)}.")
        return ""
    return clean_text(value)


def read_label(value: object, where: str, faults: Violations) -> str | None:
    """Read a label: text of at most 255 characters; None where it is null or empty."""
    return None if value is None or value == "" else read_text(value, "label", where, faults)


def read_tags(value: object, where: str, faults: Violations) -> list[str]:
    """Read tags: at most 50 strings; a tag that is given twice is kept once."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        faults.add(where, f"tags must be a list of strings, not {shown(value)}.")
        return []
    given = cast("Sequence[object]", value)
    if len(given) > MAX_TAGS:
        faults.add(where, f"there are {len(given)} tags; at most {MAX_TAGS} are possible.")
        return []
    for each in given:
        if (fault := fault_of_tag(each)) is not None:
            faults.add(where, f"tag {shown(each)} cannot be used: {fault}.")
    return [each for each in dict.fromkeys(given) if isinstance(each, str)]


def read_priority(value: object, where: str, faults: Violations) -> int:
    """Read a priority: any integer of 32 bits, 2 where nothing is said."""
    if value is None:
        return 2
    if isinstance(value, bool) or not isinstance(value, int):
        kinds = "0 urgent, 1 high, 2 normal, 3 low"
        faults.add(where, f"priority must be an integer ({kinds}), not {shown(value)}.")
        return 2
    if not -(2**31) <= value < 2**31:
        faults.add(where, f"priority {shown(value)} is out of range: use 0 urgent to 3 low.")
        return 2
    return value


def read_object(
    value: object, name: str, where: str, settings: Settings, faults: Violations
) -> dict[str, Json]:
    """Read a field such as `inputs` or `params`: an object of plain JSON that can be stored."""
    if value is None or value == {}:
        return {}
    if not isinstance(value, Mapping):
        faults.add(where, f"{name} must be an object, not {shown(value)}.")
        return {}
    stored = read_json(dict(cast("Mapping[Any, Any]", value)), name, where, settings, faults)
    return {} if stored is None else cast("dict[str, Json]", stored)


def read_json(value: object, name: str, where: str, settings: Settings, faults: Violations) -> Json:
    """Read plain JSON that can be stored; None where it cannot."""
    max_bytes = settings.max_result_bytes if name == "result" else settings.max_inputs_bytes
    try:
        stored, size = encode(value, name, max_depth=settings.max_json_depth)
        if name != "result" and b"***" in dumps(stored):
            refuse_masked(stored, name)
    except InvalidInputError as error:
        faults.add(where, str(error))
        return None
    if size > max_bytes:
        faults.add(where, f"{name} takes {size} bytes; {max_bytes} are possible. Store a reference instead.")
        return None
    return stored


def check_sources(inputs: dict[str, Json], declared: Collection[str], where: str, faults: Violations) -> None:
    """Check that references inside inputs can work, and only name declared dependencies."""
    try:
        references = find_references(inputs)
    except InvalidInputError as error:
        for violation in error.violations:
            faults.add(where, f"{violation}.")
        return
    for each in references:
        if each.source not in declared:
            fault = f"{each.place}.$from names {shown(each.source)}, which is not a dependency of this task."
            faults.add(where, f"{fault}{faults.near(each.source, declared) or ' Add it to dependencies.'}")


def read_schemas(value: object, where: str, settings: Settings, faults: Violations) -> dict[str, Json]:
    """Read `schemas`: the method is an executor's id, the schemas are JSON Schemas."""
    schemas = read_object(value, "schemas", where, settings, faults)
    _check_executor_id(schemas.get("method"), "schemas.method", where, faults)
    for name in ("input_schema", "output_schema"):
        _check_schema(schemas.get(name), f"schemas.{name}", where, faults)
    return schemas


def _check_schema(schema: Json, name: str, where: str, faults: Violations) -> None:
    if schema is None:
        return
    if not isinstance(schema, dict):
        faults.add(where, f"{name} must be a JSON Schema, an object, not {shown(schema)}.")
        return
    # Imported here, because few arrays include a schema and the validator is large.
    from apflow.core.payload.schema import check_schema

    try:
        check_schema(cast("dict[str, Json]", schema))
    except InvalidInputError as error:
        faults.add(where, f"{name}: {error}")


def read_params(value: object, where: str, settings: Settings, faults: Violations) -> dict[str, Json]:
    """Read `params`: what the executor is made with, and perhaps which."""
    params = read_object(value, "params", where, settings, faults)
    _check_executor_id(params.get("executor_id"), "params.executor_id", where, faults)
    return params


def _check_executor_id(value: Json, name: str, where: str, faults: Violations) -> None:
    if value is None:
        return
    fault = fault_of_extension_id(value) if isinstance(value, str) else "it is not a string"
    if fault is not None:
        faults.add(where, f"{name} must be the id of an executor, not {shown(value)}: {fault}.")


def read_custom(value: object, name: str, where: str, settings: Settings, faults: Violations) -> Json:
    """Read the value of a custom column: plain JSON, or a time."""
    if value is None or isinstance(value, datetime):
        return value
    return read_json(value, name, where, settings, faults)
