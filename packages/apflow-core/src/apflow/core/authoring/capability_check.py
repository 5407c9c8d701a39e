"""Refuses tasks that are not within `APFLOW_ALLOWED_CAPABILITIES`: early for whole trees, and at each call.

What is refused early is what the tasks themselves say. At the call, everything is known, whatever wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from apflow.core.authoring.array_validation import place_of
from apflow.core.errors import CapabilityRefusedError
from apflow.core.extensions.registry import executor_is_known
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Json, Task
from apflow.core.permissions.capability_policy import CapabilityPolicy, capability_policy
from apflow.core.planning.capabilities import Use, refusals, uses_in, uses_of
from apflow.core.planning.fan_out import called_tasks


def check_tree(tasks: Sequence[Task]) -> None:
    """Check the tasks of a tree before they are stored or submitted.

    Raises:
        CapabilityRefusedError: a task names what is not allowed; `violations` lists all of it.
    """
    found = capability_faults(tasks)
    if found:
        raise CapabilityRefusedError("The tasks are refused", found)


def capability_faults(tasks: Sequence[Task]) -> list[str]:
    """Return what tasks name that is not allowed, each with its place, such as "tasks[2] ('fetch'): ..."."""
    policy = capability_policy()
    if policy is None:
        return []
    return [
        f"{place_of(index, task.name)}: {fault}"
        for index, task in enumerate(tasks)
        if task.status not in TERMINAL
        for each in called_tasks([task], executor_is_known)
        for fault in refusals(uses_of(each), task.key, policy)
    ]


def check_executor(task: Task, policy: CapabilityPolicy) -> None:
    """Check that a task may use its executor.

    Raises:
        CapabilityRefusedError: it is not allowed.
    """
    _check(task, [Use("executors", str(task.executor), "executor")], policy)


def check_values(task: Task, values: Json, written: Json, place: str, policy: CapabilityPolicy) -> None:
    """Check what an executor is about to get; see `uses_in`.

    Raises:
        CapabilityRefusedError: the values name what is not allowed.
    """
    uses = uses_in(cast("dict[str, Json]", values), cast("dict[str, Json]", written), place)
    _check(task, uses, policy)


def _check(task: Task, uses: Iterable[Use], policy: CapabilityPolicy) -> None:
    found = list(refusals(uses, task.key, policy))
    if found:
        raise CapabilityRefusedError(f"Task {task.key!r} is refused", found)
