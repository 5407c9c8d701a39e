"""Reads an array of task descriptions, and returns a tree that can be stored, or all faults.

Pure, and linear in the array. Ids stand on all tasks or on none; without ids, unique names are the
references. Nothing is written before all of this has passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from apflow.core.authoring.field_validation import check_sources, read_name, read_text
from apflow.core.authoring.for_each_validation import check_elements, check_for_each, stored_template
from apflow.core.authoring.keys import give_keys
from apflow.core.authoring.limit_validation import check_limits
from apflow.core.authoring.policy_validation import check_condition, check_deadline
from apflow.core.authoring.shape_validation import check_shape
from apflow.core.authoring.task_validation import Entry, read_dependencies, read_entry
from apflow.core.authoring.violation import Violations, shown
from apflow.core.errors import TreeInvalidError
from apflow.core.model.ids import new_ids
from apflow.core.model.task import Json, Task
from apflow.core.payload.inputs import remap_references
from apflow.core.planning.fan_out import remap_for_each
from apflow.core.settings import Settings

SHOWN = 5  # faults that the message spells out; `violations` has all


@dataclass(frozen=True, slots=True)
class CheckedArray:
    """A tree that may be written: its tasks in order of position, and given reference -> id."""

    tasks: list[Task]
    ids: dict[str, str]
    has_ids: bool  # whether the array named ids, or names are the references


def check_array(tasks: Sequence[Entry], settings: Settings, user_id: str | None = None) -> list[Task]:
    """Return the tasks that an array describes, ready to be stored, in its order.

    Raises:
        TreeInvalidError: it is not a valid tree; `violations` lists every fault found.
    """
    return read_array(tasks, settings, user_id).tasks


def read_array(
    tasks: Sequence[Entry],
    settings: Settings,
    user_id: str | None = None,
    *,
    outer: Collection[str] | None = None,
) -> CheckedArray:
    """Read an array as `check_array` does, and keep what each reference became.

    Args:
        outer: the array is `for_each.tasks`, so that its tasks may refer to the element, and depend on these,
            the dependencies of the task with `for_each`. None: the array is a tree.
    """
    faults = Violations()
    if user_id is not None:
        read_text(user_id, "user_id", "", faults)
    entries = _entries(tasks, settings, faults)
    _stop_at(faults)
    has_ids = _check_names(entries, faults)
    _stop_at(faults)
    places = [_place(at, entry) for at, entry in enumerate(entries)]
    references = References(entries, places, has_ids, faults)
    read = [
        _read(entry, references.ids[at], places[at], references, settings, faults, outer)
        for at, entry in enumerate(entries)
    ]
    count = sum(len(task.dependencies) for task in read)
    if count > settings.max_dependencies:
        faults.add("", f"{count} dependencies are too many: max_dependencies is {settings.max_dependencies}.")
    give_keys(read, entries, places, has_ids, faults)
    _check_policies(read, places, faults)
    check_limits(((place, task.policy) for place, task in zip(places, read, strict=True)), faults)
    check_elements(read, places, faults)
    _join(read, user_id)
    check_shape(read, places, faults)
    _stop_at(faults)
    return CheckedArray(read, dict(zip(references.given, references.ids, strict=True)), has_ids)


def split_trees(tasks: Sequence[Entry]) -> list[list[Entry]]:
    """Return an array that has several roots as one array per root, in their order.

    An array that cannot be split, because a parent is missing or tasks contain each other, is returned whole:
    checking it names the fault.
    """
    entries = list(tasks)
    if not all(isinstance(each, Mapping) for each in cast("list[object]", entries)):
        return [entries]
    roots = [at for at, entry in enumerate(entries) if entry.get("parent_id") is None]
    if len(roots) < 2:
        return [entries]
    key = "id" if any(entry.get("id") is not None for entry in entries) else "name"
    children: dict[object, list[int]] = {}
    for at, entry in enumerate(entries):
        if entry.get("parent_id") is not None:
            children.setdefault(str(entry["parent_id"]), []).append(at)
    trees: list[list[int]] = []
    for root in roots:
        found, waiting = list[int](), [root]
        while waiting:
            at = waiting.pop()
            found.append(at)
            waiting.extend(children.pop(str(entries[at].get(key)), ()))
        trees.append(sorted(found))
    if children:
        return [entries]
    return [[entries[at] for at in tree] for tree in trees]


def _stop_at(faults: Violations) -> None:
    if faults.found:
        raise refused(faults.found, faults.count)


def refused(violations: Sequence[str], count: int | None = None) -> TreeInvalidError:
    """Return the error for tasks with violations. `count`: of all violations, if some are left out."""
    more = (len(violations) if count is None else count) - SHOWN
    named = " ".join(violations[:SHOWN]) + (f" (and {more} more)" if more > 0 else "")
    return TreeInvalidError(f"The tasks are refused, nothing was created: {named}", list(violations))


def _place(at: int, entry: Entry) -> str:
    """Return how messages call a task: its index and its name."""
    return place_of(at, entry.get("name"))


def place_of(index: int, name: object) -> str:
    """Return how messages name a task of an array: its index, and its name unless that is long."""
    return f"tasks[{index}] ({name!r})" if isinstance(name, str) and len(name) <= 80 else f"tasks[{index}]"


def _entries(tasks: object, settings: Settings, faults: Violations) -> list[Entry]:
    if isinstance(tasks, str | bytes | Mapping) or not isinstance(tasks, Sequence):
        faults.add("", f"tasks must be a list of objects, not {shown(cast('object', tasks))}.")
        return []
    entries = flat_entries(cast("Sequence[object]", tasks))
    if not entries:
        faults.add("", "tasks is empty: a tree has at least one task.")
    if len(entries) > settings.max_tasks:
        faults.add(
            "", f"{len(entries)} tasks are too many: max_tasks is {settings.max_tasks}. Make several trees."
        )
        return []
    for at, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            faults.add(f"tasks[{at}]", f"a task must be an object, not {shown(entry)}.")
    return cast("list[Entry]", list(entries))


def flat_entries(tasks: Sequence[object]) -> Sequence[object]:
    """Return tasks that are given nested, as `tasks.tree` returns them, as an array of all of them."""
    if not any(isinstance(each, Mapping) and "children" in each for each in tasks):
        return tasks
    flat: list[object] = []
    waiting = list(reversed(tasks))
    while waiting:
        task = waiting.pop()
        below: object = cast("Entry", task).get("children") if isinstance(task, Mapping) else None
        if not isinstance(task, Mapping) or not isinstance(below, list):
            flat.append(cast("object", task))  # anything but a list is refused with the other keys
            continue
        entry = cast("Entry", task)
        flat.append({name: entry[name] for name in entry if name != "children"})
        parent = entry.get("name") if entry.get("id") is None else entry["id"]
        waiting.extend(
            {"parent_id": parent, **cast("Entry", each)} if isinstance(each, Mapping) else each
            for each in reversed(cast("list[object]", below))
        )
    return flat


def _check_names(entries: Sequence[Entry], faults: Violations) -> bool:
    """Check names, and ids on all or none; return whether there are ids."""
    with_id = [at for at, entry in enumerate(entries) if entry.get("id") is not None]
    known = set(with_id)
    for at, entry in enumerate(entries):
        place = _place(at, entry)
        read_name(entry.get("name"), place, faults)
        if at in known:
            read_text(entry["id"], "id", place, faults)
        elif known:
            faults.add(
                place, f"it has no id, but tasks[{with_id[0]}] has. Give ids to all tasks, or to none."
            )
    return bool(known)


class References:
    """What tasks of an array call each other, and the ids that stand for it.

    Args:
        entries: the array; every name, and every id, is text.
        places: how messages call each task.
        has_ids: whether ids are the references, or names.
        faults: takes ids that stand twice.
    """

    def __init__(
        self, entries: Sequence[Entry], places: Sequence[str], has_ids: bool, faults: Violations
    ) -> None:
        self.has_ids = has_ids
        self.names = [cast("str", entry["name"]) for entry in entries]
        self.given = [cast("str", entry["id"]) for entry in entries] if has_ids else self.names
        self.ids = self.given if has_ids else new_ids(len(entries))
        self._index: dict[str, int] = {}  # reference -> index of the first task that has it
        self._others: dict[str, list[int]] = {}  # reference -> the other tasks that have it
        for at, reference in enumerate(self.given):
            first = self._index.setdefault(reference, at)
            if first != at:
                self._others.setdefault(reference, []).append(at)
                if has_ids:
                    faults.add(places[at], f"id {reference!r} is that of tasks[{first}]. Choose another one.")

    def has(self, reference: str) -> bool:
        """Return whether a task of the array is called so."""
        return reference in self._index

    def resolve(self, reference: object, what: str, where: str, faults: Violations) -> str | None:
        """Return the id that a reference stands for, or None and a fault."""
        if not isinstance(reference, str) or not reference:
            kind = "id" if self.has_ids else "name"
            faults.add(where, f"{what} must be the {kind} of a task of the array, not {shown(reference)}.")
            return None
        at = self._index.get(reference)
        if at is None:
            advice = self._advice(reference, faults)
            faults.add(where, f"{what} {shown(reference)} is not a task of the array.{advice}")
            return None
        if reference in self._others and not self.has_ids:
            same = ", ".join(f"tasks[{each}]" for each in [at, *self._others[reference][: SHOWN - 1]])
            faults.add(where, f"{what} {reference!r} could be {same}. Make the name unique, or give ids.")
        return self.ids[at]

    def resolve_name(self, name: object, what: str, where: str, faults: Violations) -> str | None:
        """Return the id of the only task of that name, or None and a fault."""
        if not self.has_ids or not isinstance(name, str) or not name:
            return self.resolve(name, what, where, faults)
        count = self._counts_of_names[name]
        if count != 1:
            has = f"{count} tasks of the array have" if count else "no task of the array has"
            faults.add(where, f"{what} {shown(name)}: {has} that name. Use its id.")
            return None
        return self.ids[self._places_of_names[name]]

    @cached_property
    def _counts_of_names(self) -> Counter[str]:
        return Counter(self.names)

    @cached_property
    def _places_of_names(self) -> dict[str, int]:
        """Where each name stands first."""
        return {name: at for at, name in reversed(list(enumerate(self.names)))}

    def _advice(self, reference: str, faults: Violations) -> str:
        if self.has_ids:
            at = self._places_of_names.get(reference)
            if at is not None:
                return f" tasks[{at}] has that name: use its id {self.ids[at]!r}."
        advice = faults.near(reference, self._index)
        if self.has_ids:
            return advice or " Use the id of one of its tasks."
        return advice or " No task has an id, so use the name of one of its tasks."


def _read(
    entry: Entry,
    task_id: str,
    where: str,
    references: References,
    settings: Settings,
    faults: Violations,
    outer: Collection[str] | None,
) -> Task:
    """Read one task with its references, as the ids that they stand for."""
    task = read_entry(entry, task_id, where, settings, faults)
    if entry.get("parent_id") is not None:
        # Not None even where it is wrong: that does not make the task a root.
        task.parent_id = references.resolve(entry["parent_id"], "parent_id", where, faults) or ""
    real: dict[str, str] = {}
    for needed in read_dependencies(entry.get("dependencies"), where, faults):
        given, is_name = (needed["id"], False) if needed["id"] else (needed.get("name", ""), True)
        if outer is not None and given in outer and not references.has(given):
            real[given] = given
            task.dependencies.append({**needed, "id": given, "name": given})
            continue
        resolve = references.resolve_name if is_name else references.resolve
        real[given] = found = resolve(given, "dependency", where, faults) or ""
        if found:
            needed["id"] = found
            if not references.has_ids:
                needed["name"] = given
            elif is_name:
                real[found] = found  # inputs may refer to it by its id, too
            task.dependencies.append(needed)
    read_template(task, real, where, settings, faults)
    check_for_each(task, real, where, faults, is_template=outer is not None)
    if task.inputs:
        check_sources(task.inputs, real, where, faults)
    if any(given != found for given, found in real.items()):
        task.inputs = remap_references(task.inputs, real)
        task.policy = remap_for_each(task.policy, real)
    return task


def read_template(
    task: Task, declared: Collection[str], where: str, settings: Settings, faults: Violations
) -> None:
    """Read the tree of an element, `for_each.tasks`, and put it in the form in which it is stored.

    Args:
        declared: the names of the dependencies of the task, which the tasks of the tree may depend on.
    """
    for_each: dict[str, Json] | None = task.policy.get("for_each")
    if not for_each or for_each.get("tasks") is None:
        return
    try:
        template = read_array(for_each["tasks"], settings, outer=declared).tasks
    except TreeInvalidError as error:
        for violation in error.violations:
            faults.add(where, f"for_each.tasks: {violation}")
        template = []
    stored = stored_template(template, where, faults)
    task.policy = {**task.policy, "for_each": {**for_each, "tasks": stored}}


def _check_policies(tasks: Sequence[Task], places: Sequence[str], faults: Violations) -> None:
    """Check that conditions only name dependencies, by their keys, and that only a root has a deadline."""
    for task, place in zip(tasks, places, strict=True):
        check_deadline(task, task.policy, place, faults)
    if not any(task.policy.get("when") for task in tasks):
        return
    keys = {task.id: task.key for task in tasks}
    for task, place in zip(tasks, places, strict=True):
        needed = [keys.get(each["id"], each["id"]) for each in task.dependencies]
        check_condition(task.policy, needed, place, faults)


def _join(tasks: Sequence[Task], user_id: str | None) -> None:
    """Give tasks what they have from the tree: root, position, children, and an owner."""
    root = next((task for task in tasks if task.parent_id is None), tasks[0])
    owner = user_id or root.user_id
    parents = {task.parent_id for task in tasks}
    for at, task in enumerate(tasks):
        task.position, task.root_id = at, root.id
        task.user_id = task.user_id or owner
        task.has_children = task.id in parents
