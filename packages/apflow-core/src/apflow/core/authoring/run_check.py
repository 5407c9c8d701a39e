"""Finds what would make tasks of a tree fail before their code runs.

Only what is certain is reported. An executor that this process does not have may exist in another one, so
interfaces that run trees elsewhere must not refuse a tree because of this check.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from apflow.core.authoring.array_validation import place_of
from apflow.core.concurrency.containment import call_contained
from apflow.core.errors import ApflowError, InvalidInputError
from apflow.core.extensions.hooks import Hooks
from apflow.core.extensions.registry import ExecutorEntry, advise, executor_is_known, get_executor
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import GROUP, Json, Task, utc_now
from apflow.core.payload.elements import refers_to_elements
from apflow.core.payload.inputs import build_inputs, find_references
from apflow.core.payload.schema import compile_schema, narrowed
from apflow.core.payload.secrets import named_secrets
from apflow.core.planning.fan_out import templates_within
from apflow.core.planning.plan import choose_executor
from apflow.core.process.error_text import describe_error


def check_runnable(
    tasks: Sequence[Task],
    unchecked: Collection[int] = (),
    is_known: Callable[[str], bool] = executor_is_known,
) -> list[str]:
    """Return the violations of the tasks of one tree, each with its place, such as "tasks[2] ('fetch'): ...".

    Reported are executors that do not exist or cannot be loaded, params that an executor does not accept, and
    invalid inputs. Inputs are checked if they are complete: the task depends on no other task, its inputs and
    params name no secret, and there is no pre-hook, which could change them.

    Args:
        unchecked: indexes of tasks to leave out.
        is_known: returns whether an executor exists, here or in a process that makes calls for this one.
    """
    checks_inputs = not Hooks.current().has_pre
    return [
        f"{place_of(index, task.name)}: {fault}"
        for index, task in enumerate(tasks)
        if index not in unchecked
        for fault in (
            *_faults(task, is_known, checks_inputs=checks_inputs),
            *_faults_of_template(task, is_known, checks_inputs=checks_inputs),
        )
    ]


def _faults_of_template(task: Task, is_known: Callable[[str], bool], *, checks_inputs: bool) -> Iterator[str]:
    """Yield the faults of the tasks of which the elements of a task with `for_each` are instances."""
    for each in templates_within([task]) if task.status not in TERMINAL else ():
        place = f"for_each.tasks {each.name!r}: " if each.id else ""
        for fault in _faults(each, is_known, checks_inputs=checks_inputs):
            yield place + fault


def _faults(task: Task, is_known: Callable[[str], bool], *, checks_inputs: bool) -> Iterator[str]:
    executor_id = choose_executor(task, is_known)
    if executor_id == GROUP or task.status in TERMINAL:
        return
    if executor_id is None:
        yield f"no executor is called {task.name!r}. {advise(task.name)}"
        return
    if is_known(executor_id) and not executor_is_known(executor_id):
        return  # another process checks the rest
    try:
        entry = get_executor(executor_id)
    except ApflowError as error:
        yield str(error)
        return
    is_complete = not named_secrets(task.params) and not refers_to_elements(task.params)
    if not task.dependencies and is_complete:
        yield from _input_faults(task, entry, checks_inputs=checks_inputs)


def _input_faults(task: Task, entry: ExecutorEntry, *, checks_inputs: bool) -> Iterator[str]:
    try:
        executor = call_contained(lambda: entry.make(task.params))
        schema = narrowed(compile_schema(task.schemas.get("input_schema")), entry.schema_of(executor))
        if checks_inputs and schema is not None and _is_complete(task.inputs):
            schema.validate(build_inputs(task, {}, {}, schema, scheduled_at=utc_now()))
    except InvalidInputError as error:
        yield from error.violations or [str(error)]
    except Exception as error:  # noqa: BLE001 - the border to users' code
        yield f"executor {entry.executor_id!r} cannot be created: {describe_error(error)}"


def _is_complete(inputs: dict[str, Json]) -> bool:
    return not find_references(inputs) and not named_secrets(inputs) and not refers_to_elements(inputs)
