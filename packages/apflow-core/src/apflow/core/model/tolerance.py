"""Which failures of a tree are tolerated: those without which all their dependents may continue."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar, cast

from apflow.core.model.for_each import has_for_each
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import AFTER_ANY_END, Json, Task
from apflow.core.model.tree_index import TreeIndex

NodeT = TypeVar("NodeT", bound=Hashable)


def error_type(task: Task) -> str | None:
    """Return the `error_type` of a task's result, if it has one."""
    result = task.result
    if not isinstance(result, dict):
        return None
    found = cast("dict[str, Json]", result).get("error_type")
    return found if isinstance(found, str) else None


def tolerated(tasks: Sequence[Task]) -> set[str]:
    """Return the ids of the failed tasks that do not count against the tree.

    These are the failures that `decide_tolerance` tolerates, and what failed or was cancelled inside a group
    among them.
    """
    if not any(task.status == TaskStatus.FAILED for task in tasks):
        return set()
    index = TreeIndex(tasks)
    found = tolerated_failures(index)
    groups = [task_id for task_id in found if index.is_group(task_id)]
    inside = index.subtree(*groups) if groups else []
    ended_badly = (TaskStatus.FAILED, TaskStatus.CANCELLED)
    return found | {each for each in inside if index.by_id[each].status in ended_badly}


def _collected(index: TreeIndex) -> list[str]:
    """Return the completed tasks with `for_each`: few enough of their elements have failed."""
    return [
        task.id
        for task in index.by_id.values()
        if task.status == TaskStatus.COMPLETED and has_for_each(task) and task.id in index.children
    ]


def tolerated_failures(index: TreeIndex) -> set[str]:
    """Return the failed tasks that are tolerated themselves, without what is inside tolerated groups."""
    failed = {task.id for task in index.by_id.values() if task.status == TaskStatus.FAILED}
    if not failed:
        return set()
    collected = _collected(index)
    inside = index.subtree(*collected) if collected else []
    known = dict.fromkeys((each for each in inside if each in failed), True)

    def dependents_of(task_id: str) -> list[tuple[str, bool]]:
        found = index.dependents.get(task_id, ())
        return [(each, required) for each, required in found if not (required and _runs_anyway(index, each))]

    decide_tolerance(failed, dependents_of, failed.__contains__, known)
    return {each for each in failed if known[each]}


def _runs_anyway(index: TreeIndex, task_id: str) -> bool:
    return index.by_id[task_id].policy.get("trigger") in AFTER_ANY_END


def decide_tolerance(
    failures: Iterable[NodeT],
    dependents_of: Callable[[NodeT], Sequence[tuple[NodeT, bool]]],
    has_failed: Callable[[NodeT], bool],
    known: dict[NodeT, bool],
) -> None:
    """Decide which failures are tolerated, in time linear in their dependents.

    A failure is tolerated when it has dependents, and each of them is optional on it or is itself a
    tolerated failure. A task that runs after any end of what it requires says nothing about it: it is not
    among the dependents.

    Args:
        failures: the failures to decide. Those that depend on them are decided as well.
        dependents_of: what depends on a node, and whether it requires the node.
        has_failed: whether a node has failed.
        known: the decisions. Those that it holds are not made again.
    """
    objections: dict[NodeT, int] = {}  # failure -> dependents that require it and are not tolerated (yet)
    requires: dict[NodeT, list[NodeT]] = {}  # failure -> the failures that it requires
    tolerated_ones: list[NodeT] = []
    undecided = list(failures)
    while undecided:
        failure = undecided.pop()
        if failure in known:
            continue
        known[failure] = False
        dependents = dependents_of(failure)
        objections[failure] = 0
        for dependent, is_required in dependents:
            if is_required and not known.get(dependent, False):
                objections[failure] += 1
                if has_failed(dependent):
                    requires.setdefault(dependent, []).append(failure)
                    undecided.append(dependent)
        if dependents and not objections[failure]:
            tolerated_ones.append(failure)
    while tolerated_ones:
        failure = tolerated_ones.pop()
        known[failure] = True
        for needed in requires.get(failure, ()):
            objections[needed] -= 1
            if not objections[needed]:
                tolerated_ones.append(needed)
