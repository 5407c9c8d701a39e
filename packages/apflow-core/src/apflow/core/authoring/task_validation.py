"""Reading the description of one task: everything but what it says of other tasks of its array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from apflow.core.authoring.field_validation import (
    check_keys,
    read_custom,
    read_json,
    read_label,
    read_name,
    read_object,
    read_params,
    read_priority,
    read_schemas,
    read_tags,
    read_text,
)
from apflow.core.authoring.policy_validation import BESIDE_POLICY, read_policy
from apflow.core.authoring.violation import Violations, shown
from apflow.core.model.custom_columns import custom_fields
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Dependency, Json, Task, utc_now
from apflow.core.settings import Settings

Entry = Mapping[str, Any]

# `type` was stored by an earlier system, and decides nothing.
DEPENDENCY_KEYS = ("id", "required", "name", "type")


def read_entry(entry: Entry, task_id: str, where: str, settings: Settings, faults: Violations) -> Task:
    """Return the task that an entry describes, as a root without dependencies."""
    custom = custom_fields()
    check_keys(entry, custom, where, faults)
    task = Task(
        id=task_id,
        name=read_name(entry.get("name"), where, faults),
        root_id=task_id,
        priority=read_priority(entry.get("priority"), where, faults),
        inputs=read_object(entry.get("inputs"), "inputs", where, settings, faults),
        schemas=read_schemas(entry.get("schemas"), where, settings, faults),
        params=read_params(entry.get("params"), where, settings, faults),
        policy=_read_policy(entry, where, faults),
        label=read_label(entry.get("label"), where, faults),
        tags=read_tags(entry.get("tags"), where, faults),
        extra={n: read_custom(entry[n], n, where, settings, faults) for n in custom if n in entry},
    )
    for name in ("user_id", "original_task_id"):
        if entry.get(name) is not None:
            setattr(task, name, read_text(entry[name], name, where, faults))
    _read_end(task, entry, where, settings, faults)
    return task


def _read_policy(entry: Entry, where: str, faults: Violations) -> dict[str, Json]:
    """Read `policy`, with what an entry may also have beside it."""
    policy = read_policy(entry.get("policy"), where, faults)
    for name, read in BESIDE_POLICY.items():
        if entry.get(name) is None:
            continue
        value = read(entry[name], name, where, faults)
        if value is not None and policy.setdefault(name, value) != value:
            faults.add(where, f"{name} and policy.{name} differ. Give one of them.")
    return policy


def _read_end(task: Task, entry: Entry, where: str, settings: Settings, faults: Violations) -> None:
    """Read the status and the result of work that is done already, as copies bring it.

    A task that was exported in another status is created as pending, without its result.
    """
    status, result = entry.get("status"), entry.get("result")
    if not isinstance(status, str | None) or status not in (None, *TaskStatus):
        faults.add(where, f"status must be one of {', '.join(TaskStatus)}, not {shown(status)}.")
    elif status == "completed":
        task.status, task.progress, task.completed_at = TaskStatus.COMPLETED, 1.0, utc_now()
        if result is not None:
            task.result = read_json(result, "result", where, settings, faults)
    elif result is not None and status in (None, TaskStatus.PENDING):
        faults.add(where, 'a task has a result only with "status": "completed". Leave it out.')


def read_dependencies(value: object, where: str, faults: Violations) -> list[Dependency]:
    """Read dependencies, each named once; whether such tasks exist is not known here."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        faults.add(where, f"dependencies must be a list, not {shown(value)}.")
        return []
    found: dict[tuple[str, str], Dependency] = {}
    for given in cast("Sequence[object]", value):
        needed = read_dependency(given, where, faults)
        if needed is None:
            continue
        key = (needed["id"], "" if needed["id"] else needed.get("name", ""))
        if key in found:
            faults.add(where, f"dependency {shown(key[0] or key[1])} is named twice. Name it once.")
        found[key] = needed
    return list(found.values())


def read_dependency(given: object, where: str, faults: Violations) -> Dependency | None:
    """Read one dependency: `"id"`, or `{"id": ..., "required": true}`.

    `{"name": ...}` names a task by its name; what is returned then has an empty id, see `resolve_names`.
    """
    if isinstance(given, str) and given:
        return {"id": given, "required": True}
    members: Mapping[object, Json] = {}
    if isinstance(given, Mapping):
        members = cast("Mapping[object, Json]", given)
    if "id" not in members and "name" not in members:
        wrong = shown(cast("object", given))
        faults.add(where, f'a dependency is "ID" or {{"id": "ID", "required": true}}, not {wrong}.')
        return None
    for key in members:
        if key not in DEPENDENCY_KEYS:
            advice = faults.near(key, DEPENDENCY_KEYS) if isinstance(key, str) else ""
            faults.add(where, f"a dependency has no key {shown(key)}.{advice or ' There are: id, required.'}")
    needed, required, name = members.get("id"), members.get("required", True), members.get("name")
    if ("id" in members or not isinstance(name, str)) and (not isinstance(needed, str) or not needed):
        faults.add(where, f"the id of a dependency must be text that is not empty, not {shown(needed)}.")
        return None
    if not isinstance(required, bool):
        faults.add(where, f"required of a dependency must be true or false, not {shown(required)}.")
    read: Dependency = {"id": cast("str", needed or ""), "required": required is True}
    if name is not None:
        if not isinstance(name, str) or not name:
            faults.add(where, f"name of a dependency must be text that is not empty, not {shown(name)}.")
        read["name"] = str(name)
    return read


def resolve_names(dependencies: Sequence[Dependency], tasks: Sequence[Task], faults: Violations) -> None:
    """Give dependencies that were named by a task's name the id of that task of the tree."""
    for each in dependencies:
        if each["id"]:
            continue
        name = each.get("name", "")
        found = [task.id for task in tasks if task.name == name]
        if len(found) == 1:
            each["id"] = found[0]
        else:
            count = f"{len(found)} tasks of the tree have" if found else "no task of the tree has"
            faults.add("", f"dependency {shown(name)}: {count} that name. Use its id.")


def resolve_keys(dependencies: Sequence[Dependency], tasks: Sequence[Task]) -> dict[str, str]:
    """Give dependencies that were named by a key of the tree the id of that task.

    Returns:
        key -> id, of the tasks whose key is not an id of the tree; for references inside inputs.
    """
    ids = {task.id for task in tasks}
    real = {task.key: task.id for task in tasks if task.key not in ids}
    for each in dependencies:
        each["id"] = real.get(each["id"], each["id"])
    return real
