"""Validation of `for_each`: the field itself, and what it says of the tasks around it and in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, cast

from apflow.core.authoring.field_validation import read_json
from apflow.core.authoring.violation import Violations, read_members, shown
from apflow.core.bounds import MAX_COUNT, is_integer
from apflow.core.errors import InputsError
from apflow.core.model.for_each import MAX_ITEMS, has_for_each, is_element_key
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.payload.elements import ItemReference, find_item_references
from apflow.core.payload.inputs import Reference, find_references, remap_references
from apflow.core.planning.fan_out import remap_for_each
from apflow.core.settings import get_settings

MAX_NESTING: Final = 8  # of `for_each` in the tasks of `for_each`
_STORED: Final = (
    "id", "name", "parent_id", "priority", "dependencies", "inputs", "params", "schemas", "policy", "label",
    "tags", "has_children",
)  # fmt: skip
FOR_EACH = ("items", "batch", "max_items", "max_parallel", "allow_failures", "collect", "tasks")
_LISTS = (("$from", ("path", "default")), ("$item", ("of", "default")))
_COUNT = f"an integer from 1 to {MAX_COUNT:,}"
_FAN_OUT: Mapping[str, str] = {
    "batch": _COUNT,
    "max_items": _COUNT,
    "max_parallel": _COUNT,
    "allow_failures": "a share from 0 to below 1, such as 0.1, or a number of elements",
    "collect": "true or false",
}


def read_for_each(value: object, name: str, where: str, faults: Violations) -> dict[str, Json] | None:
    """Read `for_each`: the list and its bounds. The tasks of `for_each.tasks` are read with their array."""
    before = faults.count
    given = read_members(value, name, FOR_EACH, where, faults)
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


def _is_fan_out_bound(key: str, value: object) -> bool:
    if key == "collect":
        return isinstance(value, bool)
    is_count = is_integer(value, 1, MAX_COUNT)
    if key != "allow_failures":
        return is_count
    return 0 <= value < 1 if isinstance(value, float) else is_count or value == 0


def stored_template(template: Sequence[Task], where: str, faults: Violations) -> list[dict[str, Json]]:
    """Return the tasks of `for_each.tasks` in the form in which they are stored: with their keys as ids."""
    keys = {task.id: task.key for task in template}
    for task in template:
        place = f"for_each.tasks {task.name!r}"
        if task.status is not TaskStatus.PENDING:
            faults.add(where, f"{place} has a status: no task of an element has ended before. Leave it out.")
        if any(isinstance(each, datetime) for each in task.extra.values()):
            faults.add(where, f"{place} has a custom column that is a time, which is not JSON.")
    return [_stored(task, keys) for task in template]


def _stored(task: Task, keys: Mapping[str, str]) -> dict[str, Json]:
    """Return a task of a template with keys instead of ids; what has its default is left out."""
    needed: list[dict[str, Json]] = []
    for each in task.dependencies:  # by name, too: the keys of instances are others
        known = keys.get(each["id"])
        needed.append({**each, "id": known, "name": known} if known is not None else {**each})
    entry: dict[str, Json] = {name: getattr(task, name) for name in _STORED} | {
        "id": task.key,
        "parent_id": None if task.parent_id is None else keys[task.parent_id],
        "dependencies": needed,
        "inputs": remap_references(task.inputs, keys),
        "policy": remap_for_each(task.policy, keys),
        "priority": None if task.priority == 2 else task.priority,
        "has_children": task.has_children or None,
    }
    return task.extra | {
        name: each for name, each in entry.items() if each is not None and each not in ([], {})
    }


def sources_of(policy: Mapping[str, Json]) -> list[Reference]:
    """Return the references of `for_each.items` to dependencies; [] if there is no `for_each`.

    Raises:
        InputsError: one of them is malformed.
    """
    for_each = policy.get("for_each")
    return find_references({"items": for_each["items"]}, "for_each") if for_each else []


def check_for_each(
    task: Task, declared: Collection[str], where: str, faults: Violations, *, is_template: bool = False
) -> None:
    """Check that the references of a task to elements, and those of its list, can work.

    Args:
        declared: the ids of its dependencies, or what its array calls them.
        is_template: the task is one of `for_each.tasks`, so that it may name the element around it.
    """
    try:
        for source in sources_of(task.policy):
            if source.source not in declared:
                fault = f"{source.place}.$from names {shown(source.source)}, which is not a dependency."
                advice = faults.near(source.source, declared)
                faults.add(where, f"{fault}{advice or ' Add it to dependencies.'}")
        _check_references(task, where, faults, is_template=is_template)
    except InputsError as error:
        for violation in error.violations:
            faults.add(where, f"{violation}.")


def _check_references(task: Task, where: str, faults: Violations, *, is_template: bool) -> None:
    own = has_for_each(task)
    found = [*find_item_references(task.inputs, "inputs"), *find_item_references(task.params, "params")]
    items = task.policy["for_each"]["items"] if own else None
    outer = find_item_references(items, "for_each.items")
    if not is_template:
        for each in outer:
            faults.add(where, f"{each.place} names an element, but no task with for_each contains it.")
        if not own:
            for each in found:
                faults.add(where, f"{each.place} names an element, but the task has no for_each.")
    if own and task.policy["for_each"].get("tasks") and (task.inputs or task.params or task.schemas):
        faults.add(
            where, "with for_each.tasks, inputs, params and schemas are those of its tasks: move them there."
        )
    if not is_template and own:
        _check_names(task, found, where, faults)


def _check_names(task: Task, found: Sequence[ItemReference], where: str, faults: Violations) -> None:
    """Check, from the outermost `for_each` on, that each `of` names one around it, and the nesting."""
    for each in found:
        if each.of not in (None, task.name):
            faults.add(where, f"{each.place}.of names {shown(each.of)}, not a task with for_each.")
    waiting: list[tuple[Mapping[str, Json], tuple[str, ...]]]
    waiting = [(entry, (task.name,)) for entry in task.policy["for_each"].get("tasks") or ()]
    while waiting:
        entry, around = waiting.pop()
        inner = entry.get("policy", {}).get("for_each")
        known = around if inner is None else (*around, entry["name"])
        place = f"for_each.tasks {entry['name']!r}"
        if inner is not None and entry["name"] in around:
            faults.add(where, f"{place} has the name of a task with for_each around it. Choose another one.")
        if len(known) > MAX_NESTING:
            faults.add(where, f"for_each is nested more than {MAX_NESTING} deep at {place}.")
            continue
        used = [*find_item_references(entry.get("inputs", {}), "inputs")]
        used += find_item_references(entry.get("params", {}), "params")
        named = [(each, known) for each in used]
        if inner is not None:
            named += [(each, around) for each in find_item_references(inner["items"], "for_each.items")]
            waiting.extend((below, known) for below in inner.get("tasks") or ())
        for each, names in named:
            if each.of is not None and each.of not in names:
                fault = f"{each.place}.of names {shown(each.of)}, not a task with for_each around it."
                faults.add(where, f"{place}: {fault} There are: {', '.join(names)}.")


def check_elements(tasks: Sequence[Task], places: Sequence[str], faults: Violations) -> None:
    """Check that only elements are in tasks with `for_each`, as in an array that apflow has written."""
    creating = {task.id: task for task in tasks if has_for_each(task)}
    for task, place in zip(tasks, places, strict=True) if creating else ():
        parent = creating.get(task.parent_id or "")
        if parent is not None and not is_element_key(task.key):
            fault = f"it is in {parent.name!r}, which has for_each: only elements of the list are in it."
            faults.add(place, f"{fault} The tree of an element is in for_each.tasks.")
