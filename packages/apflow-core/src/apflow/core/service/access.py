"""What a caller may see: its own tasks, or everybody's.

A foreign task answers exactly as a missing one.
"""

from __future__ import annotations

from collections.abc import Iterable

from apflow.core.errors import ForbiddenError, NotFoundError
from apflow.core.model.task import Json, Task
from apflow.core.permissions.secret_policy import Author
from apflow.core.store.base import TaskStore


class Access:
    """One caller's way to one store.

    Args:
        user_id: who calls; None means the owner of the database.
        is_admin: sees everything, and acts for everybody; by default the owner of the database alone.
        author: who is stored as an author of the trees that the caller writes; None: this machine.
        is_served: whether this process runs what is submitted, so that runs need nobody who waits for them.
    """

    def __init__(
        self,
        db: TaskStore,
        user_id: str | None = None,
        is_admin: bool | None = None,
        *,
        author: Author | None = None,
        is_served: bool = False,
    ) -> None:
        self.db = db
        self.user_id = user_id
        self.is_admin = user_id is None if is_admin is None else is_admin
        self.author = author
        self.is_served = is_served

    async def _seen(self, task_id: str) -> Task | None:
        task = (await self.db.get([task_id])).get(task_id)
        return task if task is not None and (self.is_admin or task.user_id == self.user_id) else None

    async def _task(self, task_id: str, *, with_tree: bool = False) -> Task:
        """Return a task that the caller may see; `with_tree`: and whose tree is the caller's."""
        task = await self._seen(task_id)
        if task is None or (with_tree and task.id != task.root_id and await self._seen(task.root_id) is None):
            raise NotFoundError(task_id)
        return task

    def _whose(self, user_id: str | None) -> str | None:
        """Return whose tasks to look among; None means everybody's."""
        if self.is_admin:
            return user_id
        if user_id not in (None, self.user_id):
            raise ForbiddenError("Tasks of another user take an admin.")
        return self.user_id

    def _owner(self, claimed: Iterable[Json]) -> str | None:
        if not self.is_admin and any(each not in (None, self.user_id) for each in claimed):
            raise ForbiddenError("Creating tasks for another user takes an admin.")
        return self.user_id
