"""Validation of the fields of one task, as given by a user.

Every function reads one value, returns it in the form to store, and records faults instead of raising, so
that the caller gets all of them together.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from apflow.core.bounds import (
    MAX_ATTEMPTS,
    MAX_BACKOFF,
    MAX_BUDGET,
    MAX_COUNT,
    MAX_ERROR_TYPES,
    MAX_RATE,
    MAX_RATE_SECONDS,
    MAX_SECONDS,
    MAX_TAGS,
    is_integer,
    is_number,
)
from apflow.core.errors import InvalidInputError, QueryError
from apflow.core.model import limit as limits
from apflow.core.model.budget import AMOUNTS, MEMBERS, ON_EXCEED
from apflow.core.model.for_each import MAX_ITEMS
from apflow.core.model.ids import fault_of_extension_id
from apflow.core.model.span import seconds_of
from apflow.core.model.tags import fault_of_tag
from apflow.core.model.task import EFFECTS, PUBLIC_FIELDS, TRIGGERS, Json, Task
from apflow.core.payload import cache_key as cache_keys
from apflow.core.payload.condition import MAX_LENGTH, read_condition
from apflow.core.payload.inputs import find_references, query_of
from apflow.core.payload.json_value import clean_text, dumps, encode
from apflow.core.payload.secrets import refuse_masked
from apflow.core.settings import Settings, get_settings

MAX_TEXT = 255  # characters of an id; longer ones would not fit the index of every database
MAX_KEYS = 10  # that a message lists
MAX_YEAR = 9000  # of a deadline: a policy can be added to it
MAX_FAULTS = 1000  # reported at most: a hostile array has millions
NEAR_FAULTS = 10  # for which similar words are looked for, and what that may cost: pairs of characters,
NEAR_COST = 2_000_000  # of which difflib compares ten in a microsecond

# What an array may say of a task. `status` and `result` only of work that is done already: copies do that.
KEYS = (
    "id", "key", "name", "parent_id", "user_id", "priority", "dependencies", "inputs", "params", "schemas",
    "policy", "budget", "when", "trigger", "for_each", "label", "tags", "status", "result",
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


class Violations:
    """The violations that a validation has found, each with its place; only the first are kept."""

    def __init__(self) -> None:
        self.count = 0
        self._found: list[str] = []

    @property
    def found(self) -> list[str]:
        """Each violation as a sentence, then how many were left out."""
        left_out = self.count - len(self._found)
        return [*self._found, f"There are {left_out} more violations."] if left_out else list(self._found)

    def add(self, where: str, fault: str) -> None:
        self.count += 1
        if self.count <= MAX_FAULTS:
            self._found.append(f"{where}: {fault}" if where else fault)

    def near(self, wrong: str, known: Collection[str]) -> str:
        """Return what `near` returns, for the first violations only."""
        return near(wrong, known) if self.count < NEAR_FAULTS else ""


def near(wrong: str, known: Collection[str]) -> str:
    """Return " Did you mean ...?" where something known is spelled like it, else ""."""
    if len(wrong) * sum(map(len, known)) > NEAR_COST:
        return ""
    found = difflib.get_close_matches(wrong, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def shown(value: object) -> str:
    """Return a value as a message shows it: short, and without what might be secret inside."""
    if isinstance(value, str | int | float | bool) or value is None:
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    return {"dict": "an object", "list": "a list"}.get(type(value).__name__, f"a {type(value).__name__}")


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


def read_policy(value: object, where: str, faults: Violations) -> dict[str, Json]:
    """Read `policy`: types, ranges and keys; what is null is left out."""
    policy = _members(value, "policy", POLICY, where, faults)
    read: dict[str, Json] = {}
    for name, each in policy.items():
        if name == "cache":
            found = read_cache(each, policy.get("effect"), where, faults)
        elif name in BESIDE_POLICY:
            found = BESIDE_POLICY[name](each, f"policy.{name}", where, faults) or None
        else:
            found = _POLICY[name](each, where, faults)
        if found is not None:
            read[name] = found
    if "cleanup_timeout" in policy and "deadline" not in policy:
        faults.add(where, "policy.cleanup_timeout counts from policy.deadline. Give a deadline, too.")
    return read


def _read_timeout(value: object, where: str, faults: Violations) -> Json:
    if _is_positive(value, MAX_SECONDS):
        return value
    what = f"a number of seconds above 0 and up to {MAX_SECONDS:,}"
    faults.add(where, f"policy.timeout must be {what}, not {shown(value)}.")
    return None


def _read_effect(value: object, where: str, faults: Violations) -> Json:
    if value in EFFECTS:
        return cast("str", value)
    faults.add(where, f"policy.effect must be one of {', '.join(EFFECTS)}, not {shown(value)}.")
    return None


def _read_cleanup_timeout(value: object, where: str, faults: Violations) -> Json:
    if _is_wait(value):
        return value
    faults.add(where, f"policy.cleanup_timeout must be {_WAIT}, not {shown(value)}.")
    return None


def _read_deadline(value: object, where: str, faults: Violations) -> Json:
    """Read a deadline: seconds, or a time, which is returned in UTC."""
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = None
        if at is not None and at.tzinfo is not None and 1 < at.year <= MAX_YEAR:
            return at.astimezone(UTC).isoformat()
    elif _is_positive(value, MAX_SECONDS):
        return value
    what = (
        f"a number of seconds above 0 and up to {MAX_SECONDS:,}, or a time with its offset from UTC, such as "
        "'2030-01-31T18:00:00Z'"
    )
    faults.add(where, f"policy.deadline must be {what}, not {shown(value)}.")
    return None


def check_deadline(task: Task, policy: Mapping[str, Json], where: str, faults: Violations) -> None:
    """Check that only a root has a deadline.

    Args:
        task: with the `parent_id` that it has or will have.
        policy: of the task, as `read_policy` returns it.
    """
    if policy.get("deadline") is not None and task.parent_id is not None:
        faults.add(
            where,
            "policy.deadline is that of the whole tree: give it to the root. "
            "`timeout` limits each attempt of one task.",
        )


def read_when(value: object, name: str, where: str, faults: Violations) -> str | None:
    """Read a condition: a JMESPath expression over the results of the dependencies."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_LENGTH:
        what = f"a JMESPath expression of 1 to {MAX_LENGTH:,} characters"
        faults.add(where, f"{name} must be {what}, not {shown(value)}.")
        return None
    try:
        read_condition(value)
    except QueryError as error:
        advice = 'Literals are in backticks: `true`, `3`, `"text"`.'
        faults.add(where, f"{name} is not a valid JMESPath expression: {error.cause}. {advice}")
        return None
    return value


def read_trigger(value: object, name: str, where: str, faults: Violations) -> str | None:
    """Read a trigger: when a task runs, by how its dependencies ended."""
    if value not in TRIGGERS:
        faults.add(where, f"{name} must be one of {', '.join(TRIGGERS)}, not {shown(value)}.")
        return None
    return cast("str", value)


def check_condition(
    policy: Mapping[str, Json], keys: Collection[str], where: str, faults: Violations
) -> None:
    """Check that the condition of a task names its dependencies only.

    Args:
        policy: of the task, as `read_policy` returns it.
        keys: the keys of its dependencies.
    """
    if not policy.get("when"):
        return
    for name in sorted(read_condition(policy["when"]).names - set(keys)):
        if name in ("true", "false", "null"):
            faults.add(where, f"when names {name!r} as if it were a dependency. Write `{name}` in backticks.")
            continue
        advice = faults.near(name, keys)
        if not advice:
            known = ", ".join(repr(each) for each in list(keys)[:MAX_KEYS])
            advice = f" Their keys are: {known}." if known else " It has no dependencies: add it to them."
        faults.add(where, f"when names {shown(name)}, which is not the key of a dependency.{advice}")


def read_budget(value: object, name: str, where: str, faults: Violations) -> dict[str, Json]:
    """Read a budget for calls of language models: at least one limit, and what a call does without room."""
    before = faults.count
    budget = _members(value, name, MEMBERS, where, faults)
    for key, each in budget.items():
        if key == "on_exceed":
            if each not in ON_EXCEED:
                faults.add(where, f"{name}.{key} must be one of {', '.join(ON_EXCEED)}, not {shown(each)}.")
        elif not _is_limit(key, each):
            faults.add(where, f"{name}.{key} must be {_LIMITS[key]}, not {shown(each)}.")
    if value is not None and faults.count == before and not any(each in budget for each in AMOUNTS):
        faults.add(where, f"{name} must have a limit: one of {', '.join(AMOUNTS)}.")
    return budget


def read_cache(value: object, effect: Json, where: str, faults: Violations) -> dict[str, Json] | None:
    """Read how the result of a task may be cached. An empty object means: by all inputs, and at any age."""
    name = "policy.cache"
    if not isinstance(value, Mapping):
        faults.add(where, f"{name} must be an object, such as {{}} or {{'ttl': '1d'}}, not {shown(value)}.")
        return None
    cache = _members(cast("Mapping[Any, Json]", value), name, cache_keys.MEMBERS, where, faults)
    if effect == "once":
        faults.add(where, f"{name} cannot go with the effect 'once': such a task always runs.")
    ttl = cache.get("ttl")
    seconds = seconds_of(ttl) if isinstance(ttl, str) else ttl
    if ttl is not None and not _is_positive(seconds, MAX_SECONDS):
        what = (
            f"a number of seconds above 0 and up to {MAX_SECONDS:,}, or a span such as '90s', '12h' or '7d'"
        )
        faults.add(where, f"{name}.ttl must be {what}, not {shown(ttl)}.")
    if "key" in cache:
        _check_cache_key(cache["key"], f"{name}.key", where, faults)
    return cache


def _check_cache_key(value: Json, name: str, where: str, faults: Violations) -> None:
    expressions = cast("list[object]", value if isinstance(value, list) else [value])
    if not 0 < len(expressions) <= cache_keys.MAX_EXPRESSIONS:
        faults.add(where, f"{name} must have 1 to {cache_keys.MAX_EXPRESSIONS} expressions.")
        return
    for each in expressions:
        if not isinstance(each, str) or not 0 < len(each) <= cache_keys.MAX_LENGTH:
            what = "a JMESPath expression over the inputs, or a list of them"
            faults.add(where, f"{name} must be {what}, not {shown(each)}.")
            continue
        try:
            query_of(each)
        except QueryError as error:
            faults.add(where, f"{name} is not a valid JMESPath expression: {error.cause}.")


def read_limit(value: object, where: str, faults: Violations) -> dict[str, Json]:
    """Read a limit: the key that tasks share, and a rate, a number of concurrent tasks, or both."""
    before, name = faults.count, "policy.limit"
    limit = _members(value, name, limits.MEMBERS, where, faults)
    for key, each in limit.items():
        is_good, what = _LIMIT[key]
        if not is_good(each):
            faults.add(where, f"{name}.{key} must be {what}, not {shown(each)}.")
    if value is None or faults.count > before:
        return {}
    if "key" not in limit:
        faults.add(where, f"{name} needs a key: tasks with the same key share the limit.")
    elif len(limit) == 1:
        faults.add(where, f"{name} must have a rate, such as '60/min', or a concurrency, such as 5.")
    return limit


def check_limits(policies: Iterable[tuple[str, Mapping[str, Json]]], faults: Violations) -> None:
    """Check that the tasks of one tree give each key the same limit.

    Args:
        policies: the place and the policy of each task.
    """
    known: dict[str, tuple[str, dict[str, Json]]] = {}
    for where, policy in policies:
        limit = cast("dict[str, Json]", policy.get("limit") or {})
        key = limit.get("key")
        if not isinstance(key, str):
            continue
        first, other = known.setdefault(key, (where, limit))
        if limits.Limit.from_json(other) != limits.Limit.from_json(limit):
            described = f"{limits.describe_limit(limit)}; {first} has {limits.describe_limit(other)}"
            faults.add(where, f"policy.limit is {described}. Give a key the same limit in the whole tree.")


def _is_limit_key(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= limits.MAX_KEY and value == clean_text(value)


_LIMIT: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "key": (_is_limit_key, f"text of 1 to {limits.MAX_KEY} characters"),
    "rate": (
        lambda value: limits.read_rate(value) is not None,
        "starts in a period, such as '50/s', '60/min', '1000/h', '5000/day' or '100/10s': up to "
        f"{MAX_RATE:,} in up to {MAX_RATE_SECONDS // 86400} days",
    ),
    "concurrency": (
        lambda value: is_integer(value, 1, limits.MAX_HELD),
        f"an integer from 1 to {limits.MAX_HELD:,}",
    ),
}


def read_for_each(value: object, name: str, where: str, faults: Violations) -> dict[str, Json] | None:
    """Read `for_each`: the list and its bounds. The tasks of `for_each.tasks` are read with their array."""
    before = faults.count
    given = _members(value, name, FOR_EACH, where, faults)
    read: dict[str, Json] = {}
    for key, each in given.items():
        if key == "items":
            read[key] = _read_items(each, f"{name}.items", where, faults)
        elif key == "tasks":
            if not isinstance(each, list | tuple) or not cast("Sequence[Json]", each):
                faults.add(where, f"{name}.tasks must be an array of tasks: the tree of an element.")
            read[key] = read_json(cast("object", each), f"{name}.tasks", where, get_settings(), faults)
        elif not _is_fan_out_bound(key, each):
            faults.add(where, f"{name}.{key} must be {_FAN_OUT[key]}, not {shown(each)}.")
        else:
            read[key] = each
    if faults.count == before and "items" not in given:
        advice = 'a list, or a reference to one: {"$from": "TASK", "path": "rows"}'
        faults.add(where, f"{name} must have items: {advice}.")
    items, most = read.get("items"), read.get("max_items", MAX_ITEMS)
    if faults.count == before and isinstance(items, list):
        count = len(cast("list[Json]", items))
        if count > most:
            faults.add(where, f"{name}.items has {count:,} items, more than max_items, {most:,}. Raise it.")
    return read if faults.count == before else None


def _read_items(value: object, name: str, where: str, faults: Violations) -> Json:
    names = set(cast("Mapping[str, Json]", value)) if isinstance(value, Mapping) else set[str]()
    is_reference = any(first in names and names <= {first, *more} for first, more in _LISTS)
    if not is_reference and not isinstance(value, list | tuple):
        advice = 'a list, {"$from": "TASK", "path": "rows"}, or {"$item": PATH} inside of for_each.tasks'
        faults.add(where, f"{name} must be {advice}, not {shown(cast('object', value))}.")
        return None
    return read_json(cast("object", value), name, where, get_settings(), faults)


_LISTS = (("$from", ("path", "default")), ("$item", ("of", "default")))


# What an entry may also have beside `policy`. Its place is `policy` all the same.
BESIDE_POLICY: Mapping[str, Callable[[object, str, str, Violations], Json]] = {
    "budget": read_budget,
    "when": read_when,
    "trigger": read_trigger,
    "for_each": read_for_each,
}
FOR_EACH = ("items", "batch", "max_items", "max_parallel", "allow_failures", "collect", "tasks")


def _is_limit(name: str, value: object) -> bool:
    is_whole = name in ("tokens", "calls")
    return is_integer(value, 0, MAX_BUDGET) if is_whole else is_number(value, 0, MAX_BUDGET)


_LIMITS: Mapping[str, str] = {
    "usd": f"a number of US dollars from 0 to {MAX_BUDGET:,}",
    "tokens": f"an integer from 0 to {MAX_BUDGET:,}",
    "calls": f"an integer from 0 to {MAX_BUDGET:,}",
    "seconds": f"a number of seconds of calls from 0 to {MAX_BUDGET:,}",
}


def _read_retry(value: object, where: str, faults: Violations) -> dict[str, Json]:
    retry = _members(value, "policy.retry", tuple(_RETRY), where, faults)
    for name, each in retry.items():
        is_good, what = _RETRY[name]
        if not is_good(each):
            faults.add(where, f"policy.retry.{name} must be {what}, not {shown(each)}.")
    return retry


_POLICY: Mapping[str, Callable[[object, str, Violations], Json]] = {
    "timeout": _read_timeout,
    "retry": _read_retry,
    "effect": _read_effect,
    "limit": read_limit,
    "deadline": _read_deadline,
    "cleanup_timeout": _read_cleanup_timeout,
}
POLICY = (*_POLICY, "cache", *BESIDE_POLICY)


def _members(
    value: object, name: str, known: tuple[str, ...], where: str, faults: Violations
) -> dict[str, Json]:
    """Return the members of an object that are known and not null."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        faults.add(where, f"{name} must be an object, not {shown(value)}.")
        return {}
    members = cast("Mapping[Any, Json]", value)
    for key in members:
        if key not in known:
            advice = faults.near(key, known) if isinstance(key, str) else ""
            advice = advice or f" There are: {', '.join(known)}."
            faults.add(where, f"{name} has no key {shown(key)}.{advice}")
    return {key: members[key] for key in members if key in known and members[key] is not None}


def _is_positive(value: object, most: float) -> bool:
    return is_number(value, 0, most) and value > 0


def _is_wait(value: object) -> bool:
    return is_number(value, 0, MAX_SECONDS)


def _is_error_list(value: object) -> bool:
    if not isinstance(value, list) or len(cast("list[object]", value)) > MAX_ERROR_TYPES:
        return False
    return all(isinstance(each, str) and len(each) <= MAX_TEXT for each in cast("list[object]", value))


_WAIT = f"a number of seconds from 0 to {MAX_SECONDS:,}"


_RETRY: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "max_attempts": (
        lambda value: is_integer(value, 1, MAX_ATTEMPTS),
        f"an integer from 1 to {MAX_ATTEMPTS:,}",
    ),
    "delay": (_is_wait, _WAIT),
    "backoff": (
        lambda value: _is_positive(value, MAX_BACKOFF),
        f"a number above 0 and up to {MAX_BACKOFF:,}",
    ),
    "max_delay": (_is_wait, _WAIT),
    "jitter": (lambda value: isinstance(value, bool), "true or false"),
    "on": (_is_error_list, f"a list of up to {MAX_ERROR_TYPES} error types"),
}


def _is_fan_out_bound(key: str, value: object) -> bool:
    if key == "collect":
        return isinstance(value, bool)
    is_count = is_integer(value, 1, MAX_COUNT)
    if key != "allow_failures":
        return is_count
    return 0 <= value < 1 if isinstance(value, float) else is_count or value == 0


_COUNT = f"an integer from 1 to {MAX_COUNT:,}"
_FAN_OUT: Mapping[str, str] = {
    "batch": _COUNT,
    "max_items": _COUNT,
    "max_parallel": _COUNT,
    "allow_failures": "a share from 0 to below 1, such as 0.1, or a number of elements",
    "collect": "true or false",
}
