"""Requests runs durably. A worker or server on the same database runs them."""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.authoring.capability_check import check_tree
from apflow.core.engine.driver import is_owned_elsewhere
from apflow.core.errors import AlreadyRunningError, ConflictError, LimitExceededError, NotFoundError
from apflow.core.events.bus import bus_of
from apflow.core.model.task import Task, utc_now
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.run_start import has_unended_run, has_work, in_scope, request_run
from apflow.core.settings import get_settings
from apflow.core.store.base import Notice, NoticeKind, TaskQuery, TaskStore
from apflow.core.webhooks.defaults import register_defaults, withdraw

ATTEMPTS = 10  # while other processes change the tree


async def submit(
    db: TaskStore,
    task_id: str,
    *,
    force: bool = False,
    no_cache: bool = False,
    known: Sequence[Task] | None = None,
    is_first: bool = False,
) -> bool:
    """Request a run of a stored tree, or of a task with its dependencies, and return immediately.

    A worker on this database (`apflow worker`) takes the run, by priority and age.

    Args:
        force: run completed tasks again.
        no_cache: make every task call its executor, whatever results are cached.
        known: the tree, if the caller has just created it and checked the room for it. It is not read again.
        is_first: request the first run of the tree, and no second one.

    Returns:
        False if there is nothing to run, because all tasks have completed, or it is not the first run.

    Raises:
        NotFoundError: the task does not exist.
        AlreadyRunningError: a run of the tree is requested and has not ended.
        LimitExceededError: too many runs are waiting or in progress.
        CapabilityRefusedError: a task names what APFLOW_ALLOWED_CAPABILITIES does not allow.
    """
    for _ in range(ATTEMPTS):
        tasks = known or await _read(db, task_id)
        known = None
        root = next(each for each in tasks if each.id == each.root_id)
        if is_first and was_requested(root):
            return False
        batch = ChangeSet(root.id, None, utc_now())
        named = None if task_id == root.id else task_id
        scope = request_run(tasks, root, batch, named_id=named, force=force, no_cache=no_cache)
        if not has_work(tasks, scope):
            return False
        check_tree(in_scope(tasks, scope))
        webhooks = await register_defaults(db, root, get_settings())
        try:
            await db.write(batch.change())
        except ConflictError:
            await withdraw(db, webhooks)
            continue
        bus_of(db).receive(Notice(NoticeKind.SUBMITTED, root.id))  # wakes a worker in this process
        return True
    raise AlreadyRunningError(task_id)


def was_requested(root: Task) -> bool:
    """Return whether a run of a tree was ever requested."""
    return root.run_requested_at is not None or root.run_ended_at is not None


async def _read(db: TaskStore, task_id: str) -> list[Task]:
    """Return the tree of a task. Raises if a run of it cannot be requested."""
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
    """Raise `LimitExceededError` if the maximum number of requested runs is reached.

    Concurrent callers may exceed the maximum.
    """
    settings = get_settings()
    limits: list[tuple[str | None, int]] = [(None, settings.max_requested)]
    if user_id is not None:
        limits.append((user_id, settings.max_requested_per_user))
    for whose, limit in limits:
        query = TaskQuery(user_id=whose, root_only=True, is_requested=True)
        if sum((await db.count(query)).values()) >= limit:
            raise LimitExceededError(limit, whose)
