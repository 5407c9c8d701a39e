"""Finishes requested runs that a dead process left unfinished."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from apflow.core.engine import active_runs
from apflow.core.engine.driver import Driver
from apflow.core.engine.placement import is_known_for
from apflow.core.errors import AlreadyRunningError, ConflictError, NotFoundError
from apflow.core.model.task import Task
from apflow.core.planning.child_trees import is_continued_by
from apflow.core.planning.run_start import missing_executors
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskQuery, TaskStore

logger = logging.getLogger(__name__)


async def recover(db: TaskStore, root_ids: Sequence[str] | None = None, *, force: bool = False) -> list[str]:
    """Finish unfinished runs and return the ids of the trees that were run.

    The trees run concurrently, up to the limit of executor calls of the process. If a tree fails, the error
    is logged, its run stays requested, and the other trees continue. Completed tasks are not run again;
    requested cancellations are carried out. A tree that a task started is left to the task, unless `force`.
    Cancelling this coroutine cancels the trees.

    Args:
        root_ids: the trees; None for every tree with a requested run.
        force: take trees even if this process lacks some of their executors; the tasks of these executors
            fail.

    Raises:
        NotFoundError: a tree of `root_ids` does not exist.
        StoreError: the store failed during the search for trees.
    """
    requested = {task.id: None for task in await db.find(TaskQuery(root_only=True, is_requested=True))}
    if root_ids is not None:
        stored = await db.get(root_ids)
        for root_id in root_ids:
            if root_id not in stored:
                raise NotFoundError(root_id)
        requested = {root_id: None for root_id in root_ids if root_id in requested}
    places = asyncio.Semaphore(get_settings().max_concurrency)
    async with asyncio.TaskGroup() as group:
        resuming = {
            root_id: group.create_task(_resume(db, root_id, force, places), name=f"apflow:recover:{root_id}")
            for root_id in requested
        }
    return [root_id for root_id, task in resuming.items() if task.result()]


async def _resume(db: TaskStore, root_id: str, force: bool, places: asyncio.Semaphore) -> bool:
    """Finish one tree; return whether this process ran it."""
    async with places:
        if active_runs.is_running(db, root_id):
            return False
        if not force and await is_left_to_parent(db, root_id):
            return False
        try:
            leave = None if force else partial(lacks_executors, db)
            return await Driver(db).run(root_id, resume_only=True, leave=leave) is not None
        except (AlreadyRunningError, NotFoundError):
            return False  # another process took or deleted it
        except ConflictError as error:
            logger.warning("Another process changed tree %s while it was resumed: %s", root_id, error)
            return False
        except Exception:
            logger.exception("Tree %s could not be resumed; the other trees continue.", root_id)
            return False


async def is_left_to_parent(db: TaskStore, root_id: str) -> bool:
    """Return whether the task that started a tree will continue it, when its own tree is continued."""
    root = (await db.get([root_id])).get(root_id)
    if root is None or root.spawned_by is None:
        return False
    parent = (await db.get([root.spawned_by])).get(root.spawned_by)
    if parent is None:
        return False
    parent_root = (await db.get([parent.root_id])).get(parent.root_id)
    return is_continued_by(parent, parent_root, root_id)


def lacks_executors(db: TaskStore, tasks: Sequence[Task], root: Task) -> bool:
    """Return whether no live worker has the executors for the requested run of a tree, and log them."""
    missing = missing_executors(tasks, root.run_scope, is_known_for(db))
    if missing:
        logger.warning(
            "Tree %s is left to a process that has these executors: %s. "
            "`apflow tasks resume %s` runs it anyway, and the tasks that need them fail.",
            root.id,
            ", ".join(missing),
            root.id,
        )
    return bool(missing)
