"""The trees that a task starts: what the task stores about them, and the transitions that link both. Pure.

A task lists its trees in `child_trees`, one entry for each: the `id` of the root, the `key` of the tree
within the task, the `generation` of the task, and the `attempt` that last ran the tree (None: created, but
not run by the task). The root of such a tree names the task in `spawned_by`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.planning.run_start import has_unended_run
from apflow.core.store.base import Transition

Entry = dict[str, Json]

MAX_CHILD_TREES = 1000  # of one task: every entry is written again with each new one


def ids_of_children(tasks: Iterable[Task]) -> list[str]:
    """Return the roots of the trees that the tasks have run."""
    return [entry["id"] for task in tasks for entry in task.child_trees or () if entry["attempt"] is not None]


def is_open(root: Task) -> bool:
    """Return whether the tree of a root has an unfinished run, or has never run."""
    return has_unended_run(root) or (root.status is TaskStatus.PENDING and root.run_ended_at is None)


def find_by_key(entries: Sequence[Entry], key: str, generation: int) -> Entry | None:
    """Return the entry of a key. A key of an earlier generation of the task is another one."""
    wanted = (key, generation)
    return next((each for each in entries if (each["key"], each["generation"]) == wanted), None)


def find_by_root(entries: Sequence[Entry], root_id: str, generation: int) -> Entry | None:
    """Return the entry of a tree."""
    wanted = (root_id, generation)
    return next((each for each in entries if (each["id"], each["generation"]) == wanted), None)


def with_entry(entries: Sequence[Entry], new: Entry) -> list[Entry]:
    """Return the entries with a new one, which replaces the entry of the same tree."""
    return [each for each in entries if each["id"] != new["id"]] + [new]


def key_of_content(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Return a key that equal arrays of tasks share."""
    try:
        text = json.dumps(tasks, sort_keys=True, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = ""  # it is not JSON, and refused later
    return ":" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def link(
    task: Task, owner: str | None, number: int, entries: Sequence[Entry], child_id: str | None = None
) -> list[Transition]:
    """Return the transitions that store the entries of a running task, and link a stored tree to it.

    They win only while this attempt of the task runs, its cancellation is not requested, and its run belongs
    to the owner.

    Args:
        number: the attempt.
        child_id: the root of a stored tree; None if the change adds it.
    """
    expects: dict[str, Json] = {
        "status": TaskStatus.IN_PROGRESS,
        "owner": owner,
        "attempts": number,
        "generation": task.generation,
        "cancel_requested_at": None,
    }
    sets: dict[str, Json] = {"child_trees": list(entries)}
    fence: dict[str, Json] = {"run_owner": owner}
    if task.id == task.root_id:
        moves = [Transition(task.id, task.id, expects | fence, sets)]
    else:
        moves = [
            Transition(task.root_id, task.root_id, fence, {}),
            Transition(task.id, task.root_id, expects, sets),
        ]
    if child_id is not None:
        moves.append(Transition(child_id, child_id, {}, {"spawned_by": task.id}))
    # Every change locks roots first, in order of their ids, so that two changes never wait for each other.
    return sorted(moves, key=lambda move: (move.task_id != move.root_id, move.task_id))


def is_continued_by(parent: Task | None, parent_root: Task | None, child_id: str) -> bool:
    """Return whether a task will continue a tree that it started, so that only the task should run it."""
    if parent is None or parent_root is None or parent.status in TERMINAL:
        return False
    entry = find_by_root(parent.child_trees or (), child_id, parent.generation)
    return entry is not None and has_unended_run(parent_root)
