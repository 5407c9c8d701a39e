"""Operations on stored tasks: read, change, copy and delete them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, cast

from apflow.core.authoring.array_validation import flat_entries
from apflow.core.authoring.creator import TaskCreator
from apflow.core.authoring.delete_plan import delete_tasks
from apflow.core.authoring.edit_plan import UPDATABLE
from apflow.core.authoring.repository import TaskRepository
from apflow.core.authoring.task_path import MAX_ROOTS
from apflow.core.errors import AmbiguousTaskError, InvalidInputError, NotFoundError
from apflow.core.model.attempt import all_attempts, may_have_records
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TaskTreeNode, tree_status
from apflow.core.payload.secrets import refuse_masked
from apflow.core.service.access import Access
from apflow.core.service.budgets import budget_state, usage_of
from apflow.core.service.rendering import MASKED_FIELDS, masked, nested, shown
from apflow.core.service.time_span import start_of
from apflow.core.store.base import TaskQuery

if TYPE_CHECKING:  # see `parameters`
    from datetime import datetime

    from pydantic import AliasChoices, Field

    from apflow.core.service.parameters import (
        AnyInteger,
        CopyChildren,
        CreatedAfter,
        CreatedBefore,
        IdPrefix,
        IsRunning,
        JsonDependencies,
        JsonIds,
        JsonStatus,
        JsonTags,
        JsonType,
        NotNegative,
        OfKey,
        OfLabel,
        OfName,
        OfTags,
        OfUser,
        OnConflict,
        OriginalId,
        Overrides,
        Positive,
        Since,
        Statuses,
        TaskId,
    )

MIN_PREFIX_LENGTH = 8  # characters
MAX_NAMED = 100  # IDs that an error about a prefix carries

Answers = list[dict[str, Json]]  # a name, because `list` is a method below


class TreeService(Access):
    """What one caller may do with stored tasks."""

    async def _create(
        self,
        tasks: Json,
        user_id: str | None,
        on_conflict: OnConflict,
        idempotency_key: str | None,
    ) -> TaskTreeNode:
        array, owner = self._own_array(tasks, user_id)
        return await TaskCreator(self.db, self.author).create_task_tree_from_array(
            array, on_conflict, owner, idempotency_key=idempotency_key
        )

    def _own_array(self, tasks: Json, user_id: str | None) -> tuple[Sequence[Mapping[str, Json]], str | None]:
        """Return tasks that the caller wants to store as a flat array, and who owns them.

        Raises:
            ForbiddenError: one of them, also a nested one, belongs to another user.
            InvalidInputError: a value of one of them is masked.
        """
        array = flat_entries(as_array(tasks))
        # The creator refuses what is not an object.
        entries = [cast("Mapping[str, Json]", each) for each in array if isinstance(each, Mapping)]
        for each in entries:
            for name in MASKED_FIELDS:
                refuse_masked(each.get(name), name)
        owner = self._owner([user_id, *(each.get("user_id") for each in entries)])
        return cast("Sequence[Mapping[str, Json]]", array), user_id or owner

    async def get(
        self,
        task_id: TaskId,
        *,
        history: Annotated[
            bool, Field(description="Also return the attempts of the task, in the field `history`.")
        ] = False,
    ) -> dict[str, Json]:
        """Return one task, with what its calls of language models used and the state of its budget.

        For a root, the usage is that of its whole tree.
        """
        task = await self._task(task_id)
        found = shown(task)
        if usage := await usage_of(self.db, task):
            found["usage"] = usage
        if task.policy.get("budget"):
            found["budget_state"] = await budget_state(self.db, task)
        return found | ({"history": await self._history(task)} if history else {})

    async def attempts(self, task_id: TaskId) -> Answers:
        """Return the attempts of a task, in order: those of earlier executions, too.

        The numbers of attempts continue across executions. An attempt that was interrupted, because its
        process ended, is listed although it does not count as one.
        """
        return await self._history(await self._task(task_id))

    async def _history(self, task: Task) -> Answers:
        stored = await self.db.attempts(task.id) if may_have_records(task) else []
        return [each.to_dict() for each in all_attempts(task, stored)]

    async def list(
        self,
        *,
        user_id: OfUser = None,
        status: Statuses = None,
        name: OfName = None,
        label: OfLabel = None,
        tags: OfTags = (),
        key: OfKey = None,
        root_only: Annotated[bool, Field(description="Only the roots of trees.")] = True,
        is_running: IsRunning = None,
        original_task_id: OriginalId = None,
        id_prefix: IdPrefix = None,
        since: Since = None,
        created_after: CreatedAfter = None,
        created_before: CreatedBefore = None,
        limit: Annotated[Positive | None, Field(description="The maximum number of tasks to return.")] = 100,
        offset: Annotated[NotNegative, Field(description="The number of tasks to skip.")] = 0,
        cursor: Annotated[
            str | None, Field(description="ID of the last task of the previous page: start after it.")
        ] = None,
        order: Annotated[
            Literal[
                "created_at",
                "-created_at",
                "started_at",
                "-started_at",
                "updated_at",
                "-updated_at",
                "completed_at",
                "-completed_at",
                "priority",
                "name",
                "-name",
            ],
            Field(description="The sort order; `-` means descending. Tasks without the time come last."),
        ] = "-created_at",
        with_tree: Annotated[
            bool,
            Field(
                description="Also return, for each root, the status and progress of its tree and the number "
                "of its tasks by status, in the field `tree`."
            ),
        ] = False,
    ) -> Answers:
        """Return the tasks that match the filters; by default only the roots of trees.

        Paging by `cursor` neither skips nor repeats a task, even if tasks are created or deleted between
        the calls. Paging by `offset` can do both.

        Raises:
            NotFoundError: the task of `cursor` does not exist any more.
        """
        matching = await self._matching(
            user_id=user_id,
            status=status,
            name=name,
            label=label,
            tags=tags,
            key=key,
            root_only=root_only,
            is_running=is_running,
            original_task_id=original_task_id,
            id_prefix=id_prefix,
            since=since,
            created_after=created_after,
            created_before=created_before,
        )
        last = None if cursor is None else await self._task(cursor)
        found = await self.db.find(replace(matching, limit=limit, offset=offset, after=last, order=order))
        if not with_tree:
            return [shown(task) for task in found]
        trees = await self._summaries([task for task in found if task.id == task.root_id])
        return [shown(task) | ({"tree": trees[task.id]} if task.id in trees else {}) for task in found]

    async def _summaries(self, roots: Sequence[Task]) -> dict[str, dict[str, Json]]:
        """Return the summaries of the trees of these roots, by root id."""
        tallies = await self.db.tallies([root.id for root in roots])
        found: dict[str, dict[str, Json]] = {}
        for root in roots:
            tally = tallies.get(root.id)
            if tally is None:  # deleted meanwhile
                continue
            status = tally.status(root)
            if status is None and (tasks := await self.db.tree(root.id)):
                status = tree_status(tasks, root.id).status
            found[root.id] = {
                "status": str(status or root.status),
                "progress": round(tally.progress, 4),
                "total": tally.total,
                "by_status": {str(each): tally.by_status.get(each, 0) for each in TaskStatus},
            }
        return found

    async def count(
        self,
        *,
        user_id: OfUser = None,
        status: Statuses = None,
        name: OfName = None,
        label: OfLabel = None,
        tags: OfTags = (),
        key: OfKey = None,
        root_only: Annotated[bool, Field(description="Only the roots of trees.")] = False,
        is_running: IsRunning = None,
        original_task_id: OriginalId = None,
        id_prefix: IdPrefix = None,
        since: Since = None,
        created_after: CreatedAfter = None,
        created_before: CreatedBefore = None,
    ) -> dict[str, Json]:
        """Count the tasks that match the filters, in total and by status."""
        matching = await self._matching(
            user_id=user_id,
            status=status,
            name=name,
            label=label,
            tags=tags,
            key=key,
            root_only=root_only,
            is_running=is_running,
            original_task_id=original_task_id,
            id_prefix=id_prefix,
            since=since,
            created_after=created_after,
            created_before=created_before,
        )
        found = await self.db.count(matching)
        return {
            "total": sum(found.values()),
            "by_status": {str(each): found.get(each, 0) for each in TaskStatus},
        }

    async def _matching(
        self,
        *,
        user_id: str | None,
        status: Statuses,
        name: str | None,
        label: str | None,
        tags: Iterable[str],
        key: str | None,
        root_only: bool,
        is_running: bool | None,
        original_task_id: str | None,
        id_prefix: str | None,
        since: str | None,
        created_after: datetime | None,
        created_before: datetime | None,
    ) -> TaskQuery:
        """Return the query for the filters of `list` and `count`, of what the caller may see."""
        return TaskQuery(
            user_id=self._whose(user_id),
            status=status,
            name=name,
            label=label,
            tags=list(tags),
            key=key,
            root_only=root_only,
            is_requested=is_running,
            original_task_id=await self._id_of(original_task_id),
            id_prefix=id_prefix,
            created_after=start_of(since, created_after),
            created_before=created_before,
        )

    async def children(
        self,
        parent_id: Annotated[
            str,
            Field(
                validation_alias=AliasChoices("parent_id", "task_id", "id"),
                description="ID or path of the parent.",
            ),
        ],
    ) -> Answers:
        """Return the direct children of a task, in order."""
        parent = await self._task(parent_id)
        found = await self.db.find(TaskQuery(parent_id=parent.id, user_id=self._whose(None)))
        return [shown(task) for task in sorted(found, key=lambda task: task.position)]

    async def tree(
        self,
        task_id: Annotated[
            str,
            Field(
                validation_alias=AliasChoices("task_id", "id", "root_id"),
                description="ID or path of any task of the tree.",
            ),
        ],
    ) -> dict[str, Json]:
        """Return the whole tree that a task belongs to, nested."""
        task = await self._task(task_id, with_tree=True)
        return nested(await self.db.existing_tree(task.root_id), task.root_id)

    async def update(
        self,
        task_id: TaskId,
        *,
        name: Annotated[str | None, Field(description="A new name.")] = None,
        label: Annotated[
            str | None, Field(description="A new label; an empty string removes the present label.")
        ] = None,
        tags: Annotated[
            Sequence[str] | None,
            JsonType(JsonTags | None),
            Field(description="New tags; they replace all present tags."),
        ] = None,
        priority: Annotated[
            AnyInteger | None,
            Field(description="A new priority: 0 is urgent, 1 high, 2 normal, 3 low."),
        ] = None,
        inputs: Annotated[
            dict[str, Json] | None, Field(description="New inputs; they replace all present inputs.")
        ] = None,
        params: Annotated[
            dict[str, Json] | None, Field(description="New params; they replace all present params.")
        ] = None,
        schemas: Annotated[
            dict[str, Json] | None, Field(description="New schemas; they replace all present schemas.")
        ] = None,
        policy: Annotated[
            dict[str, Json] | None, Field(description="A new policy; it replaces the present policy.")
        ] = None,
        dependencies: Annotated[
            Sequence[Json] | None,
            JsonType(JsonDependencies | None),
            Field(description="New dependencies; the task must be pending."),
        ] = None,
        status: Annotated[
            JsonStatus | None,
            Field(
                description="`completed` marks a task that is pending, failed, cancelled or skipped as "
                "completed by hand. No run of its tree may be requested."
            ),
        ] = None,
        result: Annotated[Json, Field(description="The result of the task, with status `completed`.")] = None,
        key: Annotated[
            str | None, Field(description="Cannot change: accepted only if it is the present value.")
        ] = None,
        parent_id: Annotated[
            str | None, Field(description="Cannot change: accepted only if it is the present value.")
        ] = None,
        user_id: Annotated[
            str | None, Field(description="Cannot change: accepted only if it is the present value.")
        ] = None,
        original_task_id: Annotated[
            str | None, Field(description="Cannot change: accepted only if it is the present value.")
        ] = None,
    ) -> dict[str, Json]:
        """Change fields of a task that is not part of a run: all of the given fields, or none.

        A field that is None or omitted keeps its value. Tasks that depend on a task marked as completed
        continue in the next run.

        Raises:
            InvalidInputError: a value is invalid; `violations` lists every fault.
            ConflictError: the state of the task forbids the change.
        """
        given: dict[str, Json] = {
            "name": name,
            "label": label,
            "tags": tags,
            "priority": priority,
            "inputs": inputs,
            "params": params,
            "schemas": schemas,
            "policy": policy,
            "dependencies": dependencies,
            "status": status,
            "result": result,
            "key": key,
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
            await TaskRepository(self.db, author=self.author).update_fields(task.id, fields, by=self.user_id)
        )

    async def delete(
        self,
        task_id: TaskId,
        *,
        force: Annotated[bool, Field(description="Also delete tasks that have ended.")] = False,
    ) -> dict[str, Json]:
        """Delete a task, its descendants and the trees that they started.

        Raises:
            ConflictError: a task cannot be deleted; the message lists every reason.
        """
        task = await self._task(task_id, with_tree=True)
        tasks = await self.db.existing_tree(task.root_id, task.id)
        count = await delete_tasks(self.db, tasks, task.id, force=force)
        return {"success": True, "task_id": task.id, "deleted_count": count}

    async def copy(
        self,
        task_id: TaskId,
        *,
        children: CopyChildren = None,
        copy_mode: Annotated[
            Literal["minimal", "full", "custom"],
            Field(
                description="`minimal` copies the task and what it needs, `full` its whole tree, `custom` "
                "the tasks that are named."
            ),
        ] = "minimal",
        custom_task_ids: Annotated[
            Sequence[str] | None,
            JsonType(JsonIds | None),
            Field(description="IDs or paths of the tasks to copy in mode `custom`."),
        ] = None,
        custom_include_children: Annotated[
            bool, Field(description="In mode `custom`: also copy the descendants of these tasks.")
        ] = False,
        reset_fields: Annotated[
            Sequence[str] | None,
            JsonType(JsonIds | None),
            Field(description="Fields that get their default value in the copy."),
        ] = None,
        save: Annotated[
            bool, Field(description="If false, return the tasks that would be created, and create none.")
        ] = True,
    ) -> dict[str, Json]:
        """Copy a task and what it needs into a new tree, ready to run.

        The result is the new tree or, without `save`, the array of tasks that would be created.
        """
        task = await self._task(task_id, with_tree=True)
        chosen = [(await self._task(each)).id for each in custom_task_ids or ()]
        copied = await TaskCreator(self.db, self.author).create_task_copy(
            task,
            children=children,
            copy_mode=copy_mode,
            custom_task_ids=chosen or None,
            reset_fields=list(reset_fields) if reset_fields else None,
            save=save,
            custom_include_children=custom_include_children,
        )
        return self._copied(copied)

    async def fork(
        self,
        task_id: TaskId,
        *,
        from_task_ids: Annotated[
            Sequence[str] | None,
            JsonType(JsonIds | None),
            Field(
                description="IDs, keys or paths of tasks of the tree that run again, with their descendants "
                "and all that depends on them."
            ),
        ] = None,
        overrides: Overrides = None,
        save: Annotated[
            bool, Field(description="If false, return the tasks that would be created, and create none.")
        ] = True,
    ) -> dict[str, Json]:
        """Copy the whole tree of a task into a new tree that continues from chosen tasks.

        Tasks that are not affected keep their results. Tasks that have not completed run again. If
        `task_id` is not a root, that task runs again, too. The original does not change.

        The result is the new tree or, without `save`, the array of tasks that would be created.

        Raises:
            NotFoundError: the tree has no task of a given ID.
            InvalidInputError: an override is invalid; `violations` lists every fault.
        """
        task = await self._task(task_id, with_tree=True)
        chosen = [] if task.parent_id is None else [task.id]
        chosen += [(await self._task_of_tree(task.root_id, each)).id for each in from_task_ids or ()]
        given: dict[str, Mapping[str, Json]] = {}
        for named, fields in (overrides or {}).items():
            overridden = (await self._task_of_tree(task.root_id, named)).id
            if overridden in given:
                raise InvalidInputError(f"overrides: {named!r} is named twice, also by its ID. Name it once.")
            for name in MASKED_FIELDS:
                refuse_masked(fields.get(name), f"overrides.{named}.{name}")
            given[overridden] = fields
        forked = await TaskCreator(self.db, self.author).create_fork(task, chosen, given, save=save)
        return self._copied(forked)

    async def _task_of_tree(self, root_id: str, given: str) -> Task:
        """Return the task of a tree that has this ID, key or path."""
        with suppress(NotFoundError):
            return await self._task(given)
        return await self._task(f"{root_id}/{given}")

    @staticmethod
    def _copied(copied: TaskTreeNode | Answers) -> dict[str, Json]:
        if isinstance(copied, TaskTreeNode):
            return nested([each.task for each in copied.walk()], copied.task.id)
        return {"tasks": [masked(each) for each in copied], "saved": False}

    async def find_id(self, given: str) -> str:
        """Return the ID of the task that a person means.

        That is the task with this ID or path, else the root with this key, else the task whose ID is the only
        one that begins so. The root in a path may be shortened, too. What is too short for the beginning of
        an ID, and not a key, is returned unchanged.

        Raises:
            NotFoundError: there is no such task.
            AmbiguousTaskError: there are several.
        """
        try:
            return str((await self.get(given))["id"])
        except NotFoundError as error:
            missing = error
        head, slash, key = given.partition("/")
        if slash:
            root = await self._id_from(head)
            if root is None:
                raise missing
            return str((await self.get(f"{root}/{key}"))["id"])
        roots = await self.list(key=given, limit=MAX_ROOTS)
        if len(roots) > 1:
            raise AmbiguousTaskError(given, {root["id"]: _described(root) for root in roots})
        if roots:
            return str(roots[0]["id"])
        found = await self._id_from(given)
        if found is None and len(given) >= MIN_PREFIX_LENGTH:
            raise missing
        return found or given

    async def _id_from(self, prefix: str) -> str | None:
        """Return the only ID that begins with a prefix, None if there is none or the prefix is short."""
        if len(prefix) < MIN_PREFIX_LENGTH:
            return None
        same = await self.list(id_prefix=prefix, root_only=False, limit=MAX_NAMED, order="created_at")
        found: list[str] = [task["id"] for task in same]
        if len(found) > 1:
            raise AmbiguousTaskError(prefix, {each: each for each in found}, "task IDs")
        return found[0] if found else None

    async def _id_of(self, given: str | None) -> str | None:
        """Return the ID of a task that may be named by its path; what names no task is returned unchanged."""
        if given is None or "/" not in given:
            return given
        with suppress(NotFoundError):
            return (await self._task(given)).id
        return given


def _described(task: Mapping[str, Json]) -> str:
    created = str(task["created_at"])[:19].replace("T", " ")
    return f"{task['id']} ({task['status']}, created {created} UTC)"


def as_array(tasks: Json) -> list[dict[str, Json]]:
    """Return an array of tasks from an array, one task, or `{"tasks": [...]}`."""
    if isinstance(tasks, Mapping):
        given = cast("Mapping[str, Json]", tasks)
        tasks = given["tasks"] if set(given) == {"tasks"} else [dict(given)]
    if not isinstance(tasks, list) or not all(isinstance(each, dict) for each in cast("list[Json]", tasks)):
        raise InvalidInputError('Tasks are an array of objects, one object, or {"tasks": [...]}.')
    return cast("list[dict[str, Json]]", tasks)
