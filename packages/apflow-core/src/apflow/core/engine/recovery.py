"""Runs that were requested and not finished: a dead process left them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from apflow.core.engine import active_runs
from apflow.core.engine.driver import Driver
from apflow.core.errors import AlreadyRunningError, ConflictError, NotFoundError
from apflow.core.extensions import registry
from apflow.core.model.task import Task
from apflow.core.planning.run_start import missing_executors
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskQuery, TaskStore

logger = logging.getLogger(__name__)


async def recover(db: TaskStore, root_ids: Sequence[str] | None = None, *, force: bool = False) -> list[str]:
    """Finish what was left and return the ids of the trees that were run.

    The trees run at the same time, as many as the process may make executor calls, and none waits for
    another. One that fails is logged and stays as it is; the others go on. Completed tasks stay as they
    are; a cancel that was requested is carried out. Cancelling this coroutine cancels the trees.

    Args:
        root_ids: which trees; None for every tree with a requested run.
        force: take a tree even where this process lacks some of its executors; their tasks fail.

    Raises:
        NotFoundError: a tree of `root_ids` does not exist.
        StoreError: the store failed while the first trees were looked for.
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
    """Finish one tree; say whether this process ran it."""
    async with places:
        if active_runs.is_running(db, root_id):
            return False
        try:
            leave = None if force else lacks_executors
            return await Driver(db).run(root_id, resume_only=True, leave=leave) is not None
        except (AlreadyRunningError, NotFoundError):
            return False  # somebody else took it, or deleted it meanwhile
        except ConflictError as error:
            logger.warning("Somebody else changed tree %s while it was resumed: %s", root_id, error)
            return False
        except Exception:
            logger.exception("Tree %s could not be resumed; the others go on.", root_id)
            return False


def lacks_executors(tasks: Sequence[Task], root: Task) -> bool:
    """Return whether this process lacks an executor that the requested run of a tree needs, and log which."""
    missing = missing_executors(tasks, root.run_scope, registry.executor_is_known)
    if missing:
        logger.warning(
            "Tree %s is left to a process that has these executors: %s. "
            "`apflow tasks resume %s` runs it anyway, and the tasks that need them fail.",
            root.id,
            ", ".join(missing),
            root.id,
        )
    return bool(missing)
