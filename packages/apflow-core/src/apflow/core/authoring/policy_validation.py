"""Validation of `policy`, and of what an entry may also have beside it. See `field_validation`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from apflow.core.authoring.field_validation import MAX_TEXT
from apflow.core.authoring.for_each_validation import read_for_each
from apflow.core.authoring.limit_validation import read_budget, read_limit
from apflow.core.authoring.resource_validation import read_resources
from apflow.core.authoring.violation import Violations, read_members, shown
from apflow.core.bounds import (
    MAX_ATTEMPTS,
    MAX_BACKOFF,
    MAX_ERROR_TYPES,
    MAX_SECONDS,
    is_integer,
    is_number,
)
from apflow.core.errors import QueryError
from apflow.core.model.span import seconds_of
from apflow.core.model.task import EFFECTS, TRIGGERS, Json, Task
from apflow.core.payload import cache_key as cache_keys
from apflow.core.payload.condition import MAX_LENGTH, read_condition
from apflow.core.payload.inputs import query_of

MAX_KEYS = 10  # that a message lists
MAX_YEAR = 9000  # of a deadline: a policy can be added to it


def read_policy(value: object, where: str, faults: Violations) -> dict[str, Json]:
    """Read `policy`: types, ranges and keys; what is null is left out."""
    policy = read_members(value, "policy", POLICY, where, faults)
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


def read_cache(value: object, effect: Json, where: str, faults: Violations) -> dict[str, Json] | None:
    """Read how the result of a task may be cached. An empty object means: by all inputs, and at any age."""
    name = "policy.cache"
    if not isinstance(value, Mapping):
        faults.add(where, f"{name} must be an object, such as {{}} or {{'ttl': '1d'}}, not {shown(value)}.")
        return None
    cache = read_members(cast("Mapping[Any, Json]", value), name, cache_keys.MEMBERS, where, faults)
    if effect == "once":
        faults.add(where, f"{name} cannot go with the effect 'once': such a task always runs.")
    ttl = cache.get("ttl")
    if ttl is not None and not _is_positive(seconds_of(ttl), MAX_SECONDS):
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


def _read_retry(value: object, where: str, faults: Violations) -> dict[str, Json]:
    retry = read_members(value, "policy.retry", tuple(_RETRY), where, faults)
    for name, each in retry.items():
        is_good, what = _RETRY[name]
        if not is_good(each):
            faults.add(where, f"policy.retry.{name} must be {what}, not {shown(each)}.")
    return retry


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

_POLICY: Mapping[str, Callable[[object, str, Violations], Json]] = {
    "timeout": _read_timeout,
    "retry": _read_retry,
    "effect": _read_effect,
    "limit": read_limit,
    "deadline": _read_deadline,
    "cleanup_timeout": _read_cleanup_timeout,
}

# What an entry may also have beside `policy`. Its place is `policy` all the same.
BESIDE_POLICY: Mapping[str, Callable[[object, str, str, Violations], Json]] = {
    "budget": read_budget,
    "resources": read_resources,
    "when": read_when,
    "trigger": read_trigger,
    "for_each": read_for_each,
}

POLICY = (*_POLICY, "cache", *BESIDE_POLICY)
