"""The trees of a campaign, made from a seed: chains and joins, groups, retries, failures, `once`, lists.

On request, they have approvals, too: these need a process that decides.
"""

from __future__ import annotations

import random
from typing import Any, cast

Array = list[dict[str, Any]]

ONCE, FAILING, LONG = 0.08, 0.03, 0.01  # shares of the tasks
LIST_EVERY, ASKING_EVERY = 30, 60  # tasks; each tree has at least one of both
MAX_ITEMS = 8
# How an approval is decided: by people who do so, or do both at once; by default; or by the first of both.
DECISIONS = ("approve", "reject", "both", "default", "race")


def make(name: str, seed: str, count: int, *, asks: bool = False) -> Array:
    """Return a tree of `count` tasks, whose ids begin with `name`; the root's id is the name itself.

    The elements of its lists are not counted. With `asks`, some tasks wait for approvals.

    A task needs some of those before it. Only optional dependencies point to tasks that may fail, by design
    or because they run only once and were interrupted: so every other task must complete.
    """
    dice = random.Random(seed)  # noqa: S311  a seed repeats it
    array: Array = [{"id": name, "name": name}]
    groups = [name]
    while len(array) < count:
        number = len(array)
        if number % LIST_EVERY == 7:
            array.append(_list(f"{name}-{number}", groups, array, dice))
        elif asks and number % ASKING_EVERY == 5:
            array.append(_asking(f"{name}-{number}", groups, array, dice))
        elif dice.random() < 0.04:
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
    return task | {"policy": policy, "dependencies": _needs(before, dice)}


def _needs(before: Array, dice: random.Random) -> list[dict[str, Any]]:
    recent = [each for each in before[-40:] if "schemas" in each]
    needed = dice.sample(recent, min(len(recent), dice.choice([0, 1, 1, 1, 2, 3])))
    return [{"id": each["id"], "required": not may_fail(each)} for each in needed]


def _list(task_id: str, groups: list[str], before: Array, dice: random.Random) -> dict[str, Any]:
    """Return a list of numbers, which a task before it gives, or which are written in the tree."""
    count, needs = dice.randint(0, MAX_ITEMS), _needs(before, dice)
    sources = [each for each in before if each.get("schemas") == {"method": "noted"} and is_sure(each)]
    items: Any = list(range(count))
    if sources and dice.random() < 0.5:
        source = dice.choice(sources)
        source["inputs"].setdefault("rows", count)
        needs = [each for each in needs if each["id"] != source["id"]]
        needs.append({"id": source["id"], "required": True})
        items = {"$from": source["id"], "path": "rows"}
    return {
        "id": task_id,
        "name": task_id,
        "parent_id": dice.choice(groups),
        "schemas": {"method": "noted"},
        "inputs": {"item": {"$item": "@"}, "seconds": round(dice.uniform(0.0, 0.05), 4)},
        "dependencies": needs,
        "policy": {"effect": dice.choice(["pure", "idempotent", "once"])},
        # Elements that run only once may be interrupted.
        "for_each": {
            "items": items,
            "allow_failures": MAX_ITEMS,
            "max_parallel": dice.choice([None, 1, 3]),
        },
    }


def _asking(task_id: str, groups: list[str], before: Array, dice: random.Random) -> dict[str, Any]:
    """Return a task that waits for an approval, and completes however that is decided."""
    return {
        "id": task_id,
        "name": task_id,
        "parent_id": dice.choice(groups),
        "schemas": {"method": "asking"},
        "inputs": {"decide": dice.choice(DECISIONS), "timeout": round(dice.uniform(0.2, 2.0), 2)},
        "dependencies": _needs(before, dice),
    }


def may_fail(task: dict[str, Any]) -> bool:
    """Return whether the end of a task may be a failure."""
    return not is_list(task) and (fails_always(task) or is_once(task))


def is_sure(task: dict[str, Any]) -> bool:
    """Return whether a task has its own body, which completes."""
    return not is_list(task) and not may_fail(task)


def is_list(task: dict[str, Any]) -> bool:
    """Return whether a task stands for the elements of a list."""
    return "for_each" in task


def is_asking(task: dict[str, Any]) -> bool:
    """Return whether a task waits for an approval."""
    return bool(task.get("schemas") == {"method": "asking"})


def items_of(task: dict[str, Any], array: Array) -> int:
    """Return how many items a list of a tree has."""
    items = task["for_each"]["items"]
    if isinstance(items, list):
        return len(cast("list[Any]", items))
    source = next(each for each in array if each["id"] == items["$from"])
    return int(source["inputs"]["rows"])


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
