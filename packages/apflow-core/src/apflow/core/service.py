"""Every operation on tasks that an interface offers, and who may do it.

The command line and the protocols are thin over `TaskService`; `operations.py` describes it to them. What it
returns is plain JSON in which values under secret-like keys are shown as ***. A foreign task answers exactly
as a missing one.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, cast

from apflow.core import runs
from apflow.core.catalogue import describe_executor, describe_executors
from apflow.core.creator import TaskCreator
from apflow.core.deletion import plan_deletion
from apflow.core.driving import is_owned_elsewhere
from apflow.core.errors import AlreadyRunningError, ForbiddenError, InvalidInputError, NotFoundError
from apflow.core.extensions import executor_is_known
from apflow.core.manager import TaskManager
from apflow.core.presentation import MASKED_FIELDS, masked, nested, shown
from apflow.core.recovery import recover
from apflow.core.secrets import refuse_masked
from apflow.core.states import TaskStatus
from apflow.core.store import TaskQuery, TaskStore
from apflow.core.submitting import check_room, submit
from apflow.core.task import Json, Task
from apflow.core.task_executor import TaskExecutor
from apflow.core.tree import TaskTreeNode, tree_status
from apflow.core.why import explain

SHORTEST_PREFIX = 8  # characters of an id that may stand for it
PAGE = 5000

Answers = list[dict[str, Json]]  # a name, because `list` is a method below


class TaskService:
    """What one caller may do with the tasks of one store.

    `user_id` is who calls; None means the owner of the database, who sees everything, as an admin does.
    """

    def __init__(self, db: TaskStore, user_id: str | None = None, is_admin: bool | None = None) -> None:
        self.db = db
        self.user_id = user_id
        self.is_admin = user_id is None if is_admin is None else is_admin

    async def create(
        self,
        tasks: Json,
        *,
        user_id: str | None = None,
        on_conflict: Literal["copy", "error"] = "copy",
        idempotency_key: str | None = None,
    ) -> dict[str, Json]:
        """Create a tree from an array of tasks, and return it nested, with `ids` (given -> real).

        The same idempotency key returns the tree that was created with it first.

        Raises:
            TreeInvalidError: the array is no tree; nothing is written.
            ForbiddenError: the tasks are to belong to somebody else.
        """
        array = as_array(tasks)
        for each in array:
            for name in MASKED_FIELDS:
                refuse_masked(each.get(name), name)
        owner = self._owner([user_id, *(each.get("user_id") for each in array)])
        node = await TaskCreator(self.db).create_task_tree_from_array(
            array, on_conflict, user_id or owner, idempotency_key=idempotency_key
        )
        return nested([each.task for each in node.walk()], node.task.id) | {"ids": node.ids}

    async def execute(
        self,
        task_id: str,
        *,
        force: bool = False,
        copy_execution: bool = False,
        copy_children: bool = False,
    ) -> dict[str, Json]:
        """Run a tree, or what a task of it needs, and wait for the end.

        Args:
            task_id: a root for the whole tree, or any task.
            force: run what has completed again.
            copy_execution: leave the task as it is, and run a copy.
            copy_children: copy what is below the task, too.

        Raises:
            AlreadyRunningError: a living owner has the tree.
        """
        task = await self._task(task_id, with_tree=True)
        more: dict[str, Json] = {}
        if copy_execution:
            more = {"original_task_id": task.id}
            task = (await self._copied(task, children=copy_children)).task
        outcome = await TaskExecutor().execute_task_by_id(task.id, force=force, db_session=self.db)
        return {"task_id": task.id, **outcome, **more}

    async def submit(
        self,
        tasks: Json,
        *,
        user_id: str | None = None,
        idempotency_key: str | None = None,
        on_conflict: Literal["copy", "error"] = "copy",
    ) -> dict[str, Json]:
        """Create a tree, request its run durably, and return the tree at once, as `create` does.

        Whoever runs trees on this database takes it. With an idempotency key this may be repeated: the same
        key returns the first tree, and requests its run only if that was never done.

        Raises:
            TreeInvalidError: the array is no tree; nothing is written.
            LimitExceededError: too many runs are waiting or going on; nothing is written.
            ConflictError: other tasks were created with the key.
        """
        await check_room(self.db, self.user_id or user_id)
        created = await self.create(
            tasks, user_id=user_id, on_conflict=on_conflict, idempotency_key=idempotency_key
        )
        if created["status"] == TaskStatus.PENDING:
            with contextlib.suppress(AlreadyRunningError):
                await submit(self.db, created["id"])
        return created

    async def watch(self, task_id: str, after: int | None = None) -> AsyncIterator[dict[str, Json]]:
        """Yield the events of a task's tree until its final one."""
        task = await self._task(task_id, with_tree=True)
        async for event in TaskManager(self.db).subscribe(task.root_id, after):
            yield event.to_dict()

    async def get(self, task_id: str) -> dict[str, Json]:
        """Return one task."""
        return shown(await self._task(task_id))

    async def list(
        self,
        *,
        user_id: str | None = None,
        status: TaskStatus | Sequence[TaskStatus] | None = None,
        name: str | None = None,
        root_only: bool = True,
        original_task_id: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = 100,
        offset: int = 0,
        order: str = "-created_at",
    ) -> Answers:
        """Return the tasks that match; only roots, unless told otherwise."""
        query = TaskQuery(
            user_id=self._whose(user_id),
            status=status,
            name=name,
            root_only=root_only,
            original_task_id=original_task_id,
            created_after=created_after,
            created_before=created_before,
            limit=limit,
            offset=offset,
            order=order,
        )
        return [shown(task) for task in await self.db.find(query)]

    async def count(
        self,
        *,
        user_id: str | None = None,
        status: TaskStatus | Sequence[TaskStatus] | None = None,
        name: str | None = None,
        root_only: bool = False,
    ) -> dict[str, Json]:
        """Return how many tasks match, in all and by status."""
        query = TaskQuery(user_id=self._whose(user_id), status=status, name=name, root_only=root_only)
        found = await self.db.count(query)
        return {
            "total": sum(found.values()),
            "by_status": {str(each): found.get(each, 0) for each in TaskStatus},
        }

    async def children(self, parent_id: str) -> Answers:
        """Return the direct children of a task, in order."""
        await self._task(parent_id)
        found = await self.db.find(TaskQuery(parent_id=parent_id, user_id=self._whose(None)))
        return [shown(task) for task in sorted(found, key=lambda task: task.position)]

    async def tree(self, task_id: str) -> dict[str, Json]:
        """Return the whole tree of any of its tasks, nested."""
        task = await self._task(task_id, with_tree=True)
        return nested(await self.db.tree(task.root_id), task.root_id)

    async def status(self, task_ids: Iterable[str]) -> Answers:
        """Return the status of tasks; for a root, of its tree."""
        return [await self._status(await self._task(task_id)) for task_id in task_ids]

    async def delete(self, task_id: str, *, force: bool = False) -> dict[str, Json]:
        """Delete a task and all below it.

        Raises:
            ConflictError: some of it may not be deleted; every reason is named.
        """
        task = await self._task(task_id, with_tree=True)
        change = plan_deletion(await self.db.tree(task.root_id), task.id, force=force)
        await self.db.write(change)
        return {"success": True, "task_id": task.id, "deleted_count": len(change.remove)}

    async def copy(
        self,
        task_id: str,
        *,
        children: bool = False,
        copy_mode: Literal["minimal", "full", "custom"] = "minimal",
        custom_task_ids: Sequence[str] | None = None,
        reset_fields: Sequence[str] | None = None,
        save: bool = True,
    ) -> dict[str, Json]:
        """Copy a task with what it needs into a new tree, or return the array that would."""
        task = await self._task(task_id, with_tree=True)
        for each in custom_task_ids or ():
            await self._task(each)
        copied = await TaskCreator(self.db).create_task_copy(
            task,
            children=children,
            copy_mode=copy_mode,
            custom_task_ids=list(custom_task_ids) if custom_task_ids else None,
            reset_fields=list(reset_fields) if reset_fields else None,
            save=save,
        )
        if isinstance(copied, TaskTreeNode):
            return nested([each.task for each in copied.walk()], copied.task.id)
        return {"tasks": [masked(each) for each in copied], "saved": False}

    async def cancel(
        self, task_ids: Iterable[str], *, force: bool = False, error_message: str | None = None
    ) -> Answers:
        """Cancel tasks with all below them. `force` gives running code no time to end by itself."""
        tasks = [await self._task(task_id, with_tree=True) for task_id in task_ids]
        manager = TaskManager(self.db)
        return [
            {"task_id": task.id} | await manager.cancel_task(task.id, error_message, force=force)
            for task in tasks
        ]

    async def resume(self, task_ids: Iterable[str] | None = None) -> Answers:
        """Resume trees whose run a process left: these, or all that this process has the executors for."""
        roots = (
            None if task_ids is None else [(await self._task(t, with_tree=True)).root_id for t in task_ids]
        )
        if roots is None and not self.is_admin:
            raise ForbiddenError("Resuming every tree takes an admin. Name the tasks to resume.")
        resumed = await recover(self.db, roots, force=roots is not None)
        return await self.status(resumed)

    async def why(self, task_id: str) -> dict[str, Json]:
        """Say why a task has the status that it has, and what would move it on."""
        task = await self._task(task_id, with_tree=True)
        tasks = await self.db.tree(task.root_id)
        root = next(each for each in tasks if each.id == task.root_id)
        found = explain(tasks, task.id, is_driven=await self._is_driven(root), is_known=executor_is_known)
        return {
            "task_id": task.id,
            "name": task.name,
            "status": str(task.status),
            "reasons": found.reasons,
            "advice": found.advice,
        }

    async def executors(self) -> Answers:
        """Return every executor with its input schema, where it comes from, and whether it can be used."""
        return describe_executors()

    async def executor(self, executor_id: str) -> dict[str, Json]:
        """Return one executor."""
        return describe_executor(executor_id)

    async def find_id(self, given: str) -> str:
        """Return the id that a text stands for: itself, or the only one that it begins.

        Raises:
            NotFoundError: no task's id begins so.
            InvalidInputError: several do.
        """
        if await self._seen(given) is not None or len(given) < SHORTEST_PREFIX:
            return given
        found = [task.id async for task in self._every() if task.id.startswith(given)]
        if len(found) > 1:
            raise InvalidInputError(
                f"{given!r} begins {len(found)} task ids: {', '.join(found[:5])}. Give more of it."
            )
        if not found:
            raise NotFoundError(given)
        return found[0]

    async def _every(self) -> AsyncIterator[Task]:
        offset = 0
        while page := await self.db.find(TaskQuery(user_id=self._whose(None), limit=PAGE, offset=offset)):
            for task in page:
                yield task
            offset += len(page)

    async def _seen(self, task_id: str) -> Task | None:
        task = (await self.db.get([task_id])).get(task_id)
        return task if task is not None and (self.is_admin or task.user_id == self.user_id) else None

    async def _task(self, task_id: str, *, with_tree: bool = False) -> Task:
        """Return a task that the caller may see; `with_tree`: and whose tree is the caller's."""
        task = await self._seen(task_id)
        if task is None or (with_tree and task.id != task.root_id and await self._seen(task.root_id) is None):
            raise NotFoundError(task_id)
        return task

    async def _status(self, task: Task) -> dict[str, Json]:
        found: dict[str, Json] = {"task_id": task.id, "name": task.name}
        if task.id != task.root_id:
            return found | {"status": str(task.status), "progress": task.progress, "error": task.error}
        summary = tree_status(await self.db.tree(task.id))
        return found | {"status": str(summary.status), "progress": summary.progress, "error": summary.error}

    async def _copied(self, task: Task, *, children: bool) -> TaskTreeNode:
        return await TaskCreator(self.db).create_task_copy(task, children=children)

    async def _is_driven(self, root: Task) -> bool:
        return runs.is_running(self.db, root.id) or await is_owned_elsewhere(self.db, root)

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


def as_array(tasks: Json) -> list[dict[str, Json]]:
    """Return an array of tasks, given as such, as one task, or as {"tasks": [...]}."""
    if isinstance(tasks, Mapping):
        given = cast("Mapping[str, Json]", tasks)
        tasks = given["tasks"] if set(given) == {"tasks"} else [dict(given)]
    if not isinstance(tasks, list) or not all(isinstance(each, dict) for each in cast("list[Json]", tasks)):
        raise InvalidInputError('Tasks are an array of objects, one object, or {"tasks": [...]}.')
    return cast("list[dict[str, Json]]", tasks)
