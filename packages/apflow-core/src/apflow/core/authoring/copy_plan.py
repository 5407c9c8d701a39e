"""What the copy of a task takes along, and the tasks that it consists of. Pure.

A copy is a separate tree with new ids: tasks to run again are pending, and tasks of which only the result is
needed are copied as completed. The originals are not changed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

from apflow.core.authoring.violation import near
from apflow.core.errors import InvalidInputError, NotFoundError
from apflow.core.model.custom_columns import custom_fields
from apflow.core.model.for_each import has_for_each
from apflow.core.model.ids import is_generated, new_ids
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Dependency, Json, Task, utc_now
from apflow.core.model.tree_index import TreeIndex
from apflow.core.payload.inputs import find_references, remap_references
from apflow.core.payload.json_value import Place, copy_json, rewrite
from apflow.core.planning.fan_out import remap_for_each

CopyMode = Literal["minimal", "full", "custom"]
MODES = ("minimal", "full", "custom")

# Fields that a copy takes over, and what they become when they are reset.
TAKEN_OVER: Mapping[str, Json] = {
    "label": None,
    "tags": [],
    "priority": 2,
    "inputs": {},
    "params": {},
    "schemas": {},
    "policy": {},
}
# Fields that a copy never takes over: naming them changes nothing.
ALWAYS_RESET = frozenset({
    "status", "result", "error", "progress", "attempts", "has_copy",
    "created_at", "started_at", "updated_at", "completed_at",
})  # fmt: skip


@dataclass(frozen=True)
class CopyPlan:
    """Which tasks of a tree are copied, by their ids."""

    pending: frozenset[str]  # will run
    completed: frozenset[str]  # only lend their results
    is_whole: bool  # the whole tree: completed copies keep their dependencies

    @cached_property
    def kept(self) -> frozenset[str]:
        """Every task that is copied."""
        return self.pending | self.completed


def plan_copy(
    tasks: Sequence[Task],
    task_id: str,
    children: bool | None = None,
    copy_mode: CopyMode = "minimal",
    custom_task_ids: Sequence[str] | None = None,
    *,
    custom_include_children: bool = False,
) -> CopyPlan:
    """Decide what the copy of a task takes along.

    Args:
        tasks: the whole tree in order of position.
        task_id: the task that is copied.
        children: take what is below it too, and what depends on that; None: only of a root.
        copy_mode: "minimal" the task, "full" the whole tree, "custom" the tasks of `custom_task_ids`.
        custom_task_ids: tasks of the tree, for "custom" only.
        custom_include_children: take what is below these tasks, too.

    Raises:
        NotFoundError: the tree has no task of a given id.
        InvalidInputError: the options do not go together.
    """
    _check_options(copy_mode, custom_task_ids)
    index = TreeIndex(tasks)
    for each in [task_id, *(custom_task_ids or ())]:
        if each not in index.by_id:
            raise NotFoundError(each)
    if copy_mode == "custom":
        chosen = set(custom_task_ids or ())
        wanted = set(index.subtree(*chosen)) if custom_include_children else chosen
        return _without_elements(index, wanted, _with_what_it_needs(index, wanted))
    if copy_mode == "full":
        related = _with_dependents(index, index.subtree(task_id))
        return _without_elements(index, related, _whole(index, related))
    if children is None:
        children = index.by_id[task_id].parent_id is None
    wanted = _with_dependents(index, index.subtree(task_id)) if children else {task_id}
    return _without_elements(index, wanted, _with_what_it_needs(index, wanted))


def plan_fork(tasks: Sequence[Task], chosen: Iterable[str]) -> CopyPlan:
    """Decide what a fork runs again: chosen tasks, what is below or depends on them, and what is incomplete.

    All other tasks of the tree are copied with their results.

    Args:
        tasks: the whole tree in order of position.
        chosen: IDs of tasks of the tree.

    Raises:
        NotFoundError: the tree has no task of a given id.
    """
    index = TreeIndex(tasks)
    seeds = list(chosen)
    for each in seeds:
        if each not in index.by_id:
            raise NotFoundError(each)
    related = _with_dependents(index, index.subtree(*seeds))
    return _without_elements(index, related, _whole(index, related))


def _without_elements(index: TreeIndex, again: Set[str], plan: CopyPlan) -> CopyPlan:
    """Leave out the elements of tasks that run again: the copy creates them from the list as it is then.

    A task with `for_each` that only holds what runs again keeps its elements.
    """
    creating = [each for each in again if has_for_each(index.by_id[each]) and each in index.children]
    left_out = {each for task_id in creating for each in index.subtree(task_id)[1:]}
    if not left_out:
        return plan
    return CopyPlan(plan.pending - left_out, plan.completed - left_out, plan.is_whole)


def _check_options(copy_mode: str, custom_task_ids: Sequence[str] | None) -> None:
    if copy_mode not in MODES:
        raise InvalidInputError(f"copy_mode is one of {', '.join(MODES)}, not {copy_mode!r}.")
    if copy_mode == "custom" and not custom_task_ids:
        raise InvalidInputError('copy_mode "custom" needs custom_task_ids: the ids of the tasks to copy.')
    if copy_mode != "custom" and custom_task_ids:
        raise InvalidInputError(f'custom_task_ids go with copy_mode "custom", not with {copy_mode!r}.')


def _with_dependents(index: TreeIndex, seeds: Iterable[str]) -> set[str]:
    """Add, transitively, what depends on these tasks. A group comes with what it holds.

    What depends on a list depends on each of its elements.
    """
    found = set(seeds)
    waiting = list(found)
    lists: set[str] = set()
    while waiting:
        task_id = waiting.pop()
        for each in (task_id, *_lists_around(index, task_id, lists)):
            for dependent, _ in index.dependents.get(each, ()):
                if dependent not in found:
                    new = [other for other in _with_contents(index, dependent) if other not in found]
                    found.update(new)
                    waiting.extend(new)
    return found


def _lists_around(index: TreeIndex, task_id: str, known: set[str]) -> list[str]:
    """Return the tasks with `for_each` around a task that are not known yet, and make them known."""
    above = (index.by_id[each] for each in index.ancestors(task_id))
    found = [each.id for each in above if has_for_each(each) and each.id not in known]
    known.update(found)
    return found


def _with_contents(index: TreeIndex, task_id: str) -> list[str]:
    return index.subtree(task_id) if _may_be_group(index, task_id) else [task_id]


def _may_be_group(index: TreeIndex, task_id: str) -> bool:
    """Return whether a task is a group, or could become one when it first runs."""
    task = index.by_id[task_id]
    if task.executor is not None:
        return task.executor == GROUP
    names_none = not task.params.get("executor_id") and not task.schemas.get("method")
    return names_none and task_id in index.children


def _whole(index: TreeIndex, related: Set[str]) -> CopyPlan:
    """Copy everything as pending, except completed tasks that are unrelated to the task."""
    holding = {each for each in index.all_ancestors(related) if _may_be_group(index, each)}
    completed = frozenset(
        task.id
        for task in index.by_id.values()
        if task.status == TaskStatus.COMPLETED and task.id not in related and task.id not in holding
    )
    return CopyPlan(frozenset(index.by_id) - completed, completed, is_whole=True)


def _with_what_it_needs(index: TreeIndex, wanted: set[str]) -> CopyPlan:
    """Add the tasks above, to hold the copies, and the dependencies, for their results."""
    pending = set(wanted)
    completed: set[str] = set()
    above = index.all_ancestors(wanted)
    for each in above - pending:
        has_result = _is_completed(index, each) and not _may_be_group(index, each)
        (completed if has_result else pending).add(each)
    waiting = list(pending)
    while waiting:
        for dependency in index.by_id[waiting.pop()].dependencies:
            if dependency["id"] in index.by_id:
                waiting.extend(_take_along(index, dependency["id"], pending, completed))
    return CopyPlan(frozenset(pending), frozenset(completed), is_whole=False)


def _take_along(index: TreeIndex, needed: str, pending: set[str], completed: set[str]) -> list[str]:
    """Add a dependency, with what it holds if it is a group to run; return what is pending of that."""
    new: list[str] = []
    waiting = [needed]
    while waiting:
        task_id = waiting.pop()
        if task_id in pending or task_id in completed:
            continue
        if _is_completed(index, task_id):
            completed.add(task_id)
            continue
        pending.add(task_id)
        new.append(task_id)
        if task_id != needed or _may_be_group(index, task_id):
            waiting.extend(index.children.get(task_id, ()))
    return new


def _is_completed(index: TreeIndex, task_id: str) -> bool:
    return index.by_id[task_id].status == TaskStatus.COMPLETED


def copied_tasks(tasks: Sequence[Task], plan: CopyPlan, reset_fields: Sequence[str] = ()) -> list[Task]:
    """Return the copies under new ids, in the order of the originals.

    Raises:
        InvalidInputError: a field to reset is not a field that a copy keeps.
    """
    _check_reset_fields(reset_fields)
    kept = plan.kept
    originals = [task for task in tasks if task.id in kept]
    real = dict(zip((task.id for task in originals), new_ids(len(originals)), strict=True))
    parents = _nearest_kept(tasks, kept)
    root = next(task for task in originals if task.id not in parents)
    copies: list[Task] = []
    for position, task in enumerate(originals):
        copy = _completed_copy(task) if task.id in plan.completed else _pending_copy(task, reset_fields)
        copy.id, copy.root_id, copy.position = real[task.id], real[root.id], position
        copy.key = copy.key or copy.id
        copy.parent_id = real[parents[task.id]] if task.id in parents else None
        if task.id in plan.pending or plan.is_whole:
            copy.dependencies = [_renamed(each, real) for each in task.dependencies if each["id"] in real]
        copy.inputs = _remapped(copy, real)
        copy.policy = _remapped_policy(copy, real, has_lost=len(copy.dependencies) < len(task.dependencies))
        copies.append(copy)
    holding = {copy.parent_id for copy in copies}
    for copy in copies:
        copy.has_children = copy.id in holding
    return copies


def _check_reset_fields(reset_fields: Iterable[str]) -> None:
    possible = [*TAKEN_OVER, *custom_fields()]
    for name in reset_fields:
        if name not in possible and name not in ALWAYS_RESET:
            advice = near(name, possible) or f" There are: {', '.join(possible)}."
            raise InvalidInputError(f"reset_fields: a copy does not take over {name!r}.{advice}")


def _nearest_kept(tasks: Sequence[Task], kept: Set[str]) -> dict[str, str]:
    """Map each kept task to the nearest kept task above it; the root is not in it."""
    index = TreeIndex(tasks)
    nearest: dict[str, str] = {}
    for task_id in index.subtree(*index.roots()):
        parent = index.by_id[task_id].parent_id
        if parent is not None and parent in kept:
            nearest[task_id] = parent
        elif parent is not None and parent in nearest:
            nearest[task_id] = nearest[parent]
    return {task_id: above for task_id, above in nearest.items() if task_id in kept}


def _bare_copy(task: Task) -> Task:
    return Task(
        id="",
        name=task.name,
        root_id="",
        user_id=task.user_id,
        priority=task.priority,
        inputs=copy_json(task.inputs),
        params=copy_json(task.params),
        schemas=copy_json(task.schemas),
        policy=copy_json(task.policy),
        label=task.label,
        tags=list(task.tags),
        original_task_id=task.id,
        key="" if task.key == task.id and is_generated(task.id) else task.key,
        extra=dict(task.extra),
    )


def _pending_copy(task: Task, reset_fields: Sequence[str]) -> Task:
    copy = _bare_copy(task)
    custom = custom_fields()
    for name in reset_fields:
        if name in TAKEN_OVER:
            setattr(copy, name, copy_json(TAKEN_OVER[name]))
        elif name in custom:
            copy.extra[name] = custom[name]
    return copy


def _completed_copy(task: Task) -> Task:
    copy = _bare_copy(task)
    copy.status, copy.progress = TaskStatus.COMPLETED, 1.0
    copy.result, copy.completed_at = copy_json(task.result), task.completed_at or utc_now()
    return copy


def _renamed(dependency: Dependency, real: Mapping[str, str]) -> Dependency:
    return {**dependency, "id": real[dependency["id"]]}


def _remapped(copy: Task, real: Mapping[str, str]) -> dict[str, Json]:
    """Return the inputs of a copy. References to tasks that were not copied become null."""
    inputs = remap_references(copy.inputs, real)
    declared = {each["id"] for each in copy.dependencies}
    lost = {each.source for each in find_references(inputs)} - declared

    def change(node: Json, _: Place | None) -> Json:
        return None if _source(node) in lost else node

    return cast("dict[str, Json]", rewrite(inputs, change)) if lost else inputs


def _remapped_policy(copy: Task, real: Mapping[str, str], *, has_lost: bool) -> dict[str, Json]:
    """Return the policy of a copy. A list of which a dependency was not copied becomes an empty one."""
    if not has_for_each(copy):
        return copy.policy
    if not has_lost:
        return remap_for_each(copy.policy, real)
    kept = {name: each for name, each in copy.policy["for_each"].items() if name != "tasks"}
    return {**copy.policy, "for_each": {**kept, "items": []}}


def _source(node: Json) -> str | None:
    """Return what a value refers to, if it is a reference."""
    if not isinstance(node, dict):
        return None
    members = cast("dict[str, Json]", node)
    return members.get("$from") if members.keys() <= {"$from", "path", "default"} else None


def as_array(copies: Sequence[Task]) -> list[dict[str, Json]]:
    """Return the array from which `TaskCreator` would create these copies."""
    array: list[dict[str, Json]] = []
    for copy in copies:
        entry: dict[str, Json] = {name: getattr(copy, name) for name in _SHOWN} | copy.extra
        if copy.status == TaskStatus.COMPLETED:
            entry |= {"status": "completed", "result": copy.result}
        array.append(entry)
    return array


_SHOWN = (
    "id", "key", "name", "label", "tags", "parent_id", "user_id", "priority", "dependencies", "inputs",
    "params", "schemas", "policy", "original_task_id",
)  # fmt: skip
