"""Runs that were requested and not finished: a dead process left them."""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core import runs
from apflow.core.driving import Driver
from apflow.core.errors import AlreadyRunningError, NotFoundError
from apflow.core.store import TaskQuery, TaskStore


async def recover(db: TaskStore, root_ids: Sequence[str] | None = None, *, force: bool = False) -> list[str]:
    """Finish what was left, one tree after the other, and return the ids of the trees that were run.

    Completed tasks stay as they are; a cancel that was requested is carried out.

    Args:
        root_ids: which trees; None for every tree with a requested run.
        force: take a tree even where this process lacks some of its executors; their tasks fail.

    Raises:
        NotFoundError: a tree of `root_ids` does not exist.
    """
    roots = {task.id: task for task in await db.find(TaskQuery(root_only=True, is_requested=True))}
    for root_id in root_ids or ():
        if root_id not in roots and root_id not in await db.get([root_id]):
            raise NotFoundError(root_id)
    taken: list[str] = []
    for root_id in roots if root_ids is None else [each for each in root_ids if each in roots]:
        if runs.is_running(db, root_id):
            continue
        try:
            driver = Driver(db)
            tasks = await driver.run(root_id, resume_only=True, needs_executors=not force)
        except AlreadyRunningError:
            continue
        if tasks is not None:
            taken.append(root_id)
    return taken
