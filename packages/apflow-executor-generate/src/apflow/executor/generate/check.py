"""What is wrong with a generated tree: the checks of `TaskCreator`, and those that a run would make. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from apflow.core.authoring.array_validation import check_array
from apflow.core.errors import ApflowError, TreeInvalidError, ValidationError
from apflow.core.model.task import Task
from apflow.core.payload.schema import compile_schema
from apflow.core.planning.deadlock import find_deadlock
from apflow.core.planning.plan import choose_executor
from apflow.core.settings import Settings

Json = Any
Inputs = dict[str, Json]
Schemas = Mapping[str, Json]  # the input schema of each executor that may be used; None: any inputs

REFERENCES = ("$from", "$secret")
# What an entry of a generated array may have; the rest belongs to the store.
FIELDS = frozenset(
    {"id", "name", "parent_id", "schemas", "params", "inputs", "dependencies", "priority", "policy"}
)


def tasks_of(value: Json) -> list[dict[str, Json]] | None:
    """Return the array of an answer: `{"tasks": [...]}`, or the array itself; None if there is none.

    Fields with the value null are left out, as if they had not been given.
    """
    found = cast("Inputs", value).get("tasks") if isinstance(value, dict) else value
    if not isinstance(found, list) or not found:
        return None
    entries = cast("list[Json]", found)
    if not all(isinstance(each, dict) for each in entries):
        return None
    return [{name: part for name, part in each.items() if part is not None} for each in entries]


def faults_of(value: Json, schemas: Schemas, settings: Settings) -> list[str]:
    """Return what keeps the array of an answer from being a tree that runs."""
    tasks = tasks_of(value)
    if tasks is None:
        return ['answer: must be {"tasks": [...]} with one object per task']
    faults = [
        f"tasks[{at}]: {name!r} is not a field of a task; the fields are {', '.join(sorted(FIELDS))}"
        for at, task in enumerate(tasks)
        for name in task
        if name not in FIELDS
    ]
    try:
        checked = check_array(tasks, settings)
    except TreeInvalidError as error:
        return faults + (list(error.violations) or [str(error)])
    except ApflowError as error:
        return [*faults, str(error)]
    parents = {task.get("parent_id") for task in tasks}
    for at, task in enumerate(tasks):
        reference = task.get("id", task.get("name"))
        where = f"tasks[{at}] ({reference})"
        faults += _faults_of_executor(task, where, schemas, has_children=reference in parents)
    return faults or _deadlock(checked, schemas)


def _deadlock(tasks: Sequence[Task], schemas: Schemas) -> list[str]:
    """Return the fault that tasks wait for each other, because a group waits for what is in it."""
    parents = {task.parent_id for task in tasks}
    for task in tasks:
        task.has_children = task.id in parents
        task.executor = choose_executor(task, schemas.__contains__)
    names = {task.id: task.name for task in tasks}
    waiting = [repr(names[each]) for each in find_deadlock(tasks)]
    return [f"answer: these tasks wait for each other: {', '.join(waiting)}"] if waiting else []


def _faults_of_executor(task: Inputs, where: str, schemas: Schemas, *, has_children: bool) -> list[str]:
    """Return what is wrong with the executor of a task, and with its inputs."""
    params: Inputs = task.get("params") or {}
    schemas_of_task: Inputs = task.get("schemas") or {}
    named: Json = params.get("executor_id") or schemas_of_task.get("method")
    executor: Json = named or (task["name"] if task["name"] in schemas else None)
    if executor is None:
        fault = f"{where}: names no executor in schemas.method, and has no children"
        return [] if has_children else [fault]
    if executor not in schemas:
        return [f"{where}: there is no executor {executor!r}; the executors are {', '.join(sorted(schemas))}"]
    return [f"{where}: {fault}" for fault in faults_of_inputs(task.get("inputs") or {}, schemas[executor])]


def faults_of_inputs(inputs: Inputs, schema: Json) -> list[str]:
    """Return how inputs break a schema. What a reference stands for is known only in the run."""
    if not schema:
        return []
    unknown = [name for name, value in inputs.items() if has_reference(value)]
    properties: Inputs = {**schema.get("properties", {}), **dict.fromkeys(unknown, True)}
    compiled = compile_schema({**schema, "properties": properties})
    if compiled is None:
        return []
    known: Inputs = {**inputs, **dict.fromkeys(unknown)}
    compiled.fill_defaults(known)
    try:
        compiled.validate(known)
    except ValidationError as error:
        return list(error.violations) or [str(error)]
    return []


def has_reference(value: Json) -> bool:
    """Return whether a value is or holds a reference to a result or a secret."""
    waiting: list[Json] = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if any(name in each for name in REFERENCES):
                return True
            waiting.extend(cast("Inputs", each).values())
        elif isinstance(each, list):
            waiting.extend(cast("Sequence[Json]", each))
    return False
