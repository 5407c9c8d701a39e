"""Making stored trees a part of the tree below which their nodes were hung in memory.

`root.add_child(TaskTreeNode(task))` only arranges nodes. Before the tree is run, what hangs in it and is the
root of another stored tree becomes a part of it, so that each node is run or refused, and none is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from apflow.core.authoring.keys import unique_keys
from apflow.core.errors import ConflictError, InvalidInputError, MoveLostError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, task_label, utc_now
from apflow.core.model.tree import TaskTreeNode
from apflow.core.permissions.origin import as_json, authors_of
from apflow.core.settings import get_settings
from apflow.core.store.base import Change, TaskStore, Transition
from apflow.core.store.rules import created_event

ADVICE = "Only the root of a stored tree that has never run, of the same user, can be added as a child."


async def adopt(db: TaskStore, node: TaskTreeNode) -> None:
    """Make what hangs below a node, and is the root of another stored tree, a part of the node's tree.

    Raises:
        InvalidInputError: a node cannot become part of the tree; `violations` names each with the reason.
        ConflictError: a run of the tree is requested, or another process changed one of the trees.
    """
    _check_stored(node)
    foreign = {child.task.id: parent.task.id for parent, child in _foreign(node)}
    if not foreign:
        return
    root_id = node.task.root_id
    tree = await db.existing_tree(root_id, node.task.id)
    others = {task_id: await db.tree(task_id) for task_id in foreign}
    change = plan_adoption(
        tree, foreign, others, names={each.task.id: each.task.name for each in node.walk()}
    )
    try:
        await db.write(change)
    except MoveLostError as error:
        raise ConflictError(
            f"Another process changed one of the trees at the same moment. {error}"
        ) from error


def _check_stored(node: TaskTreeNode) -> None:
    """Refuse nodes whose tasks no store has given: their runs would leave no trace."""
    faults = [
        f"{task_label(each.task)}: it is not stored. Create it with TaskRepository.create_task."
        for each in node.walk()
        if each.task.created_at is None and each is not node
    ]
    if faults:
        raise InvalidInputError(f"Tree {node.task.name!r} cannot be run: {' '.join(faults)}", faults)


def _foreign(node: TaskTreeNode) -> Iterator[tuple[TaskTreeNode, TaskTreeNode]]:
    """Yield the nodes that are in another stored tree than their parents, with these."""
    waiting = [node]
    while waiting:
        parent = waiting.pop()
        for child in () if parent.is_leaf else parent.children:
            if child.task.root_id != parent.task.root_id and child.task.root_id != node.task.root_id:
                yield parent, child
            waiting.append(child)


def plan_adoption(
    tree: Sequence[Task],
    parents: Mapping[str, str],
    others: Mapping[str, Sequence[Task]],
    names: Mapping[str, str],
) -> Change:
    """Return the change by which other trees become parts of a tree.

    Args:
        tree: the tree that they join.
        parents: the id of each task that joins, and the id of its new parent.
        others: for each task that joins, the stored tree of which it is the root.
        names: of the tasks, for messages.

    Raises:
        InvalidInputError: a task cannot join; `violations` names each with the reason.
        ConflictError: a run of the tree is requested.
    """
    root = next(task for task in tree if task.id == task.root_id)
    faults = [
        f"{names[task_id]!r} ({task_id}): {fault}."
        for task_id in parents
        if (fault := _fault(root, others[task_id])) is not None
    ]
    count = len(tree) + sum(map(len, others.values()))
    if count > get_settings().max_tasks:
        faults.append(f"the tree would have {count} tasks; max_tasks is {get_settings().max_tasks}.")
    if faults:
        message = f"Tree {task_label(root)} cannot be run with these nodes: {' '.join(faults)} {ADVICE}"
        raise InvalidInputError(message, faults)
    if root.run_requested_at is not None:
        raise ConflictError(
            f"A run of tree {task_label(root)} is requested, so that no task can join it. "
            "Wait for its end, or cancel it first."
        )
    moves: dict[str, Transition] = {
        root.id: _signed(root, [each for tree in others.values() for each in tree])
    }
    used = {task.key for task in tree}
    for task_id, parent_id in parents.items():
        keys = unique_keys([task.key for task in others[task_id]], used)
        used.update(keys)
        for task, key in zip(others[task_id], keys, strict=True):
            new_parent = parent_id if task.id == task_id else task.parent_id
            moves[task.id] = _joining(task, root, new_parent, key)
    for parent_id in parents.values():
        _mark_parent(parent_id, root.id, moves)
    return Change(moves=list(moves.values()), is_strict=True)


def _fault(root: Task, other: Sequence[Task]) -> str | None:
    """Return why a tree cannot become a part of another one, or None."""
    if not other:
        return "it is not the root of a stored tree"
    top = next(task for task in other if task.id == task.root_id)
    if any(task.user_id not in (None, root.user_id) for task in other):
        return f"it belongs to user {top.user_id!r}, not {root.user_id!r}"
    has_run = top.run_requested_at is not None or top.run_ended_at is not None
    if has_run or any(task.status != TaskStatus.PENDING for task in other):
        return "it has run, or a run of it is requested"
    return None


def _signed(root: Task, joining: Sequence[Task]) -> Transition:
    """Return the move of the root, which from now on has the authors of the trees that join as well."""
    written = [task for task in (root, *joining) if task.id == task.root_id]
    known = [authors_of(each) for each in written]
    expects: dict[str, Json] = {"run_requested_at": None, "written_by": root.written_by}
    if not any(authors is not None for authors in known):
        return Transition(root.id, root.id, expects, {})
    together = dict.fromkeys(author for authors in known for author in authors or ())
    return Transition(root.id, root.id, expects, {"written_by": as_json(tuple(together))})


def _joining(task: Task, root: Task, parent_id: str | None, key: str) -> Transition:
    joined = task.copy()
    joined.root_id, joined.parent_id, joined.key = root.id, parent_id, key
    expects: dict[str, Json] = {
        "status": task.status, "generation": task.generation, "parent_id": task.parent_id,
        "run_requested_at": None,
    }  # fmt: skip
    sets: dict[str, Json] = {
        "root_id": root.id, "parent_id": parent_id, "user_id": task.user_id or root.user_id, "executor": None,
        "written_by": None, "updated_at": utc_now(),
    }  # fmt: skip
    if key != task.key:
        sets["key"] = key
    return Transition(task.id, task.root_id, expects, sets, (created_event(joined, utc_now()),))


def _mark_parent(parent_id: str, root_id: str, moves: dict[str, Transition]) -> None:
    known = moves.get(parent_id, Transition(parent_id, root_id, {}, {}))
    sets = {**known.sets, "has_children": True}
    moves[parent_id] = Transition(parent_id, known.root_id, known.expects, sets, known.events)
