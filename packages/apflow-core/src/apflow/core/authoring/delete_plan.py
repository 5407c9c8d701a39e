"""What may be deleted, and the one change that deletes it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.errors import ConflictError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, task_label
from apflow.core.model.tree_index import TreeIndex
from apflow.core.store.base import Change, Transition


def plan_deletion(tasks: Sequence[Task], task_id: str, *, force: bool = False) -> Change:
    """Return the change that deletes a task and all below it, provided that nothing has moved since.

    Args:
        tasks: the whole tree.
        task_id: one of them.
        force: delete tasks that have ended, too.

    Raises:
        ConflictError: some of it may not be deleted; every reason is named.
    """
    index = TreeIndex(tasks)
    doomed = index.subtree(task_id)
    faults = _faults(index, doomed, force)
    if faults:
        raise ConflictError(f"Task {task_id!r} cannot be deleted: {'; '.join(faults)}.")
    checks = [_unchanged(index.by_id[each]) for each in doomed]
    return Change(moves=[*checks, *_above(index, task_id)], remove=doomed, is_strict=True)


def _unchanged(task: Task) -> Transition:
    expects: dict[str, Json] = {"status": task.status}
    if task.id == task.root_id:
        expects["run_requested_at"] = None
    return Transition(task.id, task.root_id, expects, {})


def _faults(index: TreeIndex, doomed: Sequence[str], force: bool) -> list[str]:
    gone = set(doomed)
    root = index.by_id[index.by_id[doomed[0]].root_id]
    faults = ["a run of its tree is requested (cancel it first)"] if root.run_requested_at is not None else []
    for each in doomed:
        task = index.by_id[each]
        if TaskStatus.is_active(task.status):
            faults.append(f"{task_label(task)} is in progress")
        elif TaskStatus.is_terminal(task.status) and not force:
            faults.append(f"{task_label(task)} is {task.status} (force deletes it all the same)")
        waiting = [index.by_id[waiter] for waiter, _ in index.dependents.get(each, ()) if waiter not in gone]
        faults.extend(f"{task_label(waiter)} depends on {task.name!r}" for waiter in waiting)
    return faults


def _above(index: TreeIndex, task_id: str) -> list[Transition]:
    """Return the moves on the tasks above: no run may begin, and a parent may lose its last child."""
    task = index.by_id[task_id]
    if task.parent_id is None:
        return []
    root = index.by_id[task.root_id]
    moves = {root.id: Transition(root.id, root.id, {"run_requested_at": None}, {})}
    if index.children[task.parent_id] == [task_id]:
        expects = {"run_requested_at": None} if task.parent_id == root.id else {}
        moves[task.parent_id] = Transition(task.parent_id, root.id, expects, {"has_children": False})
    return list(moves.values())
