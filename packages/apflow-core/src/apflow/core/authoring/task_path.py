"""Naming a task by a path: the id or the key of its root, a slash, and the key of the task.

`bill/apples` is the task with the key `apples` in the tree whose root has the id or the key `bill`. The id of
a root takes no precedence over a key: after the deletion of a tree, no path means a task of another tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from apflow.core.authoring.field_validation import MAX_TEXT
from apflow.core.authoring.violation import near
from apflow.core.errors import AmbiguousTaskError, NotFoundError
from apflow.core.model.ids import is_generated
from apflow.core.model.task import Task
from apflow.core.store.base import TaskQuery, TaskStore

MAX_SPLITS = 8  # slashes at which a path is divided: ids and keys may contain some
MAX_ROOTS = 10  # trees with one key among which a task is looked for
MAX_KEYS = 1000  # keys of a tree that are compared with an unknown one


async def find_by_path(store: TaskStore, path: str, user_id: str | None = None) -> Task:
    """Return the task that a path names.

    Args:
        store: where to look.
        path: `ROOT/KEY`: the id or the key of a root, and the key or the id of a task of its tree.
        user_id: the user whose tasks are looked at; None: all tasks.

    Raises:
        NotFoundError: no task has this path.
        AmbiguousTaskError: several tasks have it; the message lists them.
    """
    found: dict[str, Task] = {}
    missing: NotFoundError | None = None
    for head, key in _splits(path):
        roots = await _roots(store, path, head, user_id)
        for root in roots:
            found |= {task.id: task for task in await _of_tree(store, root, key, user_id)}
        if roots and not found:
            missing = await _missing(store, path, roots[0], key, user_id)
    if len(found) > 1:
        raise ambiguous(path, found.values())
    if not found:
        raise missing or NotFoundError(path)
    return next(iter(found.values()))


def ambiguous(name: str, tasks: Iterable[Task]) -> AmbiguousTaskError:
    """Return the error that lists the tasks that a name could mean."""
    return AmbiguousTaskError(name, {task.id: describe(task) for task in tasks})


def describe(task: Task) -> str:
    """Return the id of a task with what distinguishes it from others of the same name."""
    created = "" if task.created_at is None else f", created {task.created_at:%Y-%m-%d %H:%M:%S} UTC"
    tree = "" if task.id == task.root_id else f" in tree {task.root_id}"
    return f"{task.id}{tree} ({task.status}{created})"


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """Yield each way to divide a path into a root and a key."""
    at = -1
    for _ in range(MAX_SPLITS):
        at = path.find("/", at + 1)
        if at < 0:
            return
        head, key = path[:at], path[at + 1 :]
        if 0 < len(head) <= MAX_TEXT and 0 < len(key) <= MAX_TEXT:
            yield head, key


async def _roots(store: TaskStore, path: str, head: str, user_id: str | None) -> list[Task]:
    """Return the roots that the first part of a path can mean."""
    named = (await store.get([head])).get(head)
    is_root = named is not None and named.id == named.root_id and user_id in (None, named.user_id)
    roots = {head: named} if named is not None and is_root else {}
    if roots and is_generated(head):
        return list(roots.values())  # a new id; the key of a tree could be the same only by intent
    query = TaskQuery(key=head, root_only=True, user_id=user_id, limit=MAX_ROOTS + 1, order="-created_at")
    roots |= {root.id: root for root in await store.find(query)}
    if len(roots) > MAX_ROOTS:
        raise ambiguous(path, roots.values())
    return list(roots.values())


async def _of_tree(store: TaskStore, root: Task, key: str, user_id: str | None) -> list[Task]:
    """Return the tasks of a tree with a key, else the one with that id."""
    query = TaskQuery(root_id=root.id, key=key, user_id=user_id, limit=MAX_ROOTS)
    if found := await store.find(query):
        return found
    task = (await store.get([key])).get(key)
    is_there = task is not None and task.root_id == root.id and user_id in (None, task.user_id)
    return [task] if task is not None and is_there else []


async def _missing(store: TaskStore, path: str, root: Task, key: str, user_id: str | None) -> NotFoundError:
    """Return the error for a tree that has no such key, with the key that was probably meant."""
    tasks = await store.find(TaskQuery(root_id=root.id, user_id=user_id, limit=MAX_KEYS))
    advice = near(key, [task.key for task in tasks]) or " `apflow tasks tree` shows its tasks."
    return NotFoundError(path, f"Tree {root.key!r} ({root.id}) has no task {key!r}.{advice}")
