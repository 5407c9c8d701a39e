"""Authorization: a caller may see its own tasks; an admin may see all tasks.

A task that the caller may not see gives the same answer as a missing task.
"""

from __future__ import annotations

from collections.abc import Iterable

from apflow.core.authoring.task_path import find_by_path
from apflow.core.errors import ForbiddenError, NotFoundError
from apflow.core.model.task import Json, Task
from apflow.core.permissions.secret_policy import Author
from apflow.core.store.base import TaskStore


class Access:
    """The access of one caller to one store.

    Args:
        user_id: the caller; None means the owner of the database.
        is_admin: whether the caller may see all tasks and act for every user; by default only the owner of
            the database may.
        author: the author to store with the trees that the caller writes; None means this machine.
        is_served: whether this process runs submitted trees, so that callers do not have to wait for runs.
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
        return task if task is not None and may_see(self, task.user_id) else None

    async def _task(self, task_id: str, *, with_tree: bool = False) -> Task:
        """Return a task that the caller may see, by its ID or path; see `find_by_path`.

        Args:
            with_tree: also requires access to the root.
        """
        task = await self._seen(task_id)
        if task is None and "/" in task_id:
            task = await find_by_path(self.db, task_id, None if self.is_admin else self.user_id)
        if task is None or (with_tree and task.id != task.root_id and await self._seen(task.root_id) is None):
            raise NotFoundError(task_id)
        return task

    def _whose(self, user_id: str | None) -> str | None:
        """Return the user whose tasks to search; None means all users."""
        if self.is_admin:
            return user_id
        if user_id not in (None, self.user_id):
            raise ForbiddenError("Only an admin may access tasks of another user.")
        return self.user_id

    def _owner(self, claimed: Iterable[Json]) -> str | None:
        if not self.is_admin and any(each not in (None, self.user_id) for each in claimed):
            raise ForbiddenError("Only an admin may create tasks for another user.")
        return self.user_id


def may_see(caller: Access, user_id: str | None) -> bool:
    """Return whether a caller may see what belongs to a user."""
    return caller.is_admin or user_id == caller.user_id
