"""The trees of a campaign, made from a seed: chains and joins, groups, retries, failures, `once`."""

from __future__ import annotations

import random
from typing import Any

Array = list[dict[str, Any]]

ONCE, FAILING, LONG = 0.08, 0.03, 0.01  # shares of the tasks


def make(name: str, seed: str, count: int) -> Array:
    """Return a tree of `count` tasks, whose ids begin with `name`; the root's id is the name itself.

    A task needs some of those before it. Only optional dependencies point to tasks that may fail, by design
    or because they run only once and were interrupted: so every other task must complete.
    """
    dice = random.Random(seed)  # noqa: S311  a seed repeats it
    array: Array = [{"id": name, "name": name}]
    groups = [name]
    while len(array) < count:
        number = len(array)
        if dice.random() < 0.04:
            group = {"id": f"{name}-{number}", "name": f"{name}-{number}", "parent_id": dice.choice(groups)}
            array.append(group)
            groups.append(group["id"])
        else:
            array.append(_task(f"{name}-{number}", groups, array, dice))
    # A childless task that names no executor would fail.
    parents = {each.get("parent_id") for each in array}
    for each in array[1:]:
        if "schemas" not in each and each["id"] not in parents:
            each["schemas"] = {"method": "noted"}
    return array


def _task(task_id: str, groups: list[str], before: Array, dice: random.Random) -> dict[str, Any]:
    task: dict[str, Any] = {
        "id": task_id,
        "name": task_id,
        "parent_id": dice.choice(groups),
        "priority": dice.choice([1, 2, 2, 3]),
        "schemas": {"method": "noted"},
        "inputs": {"seconds": round(dice.uniform(0.0, 0.02), 4)},
    }
    kind = dice.random()
    policy: dict[str, Any] = {"effect": dice.choice(["pure", "idempotent"])}
    if kind < ONCE:
        policy = {"effect": "once"}
    elif kind < ONCE + FAILING:
        task["inputs"]["fails"] = 99
    elif kind < ONCE + 2 * FAILING:
        task["inputs"]["fails"] = 1
        policy["retry"] = {"max_attempts": 5, "delay": 0.05, "jitter": False}
    elif kind < ONCE + 2 * FAILING + LONG:
        task["inputs"]["seconds"] = 0.5
    recent = [each for each in before[-40:] if "schemas" in each]
    needed = dice.sample(recent, min(len(recent), dice.choice([0, 1, 1, 1, 2, 3])))
    task["dependencies"] = [{"id": each["id"], "required": not may_fail(each)} for each in needed]
    return task | {"policy": policy}


def may_fail(task: dict[str, Any]) -> bool:
    """Return whether the end of a task may be a failure."""
    return fails_always(task) or is_once(task)


def fails_always(task: dict[str, Any]) -> bool:
    """Return whether it fails by design."""
    return bool(task.get("inputs", {}).get("fails", 0) > 1)


def is_once(task: dict[str, Any]) -> bool:
    """Return whether its body may start at most once."""
    policy: dict[str, Any] = task.get("policy") or {}
    return policy.get("effect") == "once"


def needs_of(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the dependencies of a task."""
    needs: list[dict[str, Any]] = task.get("dependencies", [])
    return needs
