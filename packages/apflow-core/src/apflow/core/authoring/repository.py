"""Single tasks in a store: creating, reading, changing and deleting them.

What may change is decided in `edit_plan`; here it is read and written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from apflow.core.authoring.adoption import adopt
from apflow.core.authoring.array_validation import read_template
from apflow.core.authoring.capability_check import check_tree
from apflow.core.authoring.creator import TaskCreator
from apflow.core.authoring.delete_plan import delete_tasks
from apflow.core.authoring.edit_plan import plan_addition, plan_update, together
from apflow.core.authoring.field_validation import READ_ONLY, check_sources, read_text
from apflow.core.authoring.for_each_validation import check_for_each
from apflow.core.authoring.manual_status import plan_status
from apflow.core.authoring.task_path import find_by_path
from apflow.core.authoring.task_validation import (
    read_dependencies,
    read_entry,
    resolve_keys,
    resolve_names,
)
from apflow.core.authoring.violation import Violations
from apflow.core.errors import ConflictError, InvalidInputError, MoveLostError, NotFoundError
from apflow.core.model.custom_columns import get_task_model_class, set_task_model_class
from apflow.core.model.ids import new_ids
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Dependency, Json, Task, task_label
from apflow.core.model.tree import TaskTreeNode
from apflow.core.model.tree_index import TreeIndex
from apflow.core.payload.inputs import remap_references
from apflow.core.permissions.origin import as_json
from apflow.core.permissions.secret_policy import Author
from apflow.core.planning.fan_out import remap_for_each
from apflow.core.settings import get_settings
from apflow.core.store.base import Change, TaskQuery, TaskStore

DependencyLike = str | Dependency | dict[str, Any]


class TaskRepository:
    """The tasks of one store.

    Changes raise `ConflictError` where the state of the tree forbids them, or a concurrent change came first.

    Args:
        db: the store, of `create_session()`.
        task_model_class: a class with custom columns, chosen as by `set_task_model_class()`, for the whole
            process; None does not change the choice.
        author: the caller of a server who makes the changes; None: this machine. See `origin`.

    Raises:
        InvalidInputError: `task_model_class` does not declare its columns, or one hides a field of `Task`.
    """

    def __init__(
        self, db: TaskStore, task_model_class: type | None = None, *, author: Author | None = None
    ) -> None:
        if task_model_class not in (None, get_task_model_class()):
            set_task_model_class(task_model_class)
        self.db = self.store = db
        self.author = author

    async def create_task(
        self,
        name: str,
        user_id: str | None = None,
        parent_id: str | None = None,
        priority: int | None = 2,
        dependencies: Sequence[DependencyLike] | None = None,
        inputs: dict[str, Json] | None = None,
        schemas: dict[str, Json] | None = None,
        params: dict[str, Json] | None = None,
        policy: dict[str, Json] | None = None,
        id: str | None = None,  # noqa: A002 - the name of the field
        key: str | None = None,
        label: str | None = None,
        tags: Sequence[str] = (),
        **custom: Json,
    ) -> Task:
        """Create a task: a root, or one below `parent_id`, as the last in its tree.

        Args:
            name: for people; also names the executor, where none is named otherwise.
            user_id: whose it is; by default whose the parent is.
            parent_id: a task of the same tree, or None for a new tree.
            priority: lower starts first; 0 urgent, 1 high, 2 normal, 3 low.
            dependencies: ids of tasks, keys of tasks of the tree, or `{"id": ..., "required": ...}`. That
                all of them are in the same tree is checked when the tree runs: until then, the task may be
                added to it as a child.
            inputs: what the executor is given.
            schemas: `method` names the executor.
            params: what the executor is made with; `executor_id` names it.
            policy: timeout, retry, effect, budget, when and trigger; of a root also deadline and
                cleanup_timeout.
            id: by default a new one.
            key: what people call the task within its tree, unique there; by default the id.
            label: what the task is about, for people.
            tags: what the task can be found by.
            **custom: custom columns.

        Raises:
            InvalidInputError: a value cannot be used, or another task of the tree has the key; `violations`
                lists every fault.
            NotFoundError: there is no task `parent_id`.
            ConflictError: a run of the tree is requested, or the id is taken.
        """
        entry: dict[str, Json] = {"name": name, "id": id, "user_id": user_id, "priority": priority}
        entry |= {
            "inputs": inputs,
            "schemas": schemas,
            "params": params,
            "policy": policy,
            "key": key,
            "label": label,
            "tags": list(tags),
            **custom,
        }
        if parent_id is None:
            task = _read_single(entry, dependencies, [])
            if self.author is not None:
                task.written_by = as_json((self.author,))
            check_tree([task])
            await self.store.add([task])
        else:
            task = await self._join(entry, parent_id, dependencies)
        return await self._task(task.id)

    async def _join(
        self, entry: dict[str, Json], parent_id: str, dependencies: Sequence[DependencyLike] | None
    ) -> Task:
        """Add a task to the tree of its parent, provided that no run of it is requested."""
        parent = await self._task(parent_id)
        task = _read_single(entry, dependencies, await self._named_in_tree(parent.root_id, dependencies))
        task.parent_id, task.root_id = parent.id, parent.root_id
        task.user_id = task.user_id or parent.user_id
        ids = [parent.root_id, *(each["id"] for each in task.dependencies)]
        found = await self.store.get(ids) | {parent.id: parent}
        limit = get_settings().max_tasks
        if sum((await self.store.count(TaskQuery(root_id=parent.root_id))).values()) >= limit:
            raise InvalidInputError(f"The tree has {limit} tasks, as many as one may have (max_tasks).")
        if entry["id"] is not None or entry["key"] is not None:
            await self._check_key(task)
        check_tree([task])
        provided = plan_addition(task, found, self.author)
        try:
            await self.store.add([task], provided=provided)
        except MoveLostError as error:
            raise _overtaken(error) from error
        return task

    async def _check_key(self, task: Task) -> None:
        """Raise `InvalidInputError` if another task of the tree has the key of a new one."""
        holders = await self.store.find(TaskQuery(root_id=task.root_id, key=task.key, limit=1))
        if holders and holders[0].id != task.id:
            fault = f"key {task.key!r} is that of task {task_label(holders[0])}."
            raise InvalidInputError(f"The task is refused: {fault} Choose another one.", [fault])

    async def _named_in_tree(self, root_id: str, dependencies: Sequence[DependencyLike] | None) -> list[Task]:
        """Return the tasks of a tree if dependencies are given by names or keys, else an empty list."""
        ids = [each if isinstance(each, str) else each.get("id") for each in dependencies or ()]
        named = [each for each in ids if isinstance(each, str)]
        found = await self.store.get(named) if named else {}
        has_others = len(named) < len(ids) or any(
            each not in found or found[each].root_id != root_id for each in named
        )
        return await self.store.tree(root_id) if has_others else []

    async def save_task_hierarchy_to_database(self, task_tree: TaskTreeNode) -> bool:
        """Store what hangs below a node, and return true when it is stored.

        Tasks that no store has yet become a new tree of pending tasks, with their ids. Nodes that were hung
        below a stored task become a part of its tree, as `TaskManager.distribute_task_tree` makes them.

        Raises:
            TreeInvalidError: the tasks are not a valid tree; `violations` lists every fault.
            IdTakenError: only some of the tasks are stored.
            InvalidInputError: a node cannot become a part of a stored tree.
        """
        if task_tree.task.id in await self.store.get([task_tree.task.id]):
            await adopt(self.store, task_tree)
            return True
        entries = [task_tree.task.to_dict() | {"parent_id": None}]
        for node in task_tree.walk():
            entries += [child.task.to_dict() | {"parent_id": node.task.id} for child in node.children]
        creator = TaskCreator(self.store, self.author)
        created = await creator.create_task_tree_from_array(entries, on_conflict="error")
        task_tree.refresh([node.task for node in created.walk()])
        return True

    async def get_task_by_id(self, task_id: str) -> Task | None:
        """Return a task, or None if there is none of this id."""
        return (await self.store.get([task_id])).get(task_id)

    async def find_task(self, name: str) -> Task:
        """Return the task with an id, or with a path such as `bill/apples`; see `find_by_path`.

        Raises:
            NotFoundError: there is no such task.
            AmbiguousTaskError: several tasks have the path.
        """
        return await self.get_task_by_id(name) or await find_by_path(self.store, name)

    async def get_root_task(self, task: Task) -> Task:
        """Return the root of a task's tree.

        Raises:
            NotFoundError: it does not exist any more.
        """
        return await self._task(task.root_id)

    async def build_task_tree(self, task: Task) -> TaskTreeNode:
        """Return a task and everything below it as nodes."""
        tasks = await self.store.existing_tree(task.root_id, task.id)
        return TaskTreeNode.build(tasks, task.id)

    async def get_all_children_recursive(self, task_id: str) -> list[Task]:
        """Return everything below a task, in order of position.

        Raises:
            NotFoundError: there is no such task.
        """
        tasks = await self._tree_of(task_id)
        below = set(TreeIndex(tasks).subtree(task_id)) - {task_id}
        return [task for task in tasks if task.id in below]

    async def get_child_tasks_by_parent_id(self, parent_id: str) -> list[Task]:
        """Return the tasks directly below a task, the most urgent first; an empty list if there are none."""
        return await self.store.find(TaskQuery(parent_id=parent_id, limit=None, order="priority"))

    async def get_all_tasks_in_tree(self, root_task: Task) -> list[Task]:
        """Return a task and everything below it, in order of position.

        Raises:
            NotFoundError: the task is not stored any more.
        """
        tasks = await self.store.existing_tree(root_task.root_id, root_task.id)
        inside = set(TreeIndex(tasks).subtree(root_task.id))
        return [task for task in tasks if task.id in inside]

    async def get_completed_tasks_by_ids(self, task_ids: Sequence[str]) -> dict[str, Task]:
        """Return those of the tasks that have completed, by id."""
        found = await self.store.get(list(task_ids))
        return {key: task for key, task in found.items() if task.status is TaskStatus.COMPLETED}

    async def find_dependent_tasks(self, task_id: str) -> list[Task]:
        """Return the tasks that depend on a task directly, in order of position.

        Raises:
            NotFoundError: there is no such task.
        """
        tasks = await self._tree_of(task_id)
        return [task for task in tasks if any(each["id"] == task_id for each in task.dependencies)]

    async def list_tasks(
        self,
        user_id: str | None = None,
        status: TaskStatus | str | Sequence[str] | None = None,
        *,
        name: str | None = None,
        label: str | None = None,
        tags: Sequence[str] = (),
        parent_id: str | None = None,
        root_id: str | None = None,
        root_only: bool = False,
        original_task_id: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = 100,
        offset: int = 0,
        order: str = "created_at",
        **custom: Json,
    ) -> list[Task]:
        """Return the tasks that match every filter that is given. A filter that is None matches every task.

        Args:
            user_id: tasks of this user.
            status: tasks with this status, or with one of several.
            name: tasks with this name.
            label: tasks whose label contains this string.
            tags: tasks that have all of these tags.
            parent_id: children of this task.
            root_id: tasks of the tree with this root.
            root_only: only roots.
            original_task_id: copies of this task.
            created_after, created_before: tasks created after or before a time; both ends are left out.
            limit: the maximum number of tasks, 100 by default; None for all.
            offset: how many of the tasks found are skipped.
            order: "created_at" (oldest first), "-created_at", "priority" or "name".
            **custom: values of custom columns.

        Raises:
            InvalidInputError: a filter, the order or a number is invalid.
        """
        return await self.store.find(
            TaskQuery(
                user_id=user_id,
                status=_read_statuses(status),
                name=name,
                label=label,
                tags=tags,
                parent_id=parent_id,
                root_id=root_id,
                root_only=root_only,
                original_task_id=original_task_id,
                created_after=created_after,
                created_before=created_before,
                limit=limit,
                offset=offset,
                order=order,
                custom=custom,
            )
        )

    async def query_tasks(
        self,
        query: TaskQuery | None = None,
        *,
        user_id: str | None = None,
        status: TaskStatus | str | Sequence[str] | None = None,
        parent_id: str | None = None,
        limit: int | None = 100,
        offset: int = 0,
        order_by: str = "created_at",
        order_desc: bool | None = None,
    ) -> list[Task]:
        """Return the tasks that match a query, or every filter that is given.

        Args:
            query: the whole query; the filters are not used then. None: the filters are the query.
            user_id: tasks of this user; None for those of every user.
            status: tasks with this status, or with one of several; None for every status.
            parent_id: children of this task; "" for roots, None for all tasks.
            limit: the maximum number of tasks, 100 by default; None for all.
            offset: how many of the tasks found are skipped.
            order_by: "created_at", "started_at", "updated_at", "completed_at", "priority" or "name".
            order_desc: whether the order is reversed, which that of priorities cannot be; None: the newest
                first, other fields from low to high.

        Raises:
            InvalidInputError: a filter, the order or a number is invalid.
        """
        if query is not None:
            return await self.store.find(query)
        is_reversed = order_by == "created_at" if order_desc is None else order_desc
        return await self.list_tasks(
            user_id,
            status,
            parent_id=parent_id or None,
            root_only=parent_id == "",
            limit=limit,
            offset=offset,
            order=f"-{order_by}" if is_reversed else order_by,
        )

    async def update_task_status(
        self,
        task_id: str,
        status: TaskStatus | str,
        error: str | None = None,
        result: Json = None,
        progress: float | None = None,
        started_at: datetime | None = None,
        completed_at: datetime | None = None,
        *,
        by: str | None = None,
    ) -> Task:
        """Move a task by hand, by the table of moves. Back to pending, it forgets what it did.

        A task that is pending, failed, cancelled or skipped can be marked as completed, with a result: its
        work was done elsewhere, and its dependents continue in the next run.

        Args:
            error: the text of the error; None for none.
            result: plain JSON.
            progress: from 0.0 to 1.0; None leaves it, or sets what the status implies.
            started_at, completed_at: times with a time zone; None leaves them, or sets what the status
                implies.
            by: the user who marks it; the event `task_marked` names them.

        Raises:
            NotFoundError: there is no such task.
            InvalidInputError: the status or another value is invalid.
            IllegalMoveError: the table does not know the move.
            ConflictError: a run has the task in its scope; for a mark, a run of the tree is requested.
        """
        task = await self._task(task_id)
        root = await self._task(task.root_id)
        given = {
            "error": error,
            "result": result,
            "progress": progress,
            "started_at": started_at,
            "completed_at": completed_at,
        }
        await self._write(plan_status(task, root, _read_status(status), given, get_settings(), by=by))
        return await self._task(task_id)

    async def update_task(self, task_id: str, **fields: Json) -> Task:
        """Update fields and custom columns at once: all of them, or none.

        `status="completed"`, with a `result`, marks the task as completed; see `update_task_status`. Fields
        that only the engine sets are ignored, so that a task can be given back as it was read.

        Raises:
            InvalidInputError: a value cannot be used; `violations` lists every fault.
            ConflictError: a run has the task in its scope, or it is in progress.
        """
        return await self.update_fields(task_id, fields)

    async def update_fields(self, task_id: str, fields: Mapping[str, Json], *, by: str | None = None) -> Task:
        """Do what `update_task` does.

        Args:
            by: the user who asks for it; the event of a mark names them.
        """
        task = await self._task(task_id)
        marks = _marks(task, fields)
        fields = {name: fields[name] for name in fields if name not in (*READ_ONLY, "status", "result")}
        if "dependencies" in fields:
            tasks = await self.store.existing_tree(task.root_id, task_id)
        else:
            tasks = [task] if task_id == task.root_id else [await self._task(task.root_id), task]
            if (fields.get("inputs") or fields.get("policy")) and task.dependencies:
                known = {each.id for each in tasks}
                found = await self.store.get([each["id"] for each in task.dependencies])
                tasks += [each for each in found.values() if each.id not in known]
        settings = get_settings()
        changes = [plan_update(tasks, task_id, fields, settings, self.author)] if fields else []
        if marks is not None:
            root = next(each for each in tasks if each.id == task.root_id)
            changes.append(plan_status(task, root, TaskStatus.COMPLETED, marks, settings, by=by))
        if changes:
            await self._write(together(task.root_id, *changes))
        return await self._task(task_id)

    async def update_task_inputs(self, task_id: str, inputs: dict[str, Json]) -> Task:
        """Replace the inputs of a task."""
        return await self.update_task(task_id, inputs=inputs)

    async def update_task_dependencies(self, task_id: str, dependencies: Sequence[DependencyLike]) -> Task:
        """Replace the dependencies of a pending task: tasks of the same tree, without circles."""
        return await self.update_task(task_id, dependencies=dependencies)

    async def update_task_name(self, task_id: str, name: str) -> Task:
        """Rename a task, in any state."""
        return await self.update_task(task_id, name=name)

    async def update_task_priority(self, task_id: str, priority: int) -> Task:
        """Change the priority of a task."""
        return await self.update_task(task_id, priority=priority)

    async def update_task_params(self, task_id: str, params: dict[str, Json]) -> Task:
        """Replace `params`, the arguments of the constructor of a task's executor, as a JSON object."""
        return await self.update_task(task_id, params=params)

    async def update_task_schemas(self, task_id: str, schemas: dict[str, Json]) -> Task:
        """Replace the schemas of a task, the executor's name among them."""
        return await self.update_task(task_id, schemas=schemas)

    async def update_task_policy(self, task_id: str, policy: dict[str, Json]) -> Task:
        """Replace the policy of a task."""
        return await self.update_task(task_id, policy=policy)

    async def delete_task(self, task_id: str) -> bool:
        """Delete a task, everything below it and the trees that it started; False if there is no such task.

        Raises:
            ConflictError: some of it is in progress or in a run, or something outside depends on it.
        """
        task = await self.get_task_by_id(task_id)
        if task is None:
            return False
        try:
            tasks = await self.store.existing_tree(task.root_id, task_id)
        except NotFoundError:
            return False
        try:
            await delete_tasks(self.store, tasks, task_id, force=True)
        except MoveLostError as error:
            raise _overtaken(error) from error
        return True

    async def _task(self, task_id: str) -> Task:
        task = await self.get_task_by_id(task_id)
        if task is None:
            raise NotFoundError(task_id)
        return task

    async def _tree_of(self, task_id: str) -> list[Task]:
        return await self.store.existing_tree((await self._task(task_id)).root_id, task_id)

    async def _write(self, change: Change) -> None:
        try:
            await self.store.write(change)
        except MoveLostError as error:
            raise _overtaken(error) from error


def _overtaken(error: MoveLostError) -> ConflictError:
    return ConflictError(
        f"Another caller changed the tree at the same time, or requested a run of it. {error}"
    )


def _read_single(
    entry: dict[str, Json], dependencies: Sequence[DependencyLike] | None, tree: Sequence[Task]
) -> Task:
    """Read one task as a root; whether its dependencies exist is looked up later.

    Args:
        tree: the tasks that dependencies may name by their names or keys.
    """
    faults = Violations()
    if entry["id"] is not None:
        read_text(entry["id"], "id", "", faults)
    task = read_entry(entry, entry["id"] or new_ids(1)[0], "", get_settings(), faults)
    if entry["key"] is not None:
        task.key = read_text(entry["key"], "key", "", faults) or task.id
    needed = read_dependencies(dependencies, "", faults)
    resolve_names(needed, tree, faults)
    real = resolve_keys(needed, tree)
    task.inputs = remap_references(task.inputs, real)
    task.dependencies = [each for each in needed if each["id"]]
    declared = {each["id"] for each in task.dependencies}
    check_sources(task.inputs, declared, "", faults)
    names = declared | {key for key, task_id in real.items() if task_id in declared}
    read_template(task, names, "", get_settings(), faults)
    check_for_each(task, names, "", faults)
    task.policy = remap_for_each(task.policy, real)
    if faults.found:
        raise InvalidInputError(f"The task is refused: {' '.join(faults.found)}", faults.found)
    return task


def _marks(task: Task, fields: Mapping[str, Json]) -> dict[str, Json] | None:
    """Return the result with which fields mark a task as completed, None where they leave its status."""
    given, result = fields.get("status"), fields.get("result")
    status = task.status if given is None else _read_status(given)
    if status is task.status:
        if result is not None and result != task.result:
            raise InvalidInputError(
                f"Task {task_label(task)} is {task.status}: a result is set only together with a "
                'change of its status to "completed".'
            )
        return None
    if status is not TaskStatus.COMPLETED:
        raise InvalidInputError(
            f'Task {task_label(task)} cannot be set to "{status}": by hand, a status can only become '
            '"completed". Execute the task to run it again, or cancel it.'
        )
    return {"result": result}


def _read_status(status: str) -> TaskStatus:
    try:
        return TaskStatus(status)
    except ValueError:
        raise InvalidInputError(
            f"There is no status {status!r}. There are: {', '.join(TaskStatus)}."
        ) from None


def _read_statuses(status: str | Sequence[str] | None) -> TaskStatus | list[TaskStatus] | None:
    if status is None or isinstance(status, str):
        return None if status is None else _read_status(status)
    return [_read_status(each) for each in status]
