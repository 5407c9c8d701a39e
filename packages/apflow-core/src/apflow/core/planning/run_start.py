"""Prepares a run: resets tasks, chooses executors, and recovers tasks of a dead process. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apflow.core.model.event import EventType
from apflow.core.model.for_each import has_for_each
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import GROUP, ONLY_WAITS, Json, Task
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.fan_out import templates_within
from apflow.core.planning.outcome import INTERRUPTED, cancelled, failed, interrupted
from apflow.core.planning.plan import choose_executor
from apflow.core.planning.rerun import plan_rerun
from apflow.core.planning.scope import in_scope_ids

PENDING, IN_PROGRESS = TaskStatus.PENDING, TaskStatus.IN_PROGRESS


def has_unended_run(root: Task) -> bool:
    """Return whether a run of the tree was requested and has not ended."""
    return root.run_requested_at is not None and root.run_ended_at is None


def is_unstarted(tasks: Sequence[Task], root: Task) -> bool:
    """Return whether no task of the requested run has started, so that no process has abandoned it."""
    return all(task.started_at is None for task in in_scope(tasks, root.run_scope))


def begin_run(
    tasks: Sequence[Task],
    root: Task,
    batch: ChangeSet,
    *,
    named_id: str | None,
    force: bool,
    is_known: Callable[[str], bool],
    no_cache: bool = False,
) -> list[str] | None:
    """Add the request of a new run to the batch and return its scope (None: the whole tree)."""
    decide_executors(tasks, batch, is_known, again=True)
    return request_run(tasks, root, batch, named_id=named_id, force=force, no_cache=no_cache)


def request_run(
    tasks: Sequence[Task],
    root: Task,
    batch: ChangeSet,
    *,
    named_id: str | None,
    force: bool,
    no_cache: bool = False,
) -> list[str] | None:
    """Add the request of a run to the batch and return its scope. The worker chooses the executors.

    Args:
        no_cache: make every task call its executor, whatever results are cached; so does `force`.
    """
    rerun = plan_rerun(tasks, named_id, force)
    by_id = {task.id: task for task in tasks}
    for task_id in rerun.reset:
        batch.reset(by_id[task_id])
    batch.removed.extend(rerun.removed)
    for task_id in rerun.removed:
        batch.moves.pop(task_id, None)  # the choice of its executor
    for task_id in rerun.emptied:
        batch.put(by_id[task_id], {}, {"has_children": False})
    expects: dict[str, Json] = {"run_requested_at": root.run_requested_at, "run_ended_at": root.run_ended_at}
    sets: dict[str, Json] = {
        "run_requested_at": batch.now,
        "run_scope": rerun.scope,
        "run_owner": batch.owner,
        "run_ended_at": None,
    }
    if root.run_ignores_cache != (no_cache or force):
        sets["run_ignores_cache"] = no_cache or force
    batch.put(root, expects, sets)
    batch.moves[root.id].events += (batch.event(EventType.TREE_STARTED, root),)
    return rerun.scope


def take_over(
    tasks: Sequence[Task],
    root: Task,
    batch: ChangeSet,
    *,
    is_known: Callable[[str], bool],
    effect: Callable[[Task], str],
    max_interruptions: int,
) -> None:
    """Add the takeover of a run to the batch: set a new owner, and end or reset its running tasks."""
    decide_executors(tasks, batch, is_known, again=is_unstarted(tasks, root))
    for task in tasks:
        if task.status is IN_PROGRESS and task.executor != GROUP:
            recover_task(task, batch, effect(task), max_interruptions)
    names = ("run_owner", "run_requested_at", "lease_until")  # if the lease was renewed, its owner is alive
    batch.put(root, {name: getattr(root, name) for name in names}, {"run_owner": batch.owner})


def recover_task(task: Task, batch: ChangeSet, effect: str, max_interruptions: int) -> None:
    """Reset or end a task that a dead process had started."""
    if task.cancel_requested_at is not None:
        batch.end(task, cancelled(task.error))
    elif task.not_before is not None:
        batch.put_back(task)
    elif effect == ONLY_WAITS:
        batch.interrupt(task, counts=False)
    elif effect == "once":
        batch.end(task, interrupted("Its process died, or gave no sign of life, during the call"))
    elif task.interruptions >= max_interruptions:
        message = f"Its process died during the call {task.interruptions + 1} times"
        batch.end(task, failed(INTERRUPTED, message))
    else:
        batch.interrupt(task, counts=True)


def decide_executors(
    tasks: Sequence[Task], batch: ChangeSet, is_known: Callable[[str], bool], *, again: bool
) -> None:
    """Store the executor of each task that may start. A resumed run keeps the executors chosen before."""
    for task in tasks:
        if task.executor is not None and not again:
            continue
        executor = choose_executor(task, is_known)
        if executor != task.executor and task.status is not IN_PROGRESS:
            batch.put(task, {"status": task.status, "generation": task.generation}, {"executor": executor})


def in_scope(tasks: Sequence[Task], scope: Sequence[str] | None) -> Sequence[Task]:
    """Return the tasks of a run's scope; None means all of them."""
    if scope is None:
        return tasks
    within = in_scope_ids(tasks, scope)
    return [task for task in tasks if task.id in within]


def has_work(tasks: Sequence[Task], scope: Sequence[str] | None) -> bool:
    """Return whether a run of this scope has any task to run."""
    return any(task.status not in TERMINAL for task in in_scope(tasks, scope))


def missing_executors(
    tasks: Sequence[Task], scope: Sequence[str] | None, is_known: Callable[[str], bool]
) -> list[str]:
    """Return the executor ids that this process lacks for the scope, and names of tasks without executor."""
    missing: dict[str, None] = {}
    waiting = [task for task in in_scope(tasks, scope) if task.status not in TERMINAL]
    creating = {task.id: task for task in waiting if has_for_each(task)}
    for task in tasks if creating else ():  # tasks that have elements create none
        creating.pop(task.parent_id or "", None)
    for task in [*waiting, *templates_within(list(creating.values()))]:
        executor = task.executor or choose_executor(task, is_known) or task.name
        if executor != GROUP and not is_known(executor):
            missing[executor] = None
    return list(missing)
