"""What may be deleted, and the one change that deletes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from apflow.core.errors import ConflictError
from apflow.core.model import approval
from apflow.core.model.budget import RECORDS
from apflow.core.model.for_each import has_for_each
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, task_label
from apflow.core.model.tree_index import TreeIndex
from apflow.core.planning.child_trees import ids_of_children
from apflow.core.store.base import Change, Record, TaskStore, Transition
from apflow.core.store.tree_records import KIND, keys_of
from apflow.core.webhooks import kinds

# Kinds of records that belong to one tree. Webhooks and approvals are found by their kinds, too.
KINDS_OF_TREES: Final = (KIND, kinds.KIND, kinds.ENDED_KIND, approval.KIND, approval.DECIDED_KIND)


async def read_deletion(store: TaskStore, tasks: Sequence[Task], task_id: str, *, force: bool) -> Change:
    """Read the trees that the tasks to delete have started, and return what `plan_deletion` does.

    Args:
        tasks: the whole tree of the task.
    """
    index = TreeIndex(tasks)
    trees: list[list[Task]] = []
    waiting = [index.by_id[each] for each in index.subtree(task_id)]
    while waiting:
        parents = {task.id for task in waiting}
        ids = ids_of_children(waiting)
        roots = await store.get(ids) if ids else {}
        found = [await store.tree(root.id) for root in roots.values() if root.spawned_by in parents]
        trees += [tree for tree in found if tree]
        waiting = [task for tree in found for task in tree]
    spawned_by = index.by_id[task_id].spawned_by
    parent = (await store.get([spawned_by])).get(spawned_by) if spawned_by is not None else None
    return plan_deletion(tasks, task_id, force=force, trees=trees, parent=parent)


def plan_deletion(
    tasks: Sequence[Task],
    task_id: str,
    *,
    force: bool = False,
    trees: Sequence[Sequence[Task]] = (),
    parent: Task | None = None,
) -> Change:
    """Return the change that deletes a task and all below it, provided that nothing has moved since.

    Args:
        tasks: the whole tree.
        task_id: one of them.
        force: delete tasks that have ended, too.
        trees: the trees that these tasks have started; they are deleted, too.
        parent: the task of another tree that started this one.

    Raises:
        ConflictError: some of it may not be deleted; every reason is named.
    """
    index = TreeIndex(tasks)
    doomed = index.subtree(task_id)
    faults = _faults(index, doomed, force)
    checks = [_unchanged(index.by_id[each]) for each in doomed]
    moves = [*checks, *_above(index, task_id)]
    for tree in trees:
        of_tree = TreeIndex(tree)
        root_id = tree[0].root_id
        faults += [
            f"tree {root_id!r}, which it started: {each}" for each in _faults(of_tree, _ids(tree), force)
        ]
        moves += [_unchanged(task) for task in tree]
        doomed = [*doomed, *_ids(tree)]
    if parent is not None:
        if TaskStatus.is_active(parent.status):
            faults.append(f"{parent.name!r} ({parent.id}), which started the tree, is in progress")
        moves.append(_without_child(parent, task_id))
    if faults:
        raise ConflictError(f"Task {task_id!r} cannot be deleted: {'; '.join(faults)}.")
    return Change(moves=moves, remove=doomed, is_strict=True)


async def delete_tasks(store: TaskStore, tasks: Sequence[Task], task_id: str, *, force: bool) -> int:
    """Delete a task and everything below it, with what belongs to them; return the number of deleted tasks.

    Args:
        tasks: the whole tree of the task.
        force: delete tasks that have ended, too.

    Raises:
        ConflictError: some of it may not be deleted, or was changed meanwhile.
    """
    change = await read_deletion(store, tasks, task_id, force=force)
    records = await records_of(store, change)
    await store.write(change)
    await forget(store, tasks, change, records)
    return len(change.remove)


async def records_of(store: TaskStore, change: Change) -> list[Record]:
    """Return the records that belong to the trees that a deletion removes as a whole.

    They are read before the deletion, so that those of a later tree with the same ID are never removed.
    """
    gone = set(change.remove)
    roots = {move.root_id for move in change.moves} & gone
    return [
        record
        for root_id in roots
        for kind in KINDS_OF_TREES
        for record in await store.records(kind, prefix=keys_of(root_id))
        if cast("dict[str, Json]", record.value).get("root_id") == root_id
    ]


async def forget(store: TaskStore, tasks: Sequence[Task], change: Change, records: Sequence[Record]) -> None:
    """Remove what is kept beside deleted tasks: the accounts of their budgets, and the records of trees.

    Args:
        tasks: the tree that the tasks were in.
        change: the deletion, which is written.
        records: what `records_of` has returned before.
    """
    gone = set(change.remove)
    for task in tasks:
        if task.id in gone and task.policy.get("budget"):
            await store.remove_record(RECORDS, task.id)
    for record in records:
        await store.remove_record(record.kind, record.key, version=record.version)


def _ids(tree: Sequence[Task]) -> list[str]:
    return [task.id for task in tree]


def _without_child(parent: Task, root_id: str) -> Transition:
    left = [each for each in parent.child_trees or () if each["id"] != root_id]
    return Transition(parent.id, parent.root_id, {"status": parent.status}, {"child_trees": left or None})


def _unchanged(task: Task) -> Transition:
    expects: dict[str, Json] = {"status": task.status}
    if task.id == task.root_id:
        expects["run_requested_at"] = None
    return Transition(task.id, task.root_id, expects, {})


def _faults(index: TreeIndex, doomed: Sequence[str], force: bool) -> list[str]:
    gone = set(doomed)
    root = index.by_id[index.by_id[doomed[0]].root_id]
    faults = ["a run of its tree is requested (cancel it first)"] if root.run_requested_at is not None else []
    parent = index.by_id.get(index.by_id[doomed[0]].parent_id or "")
    if parent is not None and has_for_each(parent):
        faults.append(f"it is an element of {task_label(parent)} (delete that, or fork the tree)")
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
