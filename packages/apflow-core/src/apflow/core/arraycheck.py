"""Reading an array of task descriptions: a tree that can be stored, or every reason why it is none.

Pure, and linear in the array. Ids stand on all tasks or on none; without ids, unique names are the
references. Nothing is written before all of this has passed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from apflow.core.errors import TreeInvalidError
from apflow.core.inputs import remap_references
from apflow.core.settings import Settings
from apflow.core.states import TaskStatus
from apflow.core.task import Dependency, Json, Task, utc_now
from apflow.core.taskfield import (
    Faults,
    check_keys,
    check_sources,
    near,
    read_custom,
    read_json,
    read_name,
    read_object,
    read_params,
    read_policy,
    read_priority,
    read_schemas,
    read_text,
    shown,
)
from apflow.core.taskmodel import custom_fields
from apflow.core.treeshape import check_shape

Entry = Mapping[str, Any]
NEAR_LIMIT = 2000  # references among which similar ones are looked for: the search is slow
SHOWN = 5  # faults that the message spells out; `violations` has all


def new_ids(count: int) -> list[str]:
    """Return new random ids in the form of UUIDs of version 4, many at a time."""
    raw = os.urandom(16 * count).hex()
    ids: list[str] = []
    for at in range(0, 32 * count, 32):
        variant = "89ab"[int(raw[at + 16], 16) & 3]
        parts = raw[at : at + 8], raw[at + 8 : at + 12], "4" + raw[at + 13 : at + 16]
        ids.append(f"{'-'.join(parts)}-{variant}{raw[at + 17 : at + 20]}-{raw[at + 20 : at + 32]}")
    return ids


@dataclass(frozen=True, slots=True)
class CheckedArray:
    """A tree that may be written: its tasks in order of position, and given reference -> id."""

    tasks: list[Task]
    ids: dict[str, str]
    has_ids: bool  # whether the array named ids, or names are the references

    @property
    def root(self) -> Task:
        """The task without a parent."""
        return next(task for task in self.tasks if task.parent_id is None)


def check_array(tasks: Sequence[Entry], settings: Settings, user_id: str | None = None) -> list[Task]:
    """Return the tasks that an array describes, ready to be stored, in its order.

    Raises:
        TreeInvalidError: it is no tree; `violations` lists every fault that was found.
    """
    return read_array(tasks, settings, user_id).tasks


def read_array(tasks: Sequence[Entry], settings: Settings, user_id: str | None = None) -> CheckedArray:
    """Read an array as `check_array` does, and keep what each reference became."""
    faults = Faults()
    entries = _entries(tasks, settings, faults)
    _stop_at(faults)
    has_ids = _check_references_exist(entries, faults)
    _stop_at(faults)
    places = [_place(at, entry) for at, entry in enumerate(entries)]
    references = [cast("str", entry["id" if has_ids else "name"]) for entry in entries]
    reader = _Reader(entries, places, references, has_ids, settings, faults)
    read = reader.read(user_id)
    check_shape(read, places, faults)
    _stop_at(faults)
    return CheckedArray(read, dict(zip(references, (task.id for task in read), strict=True)), has_ids)


def _stop_at(faults: Faults) -> None:
    if faults.found:
        raise refusal(faults.found)


def refusal(faults: Sequence[str]) -> TreeInvalidError:
    """Return the error for an array with these faults."""
    more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
    return TreeInvalidError(
        f"The tasks are refused, nothing was created: {' '.join(faults[:SHOWN])}{more}", faults
    )


def _place(at: int, entry: Entry) -> str:
    """Return how messages call a task: its index and its name."""
    name = entry.get("name")
    return f"tasks[{at}] ({name!r})" if isinstance(name, str) and len(name) <= 80 else f"tasks[{at}]"


def _entries(tasks: object, settings: Settings, faults: Faults) -> list[Entry]:
    if isinstance(tasks, str | bytes | Mapping) or not isinstance(tasks, Sequence):
        faults.add("", f"tasks must be a list of objects, not {shown(tasks)}.")
        return []
    entries = cast("Sequence[object]", tasks)
    if not entries:
        faults.add("", "tasks is empty: a tree has at least one task.")
    if len(entries) > settings.max_tasks:
        faults.add(
            "", f"{len(entries)} tasks are too many: a tree has at most {settings.max_tasks} (max_tasks)."
        )
        return []
    for at, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            faults.add(f"tasks[{at}]", f"a task must be an object, not {shown(entry)}.")
    return cast("list[Entry]", list(entries))


def _check_references_exist(entries: Sequence[Entry], faults: Faults) -> bool:
    """Check ids on all or none; return whether there are any. Without them, names must do."""
    with_id = [at for at, entry in enumerate(entries) if entry.get("id") is not None]
    if with_id and len(with_id) < len(entries):
        known = set(with_id)
        for at, entry in enumerate(entries):
            if at not in known:
                faults.add(
                    _place(at, entry), f"it has no id, but tasks[{with_id[0]}] has. Give ids to all, or none."
                )
    for at, entry in enumerate(entries):
        place = _place(at, entry)
        read_name(entry.get("name"), place, faults)
        if entry.get("id") is not None:
            read_text(entry["id"], "id", place, faults)
    return bool(with_id)


class _Reader:
    """Turns entries into tasks; each fault goes to `faults` with the place of its task."""

    def __init__(
        self,
        entries: Sequence[Entry],
        places: Sequence[str],
        references: Sequence[str],
        has_ids: bool,
        settings: Settings,
        faults: Faults,
    ) -> None:
        self.entries, self.places, self.has_ids = entries, places, has_ids
        self.settings, self.faults = settings, faults
        self.custom = custom_fields()
        self.ids = list(references) if has_ids else new_ids(len(entries))
        self.index: dict[str, int] = {}  # reference -> index of the first task that has it
        self.twice: dict[str, list[int]] = {}
        for at, reference in enumerate(references):
            if self.index.setdefault(reference, at) != at:
                self.twice.setdefault(reference, []).append(at)
        if has_ids:
            for reference, others in self.twice.items():
                for at in others:
                    faults.add(
                        places[at], f"id {reference!r} is that of tasks[{self.index[reference]}] already."
                    )
        self.dependency_count = 0

    def read(self, user_id: str | None) -> list[Task]:
        tasks = [self._task(at, entry) for at, entry in enumerate(self.entries)]
        if self.dependency_count > self.settings.max_dependencies:
            most = self.settings.max_dependencies
            self.faults.add("", f"{self.dependency_count} dependencies are too many: {most} are possible.")
        roots = [task for task in tasks if task.parent_id is None]
        owner = user_id or (roots[0].user_id if roots else None)
        for task in tasks:
            task.root_id = roots[0].id if roots else task.id
            task.user_id = task.user_id or owner
        parents = {task.parent_id for task in tasks}
        for task in tasks:
            task.has_children = task.id in parents
        return tasks

    def _task(self, at: int, entry: Entry) -> Task:
        where, faults, settings = self.places[at], self.faults, self.settings
        check_keys(entry, self.custom, where, faults)
        task = Task(
            id=self.ids[at],
            name=read_name(entry["name"], "", Faults()),
            root_id="",
            position=at,
            priority=read_priority(entry.get("priority"), where, faults),
            schemas=read_schemas(entry.get("schemas"), where, settings, faults),
            params=read_params(entry.get("params"), where, settings, faults),
            policy=read_policy(entry.get("policy"), where, faults),
            extra={n: read_custom(entry[n], n, where, settings, faults) for n in self.custom if n in entry},
        )
        for name in ("user_id", "original_task_id"):
            if entry.get(name) is not None:
                setattr(task, name, read_text(entry[name], name, where, faults))
        if entry.get("parent_id") is not None:
            task.parent_id = self._resolve(entry["parent_id"], "parent_id", where)
        dependencies = entry.get("dependencies")
        task.dependencies = self._dependencies(dependencies, where) if dependencies else []
        if dependencies is not None and not isinstance(dependencies, list | tuple):
            faults.add(where, f"dependencies must be a list, not {shown(dependencies)}.")
        task.inputs = self._inputs(entry.get("inputs"), task, where)
        _read_end(task, entry, where, settings, faults)
        return task

    def _resolve(self, reference: object, what: str, where: str) -> str | None:
        """Return the id that a reference stands for; None, and a fault, where it stands for none."""
        if not isinstance(reference, str) or not reference:
            self.faults.add(
                where, f"{what} must be {self._kind()} of a task of the array, not {shown(reference)}."
            )
            return ""
        at = self.index.get(reference)
        if at is None:
            self.faults.add(
                where, f"{what} {shown(reference)} is no task of the array.{self._advice(reference)}"
            )
            return ""
        if reference in self.twice and not self.has_ids:
            others = ", ".join(f"tasks[{each}]" for each in [at, *self.twice[reference]][:SHOWN])
            self.faults.add(
                where, f"{what} {reference!r} could be {others}. Make the name unique, or give ids."
            )
        return self.ids[at]

    def _kind(self) -> str:
        return "the id" if self.has_ids else "the name"

    def _advice(self, reference: str) -> str:
        if self.has_ids:
            for at, entry in enumerate(self.entries[:NEAR_LIMIT]):
                if entry["name"] == reference:
                    return f" tasks[{at}] has that name: use its id {self.ids[at]!r}."
        advice = (
            near(reference, self.index)
            if len(self.index) <= NEAR_LIMIT and len(self.faults.found) < 20
            else ""
        )
        if self.has_ids:
            return advice or " Use the id of one of its tasks."
        return advice or " No task has an id, so use the name of one of its tasks."

    def _dependencies(self, value: object, where: str) -> list[Dependency]:
        found: dict[str, Dependency] = {}
        for given in cast("Sequence[object]", value) if isinstance(value, list | tuple) else ():
            self.dependency_count += 1
            needed = read_dependency(given, where, self.faults)
            if needed is None:
                continue
            real = self._resolve(needed["id"], "dependency", where)
            if not real:
                continue
            if real in found:
                self.faults.add(where, f"dependency {needed['id']!r} is named twice. Name it once.")
            if not self.has_ids:
                needed["name"] = needed["id"]
            found[real] = cast("Dependency", {**needed, "id": real})
        return list(found.values())

    def _inputs(self, value: object, task: Task, where: str) -> dict[str, Json]:
        inputs = read_object(value, "inputs", where, self.settings, self.faults)
        if not inputs:
            return inputs
        real = {
            needed["id"] if self.has_ids else needed.get("name", ""): needed["id"]
            for needed in task.dependencies
        }
        check_sources(inputs, real.keys(), where, self.faults)
        return inputs if self.has_ids else remap_references(inputs, real)


def read_dependency(given: object, where: str, faults: Faults) -> Dependency | None:
    """Read one dependency: `"id"`, or `{"id": ..., "required": true}`."""
    if isinstance(given, str):
        return {"id": given, "required": True}
    if not isinstance(given, Mapping) or "id" not in given:
        faults.add(where, f'a dependency is "ID" or {{"id": "ID", "required": true}}, not {shown(given)}.')
        return None
    members = cast("Mapping[str, Json]", given)
    for key in members:
        if key not in ("id", "required", "name"):
            advice = near(key, ("id", "required", "name")) if isinstance(key, str) else ""
            faults.add(where, f"a dependency has no key {shown(key)}.{advice or ' There are: id, required.'}")
    required, name = members.get("required", True), members.get("name")
    if not isinstance(required, bool):
        faults.add(where, f"required of a dependency must be true or false, not {shown(required)}.")
    read: Dependency = {"id": members["id"], "required": required is True}
    if name is not None:
        if not isinstance(name, str) or not name:
            faults.add(where, f"name of a dependency must be text that is not empty, not {shown(name)}.")
        read["name"] = str(name)
    return read


def _read_end(task: Task, entry: Entry, where: str, settings: Settings, faults: Faults) -> None:
    """Read the status and the result of work that is done already, as copies bring it."""
    status, result = entry.get("status"), entry.get("result")
    if status not in (None, "pending", "completed"):
        faults.add(where, f"status can only be pending, or completed with a result, not {shown(status)}.")
    elif status == "completed":
        task.status, task.progress, task.completed_at = TaskStatus.COMPLETED, 1.0, utc_now()
        if result is not None:
            task.result = read_json(result, "result", where, settings, faults)
    elif result is not None:
        faults.add(where, 'a task has a result only with "status": "completed". Leave it out.')
