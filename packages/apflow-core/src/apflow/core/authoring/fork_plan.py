"""A fork: the copy of a whole tree in which chosen tasks, and what depends on them, run again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

from apflow.core.authoring.copy_plan import copied_tasks, plan_fork
from apflow.core.authoring.edit_plan import read_update, refuse
from apflow.core.authoring.violation import Violations, near
from apflow.core.model.custom_columns import custom_fields
from apflow.core.model.task import Json, Task
from apflow.core.model.tree_index import TreeIndex
from apflow.core.settings import Settings

Overrides = Mapping[str, Mapping[str, Json]]  # fields by task ID

OVERRIDABLE: Final = ("name", "label", "tags", "priority", "inputs", "params", "schemas", "policy")


def forked_tasks(
    tasks: Sequence[Task], chosen: Sequence[str], overrides: Overrides, settings: Settings
) -> list[Task]:
    """Return the tasks of a fork under new ids, in the order of the originals.

    Args:
        tasks: the whole tree in order of position.
        chosen: IDs of the tasks that run again; those with overrides do so, too.
        overrides: new values of fields, by task ID. An object is a patch of the present one: RFC 7396.
        settings: for the limits.

    Raises:
        NotFoundError: the tree has no task of a given ID.
        InvalidInputError: an override cannot be used; `violations` lists every fault of the task.
    """
    plan = plan_fork(tasks, [*chosen, *overrides])
    index = TreeIndex(tasks)
    changed = [
        _overridden(task, index, overrides[task.id], settings) if task.id in overrides else task
        for task in tasks
    ]
    return copied_tasks(changed, plan)


def _overridden(task: Task, index: TreeIndex, fields: Mapping[str, Json], settings: Settings) -> Task:
    """Return a task with other fields."""
    faults = Violations()
    custom = custom_fields()
    possible = (*OVERRIDABLE, *custom)
    for name in fields:
        if name not in possible:
            advice = near(name, possible) or f" There are: {', '.join(possible)}."
            faults.add("", f"a fork cannot override {name!r}.{advice}")
    present = {name: task.extra.get(name) if name in custom else getattr(task, name) for name in possible}
    new = {name: merged(present[name], patch) for name, patch in fields.items() if name in possible}
    sets = read_update(task, index, new, settings, faults)
    refuse(task, "forked", faults, Violations())
    extra = task.extra | {name: value for name, value in sets.items() if name in custom}
    return replace(task, extra=extra, **{name: each for name, each in sets.items() if name not in custom})


def merged(target: Json, patch: Json) -> Json:
    """Apply a JSON merge patch (RFC 7396, section 2): null removes a member, and arrays are replaced."""
    if not isinstance(patch, dict):
        return patch
    result = dict(cast("dict[str, Json]", target)) if isinstance(target, dict) else {}
    for name, value in cast("dict[str, Json]", patch).items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
