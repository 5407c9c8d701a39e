"""Validation of the fields that limit calls: `policy.limit` and `budget`. See `field_validation`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import cast

from apflow.core.authoring.violation import Violations, read_members, shown
from apflow.core.bounds import MAX_BUDGET, MAX_RATE, MAX_RATE_SECONDS, is_integer, is_number
from apflow.core.model import limit as limits
from apflow.core.model.budget import AMOUNTS, MEMBERS, ON_EXCEED
from apflow.core.model.task import Json
from apflow.core.payload.json_value import clean_text


def read_budget(value: object, name: str, where: str, faults: Violations) -> dict[str, Json]:
    """Read a budget for calls of language models: at least one limit, and what a call does without room."""
    before = faults.count
    budget = read_members(value, name, MEMBERS, where, faults)
    for key, each in budget.items():
        if key == "on_exceed":
            if each not in ON_EXCEED:
                faults.add(where, f"{name}.{key} must be one of {', '.join(ON_EXCEED)}, not {shown(each)}.")
        elif not _is_limit(key, each):
            faults.add(where, f"{name}.{key} must be {_LIMITS[key]}, not {shown(each)}.")
    if value is not None and faults.count == before and not any(each in budget for each in AMOUNTS):
        faults.add(where, f"{name} must have a limit: one of {', '.join(AMOUNTS)}.")
    return budget


def _is_limit(name: str, value: object) -> bool:
    is_whole = name in ("tokens", "calls")
    return is_integer(value, 0, MAX_BUDGET) if is_whole else is_number(value, 0, MAX_BUDGET)


_LIMITS: Mapping[str, str] = {
    "usd": f"a number of US dollars from 0 to {MAX_BUDGET:,}",
    "tokens": f"an integer from 0 to {MAX_BUDGET:,}",
    "calls": f"an integer from 0 to {MAX_BUDGET:,}",
    "seconds": f"a number of seconds of calls from 0 to {MAX_BUDGET:,}",
}


def read_limit(value: object, where: str, faults: Violations) -> dict[str, Json]:
    """Read a limit: the key that tasks share, and a rate, a number of concurrent tasks, or both."""
    before, name = faults.count, "policy.limit"
    limit = read_members(value, name, limits.MEMBERS, where, faults)
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
