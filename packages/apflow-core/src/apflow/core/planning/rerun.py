"""Decides which tasks a re-execution resets to pending, and which ones it may run.

Pure. The scope of a run is a list of ids, or None for the whole tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field

from apflow.core.errors import NotFoundError
from apflow.core.model.for_each import has_for_each
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import AFTER_ANY_END, Task
from apflow.core.model.tolerance import error_type, tolerated, tolerated_failures
from apflow.core.model.tree_index import TreeIndex, nearest_ancestors
from apflow.core.planning.outcome import DEPENDENCY_FAILED, DEPENDENCY_SKIPPED

PENDING, COMPLETED = TaskStatus.PENDING, TaskStatus.COMPLETED
FAILED, CANCELLED, SKIPPED = TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED


@dataclass(frozen=True, slots=True)
class Rerun:
    """The tasks to reset, in order of position, and the scope of the run."""

    reset: list[str]
    scope: list[str] | None  # in order of position; None: the whole tree
    # Elements, with all that is in them, whose list may be another one now; and the tasks that create others.
    removed: list[str] = field(default_factory=list[str])
    emptied: list[str] = field(default_factory=list[str])


def plan_rerun(tasks: Sequence[Task], named_id: str | None = None, force: bool = False) -> Rerun:
    """Decide what runs again when a task of a tree, or the whole tree, is executed.

    Args:
        tasks: the whole tree in order of position, with `executor` decided.
        named_id: the task to execute; None or the id of the root means the whole tree.
        force: run completed tasks in the subtree of the named task again, and everything that depends on
            them.

    Raises:
        NotFoundError: the tree does not have a task with that id.
    """
    is_of_root = named_id is None or any(task.id == named_id == task.root_id for task in tasks)
    if is_of_root and all(task.status == PENDING for task in tasks):
        return Rerun([], None)  # the tree has never run
    index = TreeIndex(tasks)
    roots = index.roots()
    if named_id is not None and named_id not in index.by_id:
        raise NotFoundError(named_id)
    is_whole = named_id is None or named_id in roots
    below = index.subtree(*(roots if named_id is None else [named_id]))
    wanted = set(below) if is_whole else _with_what_it_needs(index, below)
    open_elsewhere = [t.id for t in tasks if t.status not in TERMINAL and t.id not in wanted]
    held_open = index.all_ancestors(open_elsewhere)

    forced = _force(index, below, held_open) if force else set[str]()
    staying = _staying(index, tolerated(tasks) - {named_id}, forced)
    again = {t for t in wanted if index.by_id[t].status not in (PENDING, COMPLETED)} - staying
    to_run = {t for t in wanted if index.by_id[t].status == PENDING}
    reset = _carry_back(index, again | forced, to_run, held_open)
    emptied = _emptied(index, reset, below if force else ())
    removed = {each for task_id in emptied for each in index.subtree(task_id)[1:]}
    kept = emptied - removed
    scope = None if is_whole else [t for t in _scope(index, wanted, reset, held_open) if t not in removed]
    return Rerun(
        [t for t in index.by_id if t in reset and t not in removed],
        scope,
        [t for t in index.by_id if t in removed],
        [t for t in index.by_id if t in kept],
    )


def _emptied(index: TreeIndex, reset: Set[str], forced: Iterable[str]) -> set[str]:
    """Return the tasks with `for_each` that create their elements again.

    These are those that run again because of what they depend on, or by force. Any other keeps its elements,
    and what has completed of them.
    """
    chosen = set(forced)
    return {
        task_id
        for task_id in reset
        if has_for_each(index.by_id[task_id])
        and task_id in index.children
        and (task_id in chosen or any(d["id"] in reset for d in index.by_id[task_id].dependencies))
    }


def _with_what_it_needs(index: TreeIndex, below: Iterable[str]) -> set[str]:
    """Add, transitively, the dependencies that have not completed, and the members of such groups."""
    found = set(below)
    waiting = list(found)
    while waiting:
        task = index.by_id[waiting.pop()]
        for dependency in task.dependencies:
            needed = index.by_id.get(dependency["id"])
            if needed is None or needed.id in found or needed.status == COMPLETED:
                continue
            # A group that contains the task only has to be started; its other members are not added.
            is_held = index.is_group(needed.id) and needed.id not in index.ancestors(task.id)
            added = index.subtree(needed.id) if is_held else [needed.id]
            new = [t for t in added if t not in found and index.by_id[t].status != COMPLETED]
            found.update(new)
            waiting.extend(new)
    return found


def _ended_groups_above(index: TreeIndex, task_id: str, held_open: Set[str], seen: set[str]) -> list[str]:
    """Return the ended groups in which a task is the only unfinished one."""
    found: list[str] = []
    for above in index.ancestors(task_id):
        if above in seen:
            break
        seen.add(above)
        if index.is_group(above) and index.by_id[above].status in TERMINAL and above not in held_open:
            found.append(above)
    return found


def _force(index: TreeIndex, below: Iterable[str], held_open: Set[str]) -> set[str]:
    """Return the started tasks among these, the groups around them, and everything that depends on either."""
    waiting = [task_id for task_id in below if index.by_id[task_id].status != PENDING]
    found = set(waiting)
    seen: set[str] = set()
    while waiting:
        task_id = waiting.pop()
        following = [dependent for dependent, _ in index.dependents.get(task_id, ())]
        following += _ended_groups_above(index, task_id, held_open, seen)
        for each in following:
            if each not in found and index.by_id[each].status != PENDING:
                found.add(each)
                waiting.append(each)
    return found


def _carry_back(index: TreeIndex, reset: Set[str], to_run: Set[str], held_open: Set[str]) -> set[str]:
    """Add tasks whose outcome followed from those to reset, or that ran after their ends, and ended groups
    in which a task runs.
    """
    found = set(reset)
    waiting = [*reset, *to_run]
    causes: dict[str, int] = {}  # task -> number of its unsuccessful dependencies that are not reset (yet)
    seen: set[str] = set()
    while waiting:
        task_id = waiting.pop()
        following = _ended_groups_above(index, task_id, held_open, seen)
        if index.by_id[task_id].status in (FAILED, CANCELLED, SKIPPED):
            for dependent, required in index.dependents.get(task_id, ()):
                if _followed(index.by_id[dependent]):
                    following.append(dependent)
                elif required and _fell_with_another(index.by_id[dependent]):
                    if dependent not in causes:
                        causes[dependent] = _count_causes(index, dependent)
                    causes[dependent] -= 1
                    if causes[dependent] == 0:
                        following.append(dependent)
        for each in following:
            if each not in found:
                found.add(each)
                waiting.append(each)
    return found


def _followed(task: Task) -> bool:
    """Return whether a task ran, or was skipped, after the end of a task, whatever that was."""
    return task.status != PENDING and task.policy.get("trigger") in AFTER_ANY_END


def _fell_with_another(task: Task) -> bool:
    """Return whether a task ended without a start, because of a dependency that it requires."""
    if task.status == FAILED:
        return error_type(task) == DEPENDENCY_FAILED
    if task.status == SKIPPED:
        return bool(task.result["reason"] == DEPENDENCY_SKIPPED)
    return task.status == CANCELLED and task.cancel_requested_at is None and task.started_at is None


def _count_causes(index: TreeIndex, task_id: str) -> int:
    task = index.by_id[task_id]
    causes = (SKIPPED,) if task.status == SKIPPED else (FAILED, CANCELLED)
    needed = [index.by_id.get(d["id"]) for d in task.dependencies if d["required"]]
    return sum(1 for each in needed if each is not None and each.status in causes)


def _staying(index: TreeIndex, candidates: set[str], forced: Set[str]) -> set[str]:
    """Return the tolerated failures that are not reset: all their dependents completed or are not reset.

    Unsuccessful members of a tolerated group and the group itself are reset together or not at all.
    """
    if not candidates:
        return set()
    own = tolerated_failures(index) & candidates
    holders = nearest_ancestors(index.by_id, {task_id for task_id in own if index.is_group(task_id)})
    held_by = {each: group for each, group in holders.items() if group is not None and each in candidates}
    staying = set(candidates)
    waiting = [t for t in candidates if _is_needed_again(index, t, candidates, forced)]
    waiting += index.all_ancestors(forced) & candidates
    waiting += [t for t in candidates if t not in own and t not in held_by]
    holds: dict[str, list[str]] = {}
    for task_id, group in held_by.items():
        holds.setdefault(group, []).append(task_id)
    while waiting:
        task_id = waiting.pop()
        if task_id not in staying:
            continue
        staying.discard(task_id)
        waiting.extend(dependency["id"] for dependency in index.by_id[task_id].dependencies)
        waiting.extend(each for each in holds.get(task_id, ()) if each not in own)
        waiting.extend([held_by[task_id]] if task_id in held_by else [])
    return staying


def _is_needed_again(index: TreeIndex, task_id: str, candidates: Set[str], forced: Set[str]) -> bool:
    for dependent, _ in index.dependents.get(task_id, ()):
        is_done = index.by_id[dependent].status == COMPLETED and dependent not in forced
        if not is_done and dependent not in candidates:
            return True
    return False


def _scope(index: TreeIndex, wanted: Set[str], reset: Set[str], held_open: Set[str]) -> list[str]:
    """Return the pending tasks among these, except those that would wait for a task outside the scope."""
    groups = index.all_ancestors(wanted | reset) - held_open
    pending_groups = {t for t in groups if index.is_group(t) and index.by_id[t].status == PENDING}
    inside = {t for t in wanted if t in reset or index.by_id[t].status == PENDING} | reset | pending_groups
    waiting = [t for t in inside if t not in wanted and _waits_outside(index, t, inside, reset)]
    while waiting:
        task_id = waiting.pop()
        if task_id in inside and task_id not in wanted:
            inside.discard(task_id)
            waiting.extend(dependent for dependent, _ in index.dependents.get(task_id, ()))
    return [task_id for task_id in index.by_id if task_id in inside]


def _waits_outside(index: TreeIndex, task_id: str, inside: Set[str], reset: Set[str]) -> bool:
    for dependency in index.by_id[task_id].dependencies:
        needed = index.by_id.get(dependency["id"])
        if needed is None or needed.id in inside:
            continue
        if needed.status not in TERMINAL or needed.id in reset:
            return True
    return False
