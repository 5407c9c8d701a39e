"""What users may change in stored tasks, and the one change that writes it. Pure.

A change is conditional on what was looked at: who changes a tree takes the root's row first, and where
that, or a task that matters, has moved meanwhile, nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from apflow.core.authoring.array_validation import read_template
from apflow.core.authoring.field_validation import (
    READ_ONLY,
    check_sources,
    read_custom,
    read_label,
    read_name,
    read_object,
    read_params,
    read_priority,
    read_schemas,
    read_tags,
)
from apflow.core.authoring.for_each_validation import check_for_each
from apflow.core.authoring.policy_validation import check_condition, check_deadline, read_policy
from apflow.core.authoring.task_validation import read_dependencies, resolve_keys, resolve_names
from apflow.core.authoring.violation import Violations, near
from apflow.core.errors import ConflictError, InvalidInputError
from apflow.core.model.attempt import TaskAttempt
from apflow.core.model.custom_columns import custom_fields
from apflow.core.model.cycles import find_cycle
from apflow.core.model.event import TaskEvent
from apflow.core.model.for_each import has_for_each
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Dependency, Json, Task, task_label, utc_now
from apflow.core.model.tree_index import TreeIndex
from apflow.core.payload.inputs import remap_references
from apflow.core.permissions.origin import with_author
from apflow.core.permissions.secret_policy import Author
from apflow.core.planning.fan_out import remap_for_each
from apflow.core.settings import Settings
from apflow.core.store.base import Change, Transition

UPDATABLE = ("name", "label", "tags", "priority", "inputs", "params", "schemas", "policy", "dependencies")
_DESCRIPTIVE = ("name", "label", "tags")  # no run reads them: they may change at any time
FIXED = ("id", "key", "parent_id", "user_id", "original_task_id")


class MoveSet:
    """The moves of one change, at most one per task, the root's first."""

    def __init__(self, root_id: str) -> None:
        self._root_id = root_id
        self._moves: dict[str, Transition] = {root_id: Transition(root_id, root_id, {}, {})}

    def put(
        self,
        task_id: str,
        expects: Mapping[str, Json] | None = None,
        sets: Mapping[str, Json] | None = None,
        *events: TaskEvent,
        attempts: tuple[TaskAttempt, ...] = (),
    ) -> None:
        """Add a condition on a task, what is set in it, and the records of its attempts to store."""
        known = self._moves.get(task_id, Transition(task_id, self._root_id, {}, {}))
        self._moves[task_id] = Transition(
            task_id,
            self._root_id,
            {**known.expects, **(expects or {})},
            {**known.sets, **(sets or {})},
            known.events + events,
            known.attempts + attempts,
        )

    def moves(self) -> list[Transition]:
        """Return the moves."""
        return list(self._moves.values())

    def change(self) -> Change:
        """Return the change that makes all of these moves, or none."""
        return Change(moves=self.moves(), is_strict=True)


def together(root_id: str, *changes: Change) -> Change:
    """Return one change of a tree that makes the moves of several."""
    moves = MoveSet(root_id)
    for change in changes:
        for move in change.moves:
            moves.put(move.task_id, move.expects, move.sets, *move.events, attempts=move.attempts)
    return moves.change()


def plan_update(
    tasks: Sequence[Task],
    task_id: str,
    fields: Mapping[str, object],
    settings: Settings,
    author: Author | None = None,
) -> Change:
    """Return the change that updates a task.

    Args:
        tasks: the whole tree; the task, its root and its dependencies are enough where dependencies stay.
        task_id: the task to update.
        fields: the new values of updatable fields and of custom columns.
        settings: for the limits.
        author: the caller of a server who makes the change; None: this machine.

    Raises:
        InvalidInputError: a value cannot be used; `violations` lists every fault.
        ConflictError: the values are good, but the state of the tree forbids the change now.
    """
    index = TreeIndex(tasks)
    task = index.by_id[task_id]
    root = index.by_id[task.root_id]
    faults, conflicts = Violations(), Violations()
    sets = read_update(task, index, fields, settings, faults)
    moves = MoveSet(root.id)
    if "dependencies" in fields:
        _check_dependencies(index, task, sets["dependencies"], faults, conflicts)
        # Two such updates at once could each be right and together run in a circle.
        moves.put(root.id, {"updated_at": root.updated_at}, {"updated_at": utc_now()})
        for dependency in sets["dependencies"]:
            moves.put(dependency["id"])
    _sign(moves, root, author)
    if any(name in UPDATABLE and name not in _DESCRIPTIVE for name in sets):
        moves.put(root.id, expect_no_run(root, task, conflicts))
        moves.put(task.id, {"status": task.status})
        if has_for_each(task) and task.has_children:
            command = f"apflow tasks fork {root.id} --from {task.id} --set PATH=VALUE"
            conflicts.add("", f"its elements exist. Fork the tree with the change: {command}")
        if TaskStatus.is_active(task.status):
            conflicts.add("", "it is in progress: only its name, label, tags and own columns may change now.")
    refuse(task, "updated", faults, conflicts)
    moves.put(task.id, None, {**sets, "updated_at": utc_now()})
    return moves.change()


def _sign(moves: MoveSet, root: Task, author: Author | None) -> None:
    """Store an author of a change with the root, unless it is one of the tree's authors already."""
    written_by = with_author(root, author)
    if written_by != root.written_by:
        # Two authors who write at the same moment must not drop each other.
        moves.put(root.id, {"written_by": root.written_by}, {"written_by": written_by})


def refuse(task: Task, what: str, faults: Violations, conflicts: Violations) -> None:
    """Raise what was found against a change of a task, if anything."""
    found = faults.found + conflicts.found
    if found:
        message = f"Task {task_label(task)} cannot be {what}: {' '.join(found)}"
        raise InvalidInputError(message, found) if faults.found else ConflictError(message)


def read_update(
    task: Task, index: TreeIndex, fields: Mapping[str, object], settings: Settings, faults: Violations
) -> dict[str, Json]:
    """Return the new values of a task's fields as they are stored; what is wrong is added to the faults.

    Args:
        index: of the tasks that `plan_update` takes.
    """
    tasks = list(index.by_id.values())
    sets = _read_fields(task, tasks, fields, settings, faults)
    _resolve_keys(tasks, sets, faults)
    _check_sources(task, sets, faults)
    _check_condition(task, index, sets, faults)
    check_deadline(task, sets.get("policy", {}), "", faults)
    _check_for_each(task, index, sets, settings, faults)
    return sets


def _read_fields(
    task: Task, tasks: Sequence[Task], fields: Mapping[str, object], settings: Settings, faults: Violations
) -> dict[str, Json]:
    sets: dict[str, Json] = {}
    custom = custom_fields()
    for name, value in fields.items():
        if name in READ_ONLY or (name in FIXED and value == getattr(task, name)):
            continue
        if name in FIXED:
            faults.add("", f"{name} cannot be changed. Copy the task instead.")
        elif name == "dependencies":
            needed = read_dependencies(value, "", faults)
            resolve_names(needed, tasks, faults)
            sets[name] = _keep_names(task, [each for each in needed if each["id"]])
        elif name in UPDATABLE:
            sets[name] = _read_field(name, value, settings, faults)
        elif name in custom:
            sets[name] = read_custom(value, name, "", settings, faults)
        else:
            possible = [*UPDATABLE, *custom]
            advice = near(name, possible) or f" There are: {', '.join(possible)}."
            faults.add("", f"{name!r} is not a field that can be updated.{advice}")
    return sets


def _resolve_keys(tasks: Sequence[Task], sets: dict[str, Json], faults: Violations) -> None:
    """Replace keys by ids, in dependencies and in references inside inputs."""
    needed: list[Dependency] = sets.get("dependencies", [])
    real = resolve_keys(needed, tasks)
    for needed_id, count in Counter(each["id"] for each in needed).items():
        if count > 1:
            faults.add("", f"dependency {needed_id!r} is named twice, also by its key. Name it once.")
    if real and sets.get("inputs"):
        sets["inputs"] = remap_references(sets["inputs"], real)


def _read_field(name: str, value: object, settings: Settings, faults: Violations) -> Json:
    match name:
        case "name":
            return read_name(value, "", faults)
        case "label":
            return read_label(value, "", faults)
        case "tags":
            return read_tags(value, "", faults)
        case "priority":
            return read_priority(value, "", faults)
        case "inputs":
            return read_object(value, "inputs", "", settings, faults)
        case "params":
            return read_params(value, "", settings, faults)
        case "schemas":
            return read_schemas(value, "", settings, faults)
        case _:
            return read_policy(value, "", faults)


def _keep_names(task: Task, dependencies: list[Dependency]) -> list[Dependency]:
    """Keep the second key of the dependencies that stay."""
    names = {each["id"]: each["name"] for each in task.dependencies if "name" in each}
    for each in dependencies:
        if each["id"] in names:
            each.setdefault("name", names[each["id"]])
    return dependencies


def _check_dependencies(
    index: TreeIndex, task: Task, needed: Sequence[Dependency], faults: Violations, conflicts: Violations
) -> None:
    """Check that dependencies are in the tree, form no cycle, and that no dependent has started."""
    for each in needed:
        if each["id"] not in index.by_id:
            advice = faults.near(each["id"], index.by_id) or " Use the id of a task of the same tree."
            faults.add("", f"dependency {each['id']!r} is not a task of this tree.{advice}")
    leads_to = {each.id: [d["id"] for d in each.dependencies] for each in index.by_id.values()}
    cycle = find_cycle(leads_to | {task.id: [each["id"] for each in needed]})
    if cycle:
        chain = " -> ".join([*cycle[:10], cycle[0]])
        faults.add("", f"dependencies would run in a circle: {chain}. Leave one of them out.")
    if task.status != TaskStatus.PENDING:
        conflicts.add("", f"dependencies can change only while it is pending; it is {task.status}.")
    for dependent, _ in index.dependents.get(task.id, ()):
        if TaskStatus.is_active(index.by_id[dependent].status):
            conflicts.add("", f"{task_label(index.by_id[dependent])} depends on it and is in progress.")


def _check_sources(task: Task, sets: Mapping[str, Json], faults: Violations) -> None:
    """Check that references inside inputs and dependencies go together as they will be."""
    if "inputs" in sets or "dependencies" in sets:
        declared = {each["id"] for each in sets.get("dependencies", task.dependencies)}
        check_sources(sets.get("inputs", task.inputs), declared, "", faults)


def _check_condition(task: Task, index: TreeIndex, sets: Mapping[str, Json], faults: Violations) -> None:
    """Check that the condition and the dependencies go together as they will be."""
    if "policy" in sets or "dependencies" in sets:
        needed = (index.by_id.get(each["id"]) for each in sets.get("dependencies", task.dependencies))
        keys = [each.key for each in needed if each is not None]
        check_condition(sets.get("policy", task.policy), keys, "", faults)


def _check_for_each(
    task: Task, index: TreeIndex, sets: dict[str, Json], settings: Settings, faults: Violations
) -> None:
    """Read the tree of an element, and check that `for_each` and the task go together as they will be."""
    if not sets.keys() & {"policy", "inputs", "params", "dependencies"}:
        return
    changed = replace(task, **{n: each for n, each in sets.items() if n in UPDATABLE and n != "dependencies"})
    declared = {each["id"] for each in sets.get("dependencies", task.dependencies)}
    real = {each.key: each.id for each in index.by_id.values() if each.id in declared}
    names = {*declared, *real}
    if "policy" in sets:
        read_template(changed, names, "", settings, faults)
        sets["policy"] = remap_for_each(changed.policy, real)
    check_for_each(changed, names, "", faults)


def expect_no_run(root: Task, task: Task, conflicts: Violations) -> dict[str, Json]:
    """Return the condition that no run has, or gets, this task in its scope."""
    is_in_scope = root.run_scope is None or task.id in root.run_scope
    if root.run_requested_at is not None and is_in_scope:
        conflicts.add("", "a run of its tree is requested. Wait for its end, or cancel it first.")
    return {"run_requested_at": root.run_requested_at}


def plan_addition(task: Task, found: Mapping[str, Task], author: Author | None = None) -> list[Transition]:
    """Return the conditions under which a new task may join its tree.

    Args:
        task: the new task, with `parent_id` and dependencies; not a root.
        found: the tasks of these ids that exist, and the root.
        author: the caller of a server who adds the task; None: this machine.

    Raises:
        ConflictError: a run of the tree is requested.
        InvalidInputError: a dependency does not exist.
    """
    faults, conflicts = Violations(), Violations()
    root = found[task.root_id]
    for dependency in task.dependencies:
        needed = found.get(dependency["id"])
        if needed is None:
            faults.add("", f"dependency {dependency['id']!r} does not exist.")
    keys = [found[each["id"]].key for each in task.dependencies if each["id"] in found]
    check_condition(task.policy, keys, "", faults)
    check_deadline(task, task.policy, "", faults)
    parent = found.get(task.parent_id or "")
    if parent is not None and has_for_each(parent):
        faults.add("", f"{task_label(parent)} has for_each: only the elements of its list are in it.")
    if root.run_requested_at is not None:
        conflicts.add("", "a run of the tree is requested. Wait for its end, or cancel it first.")
    refuse(task, "created", faults, conflicts)
    moves = MoveSet(root.id)
    moves.put(root.id, {"run_requested_at": None})
    if task.key != task.id:
        # Two such additions at once could both find that their key is free.
        moves.put(root.id, {"updated_at": root.updated_at}, {"updated_at": utc_now()})
    _sign(moves, root, author)
    for task_id in [task.parent_id, *(each["id"] for each in task.dependencies)]:
        if task_id is not None and found[task_id].root_id == root.id:
            moves.put(task_id)
    return moves.moves()
