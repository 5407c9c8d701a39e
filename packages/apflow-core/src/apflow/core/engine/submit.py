"""Submitting runs: requested durably here, and run by whoever runs trees on this database."""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.engine.driver import is_owned_elsewhere
from apflow.core.errors import AlreadyRunningError, ConflictError, LimitExceededError, NotFoundError
from apflow.core.events.bus import bus_of
from apflow.core.model.task import Task, utc_now
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.run_start import has_unended_run, has_work, request_run
from apflow.core.settings import get_settings
from apflow.core.store.base import Notice, NoticeKind, TaskQuery, TaskStore

ATTEMPTS = 10  # while others change the tree


async def submit(
    db: TaskStore, task_id: str, *, force: bool = False, known: Sequence[Task] | None = None
) -> bool:
    """Request a run of a stored tree, or of a task with what it needs, and return at once.

    A process that runs trees on this database (`apflow worker`) takes it, by priority and age.

    Args:
        force: run what has completed again.
        known: the tree, by who has just created it and seen that there is room: it is not read again.

    Returns:
        False where there is nothing to do: all of it has completed.

    Raises:
        NotFoundError: there is no such task.
        AlreadyRunningError: a run of the tree is requested that has not ended.
        LimitExceededError: too many runs are waiting or going on already.
    """
    for _ in range(ATTEMPTS):
        tasks = known or await _read(db, task_id)
        known = None
        root = next(each for each in tasks if each.id == each.root_id)
        batch = ChangeSet(root.id, None, utc_now())
        named = None if task_id == root.id else task_id
        scope = request_run(tasks, root, batch, named_id=named, force=force)
        if not has_work(tasks, scope):
            return False
        try:
            await db.write(batch.change())
        except ConflictError:
            continue
        bus_of(db).receive(Notice(NoticeKind.REQUESTED, root.id))  # whoever runs trees in this process
        return True
    raise AlreadyRunningError(task_id)


async def _read(db: TaskStore, task_id: str) -> list[Task]:
    """Return the tree of a task, provided that a run of it may be requested."""
    task = (await db.get([task_id])).get(task_id)
    if task is None:
        raise NotFoundError(task_id)
    tasks = await db.existing_tree(task.root_id, task_id)
    root = next(each for each in tasks if each.id == task.root_id)
    if has_unended_run(root) or await is_owned_elsewhere(db, root):
        raise AlreadyRunningError(root.id)
    await check_room(db, root.user_id)
    return tasks


async def check_room(db: TaskStore, user_id: str | None) -> None:
    """Raise `LimitExceededError` where so many runs have been requested that no more are taken.

    Several callers at once may each be let in for the last place.
    """
    settings = get_settings()
    limits: list[tuple[str | None, int]] = [(None, settings.max_requested)]
    if user_id is not None:
        limits.append((user_id, settings.max_requested_per_user))
    for whose, limit in limits:
        query = TaskQuery(user_id=whose, root_only=True, is_requested=True)
        if sum((await db.count(query)).values()) >= limit:
            raise LimitExceededError(limit, whose)
