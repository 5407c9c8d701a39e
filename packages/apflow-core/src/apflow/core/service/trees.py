"""Operations on stored tasks: creating, reading, changing, copying and deleting them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Literal, cast

from apflow.core.authoring.creator import TaskCreator
from apflow.core.authoring.delete_plan import plan_deletion
from apflow.core.authoring.edit_plan import UPDATABLE
from apflow.core.authoring.repository import TaskRepository
from apflow.core.errors import InvalidInputError, NotFoundError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TaskTreeNode
from apflow.core.payload.secrets import refuse_masked
from apflow.core.service.access import Access
from apflow.core.service.rendering import MASKED_FIELDS, masked, nested, shown
from apflow.core.store.base import TaskQuery

SHORTEST_PREFIX = 8  # characters of an id that may stand for it
PAGE = 5000

Answers = list[dict[str, Json]]  # a name, because `list` is a method below


class TreeService(Access):
    """What one caller may do with stored tasks."""

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
        node = await self._create(tasks, user_id, on_conflict, idempotency_key)
        return nested([each.task for each in node.walk()], node.task.id) | {"ids": node.ids}

    async def _create(
        self,
        tasks: Json,
        user_id: str | None,
        on_conflict: Literal["copy", "error"],
        idempotency_key: str | None,
    ) -> TaskTreeNode:
        array = as_array(tasks)
        for each in array:
            for name in MASKED_FIELDS:
                refuse_masked(each.get(name), name)
        owner = self._owner([user_id, *(each.get("user_id") for each in array)])
        return await TaskCreator(self.db, self.author).create_task_tree_from_array(
            array, on_conflict, user_id or owner, idempotency_key=idempotency_key
        )

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
        cursor: str | None = None,
        order: str = "-created_at",
    ) -> Answers:
        """Return the tasks that match; only roots, unless told otherwise.

        Pages by `cursor`, the id of the last task of the page before, miss nothing and repeat nothing,
        however many tasks are created or deleted meanwhile. Pages by `offset` may.

        Raises:
            NotFoundError: the task of `cursor` is no more.
        """
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
            after=None if cursor is None else await self._task(cursor),
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
        return nested(await self.db.existing_tree(task.root_id), task.root_id)

    async def update(
        self,
        task_id: str,
        *,
        name: str | None = None,
        priority: int | None = None,
        inputs: dict[str, Json] | None = None,
        params: dict[str, Json] | None = None,
        schemas: dict[str, Json] | None = None,
        policy: dict[str, Json] | None = None,
        dependencies: Sequence[Json] | None = None,
        status: TaskStatus | None = None,
        result: Json = None,
        parent_id: str | None = None,
        user_id: str | None = None,
        original_task_id: str | None = None,
    ) -> dict[str, Json]:
        """Change fields of a task that no run has in its scope: all of them, or none.

        What is None stays as it is. Dependencies change only while the task is pending.

        Args:
            status: "completed" marks a task that is pending, failed or cancelled as done by hand, while no
                run of its tree is requested. What depends on it goes on in the next run.
            result: with that status, the result of the task.
            parent_id: accepted where it is what the task has, as are the two that follow.

        Raises:
            InvalidInputError: a value cannot be used; `violations` lists every fault.
            ConflictError: the state of the task forbids it.
        """
        given: dict[str, Json] = {
            "name": name,
            "priority": priority,
            "inputs": inputs,
            "params": params,
            "schemas": schemas,
            "policy": policy,
            "dependencies": dependencies,
            "status": status,
            "result": result,
            "parent_id": parent_id,
            "user_id": user_id,
            "original_task_id": original_task_id,
        }
        fields = {field: value for field, value in given.items() if value is not None}
        task = await self._task(task_id, with_tree=True)
        if not fields:
            raise InvalidInputError(f"Nothing to change: give one of {', '.join(UPDATABLE)}.")
        for field in MASKED_FIELDS:
            refuse_masked(fields.get(field), field)
        return shown(
            await TaskRepository(self.db, self.author).update_fields(task.id, fields, by=self.user_id)
        )

    async def delete(self, task_id: str, *, force: bool = False) -> dict[str, Json]:
        """Delete a task and all below it.

        Raises:
            ConflictError: some of it may not be deleted; every reason is named.
        """
        task = await self._task(task_id, with_tree=True)
        tasks = await self.db.existing_tree(task.root_id, task.id)
        change = plan_deletion(tasks, task.id, force=force)
        await self.db.write(change)
        return {"success": True, "task_id": task.id, "deleted_count": len(change.remove)}

    async def copy(
        self,
        task_id: str,
        *,
        children: bool | None = None,
        copy_mode: Literal["minimal", "full", "custom"] = "minimal",
        custom_task_ids: Sequence[str] | None = None,
        custom_include_children: bool = False,
        reset_fields: Sequence[str] | None = None,
        save: bool = True,
    ) -> dict[str, Json]:
        """Copy a task with what it needs into a new tree, or return the array that would.

        Args:
            children: copy what is below it, too. Left out: the whole tree of a root, else the task alone.
        """
        task = await self._task(task_id, with_tree=True)
        for each in custom_task_ids or ():
            await self._task(each)
        copied = await TaskCreator(self.db, self.author).create_task_copy(
            task,
            children=children,
            copy_mode=copy_mode,
            custom_task_ids=list(custom_task_ids) if custom_task_ids else None,
            reset_fields=list(reset_fields) if reset_fields else None,
            save=save,
            custom_include_children=custom_include_children,
        )
        if isinstance(copied, TaskTreeNode):
            return nested([each.task for each in copied.walk()], copied.task.id)
        return {"tasks": [masked(each) for each in copied], "saved": False}

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
        last: Task | None = None
        while page := await self.db.find(TaskQuery(user_id=self._whose(None), limit=PAGE, after=last)):
            for task in page:
                yield task
            last = page[-1]


def as_array(tasks: Json) -> list[dict[str, Json]]:
    """Return an array of tasks, given as such, as one task, or as {"tasks": [...]}."""
    if isinstance(tasks, Mapping):
        given = cast("Mapping[str, Json]", tasks)
        tasks = given["tasks"] if set(given) == {"tasks"} else [dict(given)]
    if not isinstance(tasks, list) or not all(isinstance(each, dict) for each in cast("list[Json]", tasks)):
        raise InvalidInputError('Tasks are an array of objects, one object, or {"tasks": [...]}.')
    return cast("list[dict[str, Json]]", tasks)
