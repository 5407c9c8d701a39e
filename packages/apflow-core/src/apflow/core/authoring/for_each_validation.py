"""Validation of what `for_each` says of the tasks around it and in it, when these are known. Pure.

The field itself is read by `read_for_each`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from apflow.core.authoring.field_validation import Violations, shown
from apflow.core.errors import InputsError
from apflow.core.model.for_each import has_for_each, is_element_key
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.payload.elements import ItemReference, find_item_references
from apflow.core.payload.inputs import Reference, find_references, remap_references
from apflow.core.planning.fan_out import remap_for_each

MAX_NESTING: Final = 8  # of `for_each` in the tasks of `for_each`
_STORED: Final = (
    "id", "name", "parent_id", "priority", "dependencies", "inputs", "params", "schemas", "policy", "label",
    "tags", "has_children",
)  # fmt: skip


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
