"""Creating trees: from an array of descriptions, or as the copy of another tree.

Everything is checked before the first write, and a tree is written in one transaction: what is refused
leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

from apflow.core.authoring.array_validation import CheckedArray, check_array, read_array
from apflow.core.authoring.capability_check import check_tree
from apflow.core.authoring.copy_plan import CopyMode, as_array, copied_tasks, plan_copy
from apflow.core.authoring.fork_plan import Overrides, forked_tasks
from apflow.core.errors import IdTakenError, InvalidInputError, KeyUsedError, NotFoundError
from apflow.core.extensions.hooks import Hooks
from apflow.core.extensions.registry import executor_is_known
from apflow.core.extensions.running_call import RunningCall, live_call
from apflow.core.model.custom_columns import custom_fields
from apflow.core.model.ids import ids_of_key, new_ids
from apflow.core.model.task import Dependency, Json, Task, utc_now
from apflow.core.model.tree import TaskTreeNode
from apflow.core.payload.inputs import remap_references
from apflow.core.permissions.origin import as_json, with_author
from apflow.core.permissions.secret_policy import Author
from apflow.core.planning.fan_out import remap_for_each
from apflow.core.planning.plan import choose_executor
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore, Transition

__all__ = ["TaskCreator", "check_array"]

OnConflict = Literal["copy", "error"]
Provide = Callable[[str], Sequence[Transition]]  # root id -> transitions that must win
ATTEMPTS = 5  # to write a tree while others take the ids of ours


class TaskCreator:
    """Creates trees of tasks in a store.

    Args:
        author: the caller of a server who writes them; None: this machine. See `origin`.
    """

    def __init__(self, db: TaskStore, author: Author | None = None) -> None:
        self.db = db
        self.author = author

    async def create_task_tree_from_array(
        self,
        tasks: Sequence[Mapping[str, Any]],
        on_conflict: OnConflict = "copy",
        user_id: str | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> TaskTreeNode:
        """Create the tree that an array describes, and return its root; `.ids` maps given ids to real ones.

        Args:
            tasks: one object per task; see "Creating a tree" in the documentation.
            on_conflict: what to do when a given id is taken: "copy" gives the whole array new ids,
                "error" refuses it.
            user_id: the user of the tasks that name none themselves; None for no user.
            idempotency_key: makes this safe to repeat: who gives the same key again gets the tree that it
                made, as it is by now. Keys of different users have nothing to do with each other. All ids
                of the tree are made from the key.

        Raises:
            TreeInvalidError: it is not a valid tree; `violations` lists every fault. Nothing is written.
            CapabilityRefusedError: a task names what APFLOW_ALLOWED_CAPABILITIES does not allow. Nothing is
                written.
            IdTakenError: an id is taken, and `on_conflict` is "error". Nothing is written.
            KeyUsedError: other tasks were created with the key. Nothing is written.
            InvalidInputError: `on_conflict` or the key is invalid.
        """
        if on_conflict not in ("copy", "error"):
            raise InvalidInputError(f'on_conflict is "copy" or "error", not {on_conflict!r}.')
        if idempotency_key is not None:
            checked = read_array(tasks, get_settings(), user_id)
            return await self._create_once(checked, idempotency_key, user_id)
        call = live_call(self.db)
        if call is not None:
            return await self.create_in_call(call, tasks, user_id=user_id, on_conflict=on_conflict)
        return await self._create(read_array(tasks, get_settings(), user_id), on_conflict)

    async def create_in_call(
        self,
        call: RunningCall,
        tasks: Sequence[Mapping[str, Any]],
        *,
        key: str | None = None,
        user_id: str | None = None,
        on_conflict: OnConflict = "copy",
        is_run: bool = False,
    ) -> TaskTreeNode:
        """Create a tree in the code of an executor, once: after a crash, the same code finds it again.

        The tree has the user and the authors of the task, unless it names a user itself.

        Args:
            key: identifies the tree within the task; by default its content does.
            user_id: the user of the tasks that name none themselves; by default the user of the task.
            is_run: whether the task is about to run the tree, which then belongs to the task.
        """
        checked = read_array(tasks, get_settings(), user_id or call.task.user_id)
        root = next(task for task in checked.tasks if task.parent_id is None)
        root.written_by = call.written_by
        if is_run:
            check_same_user(call.task, checked.tasks)
            root.spawned_by = call.task.id

        async def find(root_id: str) -> TaskTreeNode | None:
            stored = await self.db.tree(root_id)
            if not stored:
                return None
            node = TaskTreeNode.build(stored)
            node.ids = _real_ids(checked, stored) if len(stored) == len(checked.tasks) else {}
            return node

        async def create(provide: Provide) -> tuple[str, TaskTreeNode]:
            node = await self._create(checked, on_conflict, provide)
            return node.task.id, node

        return await call.create_once(tasks, find, create, key=key, is_run=is_run)

    async def _create(
        self, checked: CheckedArray, on_conflict: OnConflict, provide: Provide | None = None
    ) -> TaskTreeNode:
        """Create a tree, provided that the transitions win that `provide` returns for its root."""
        written, has_new_ids = _stamped(self._signed(checked.tasks)), not checked.has_ids
        for _ in range(ATTEMPTS):
            try:
                provided = provide(written[0].root_id) if provide else ()
                await self.db.add(written, provided=provided, has_new_ids=has_new_ids)
                break
            except IdTakenError:
                if on_conflict == "error" and checked.has_ids:
                    raise
                written, has_new_ids = with_new_ids(checked.tasks), True
        else:
            raise IdTakenError([task.id for task in written])
        return await self._created(written, _real_ids(checked, written))

    async def _create_once(self, checked: CheckedArray, key: str, user_id: str | None) -> TaskTreeNode:
        """Create the tree of an idempotency key, or return it where it exists."""
        real = ids_of_key(key, user_id, len(checked.tasks))
        written = _stamped(self._signed(with_ids(checked.tasks, real)))
        ids = _real_ids(checked, written)
        try:
            await self.db.add(written)
        except IdTakenError:
            stored = await self.db.tree(written[0].root_id)
            if [_told_by(task) for task in stored] != [_told_by(task) for task in written]:
                raise KeyUsedError(key) from None
            node = TaskTreeNode.build(stored)
            node.ids = ids
            return node
        return await self._created(written, ids)

    @overload
    async def create_task_copy(
        self,
        original_task: Task,
        children: bool | None = None,
        copy_mode: CopyMode = "minimal",
        custom_task_ids: Sequence[str] | None = None,
        reset_fields: Sequence[str] | None = None,
        save: Literal[True] = True,
        *,
        custom_include_children: bool = False,
    ) -> TaskTreeNode: ...

    @overload
    async def create_task_copy(
        self,
        original_task: Task,
        children: bool | None = None,
        copy_mode: CopyMode = "minimal",
        custom_task_ids: Sequence[str] | None = None,
        reset_fields: Sequence[str] | None = None,
        *,
        save: bool,
        custom_include_children: bool = False,
    ) -> TaskTreeNode | list[dict[str, Json]]: ...

    async def create_task_copy(
        self,
        original_task: Task,
        children: bool | None = None,
        copy_mode: CopyMode = "minimal",
        custom_task_ids: Sequence[str] | None = None,
        reset_fields: Sequence[str] | None = None,
        save: bool = True,
        *,
        custom_include_children: bool = False,
    ) -> TaskTreeNode | list[dict[str, Json]]:
        """Copy a task, with what it needs to run, into a new tree.

        Args:
            original_task: any task of a stored tree. Only its `has_copy` changes.
            children: copy what is below it, too, and what depends on that. Left out: the whole tree of a
                root, else the task alone.
            copy_mode: "minimal" the task; "full" its whole tree; "custom" the `custom_task_ids`.
            custom_task_ids: tasks of the same tree.
            custom_include_children: with "custom", also what is below these tasks.
            reset_fields: fields that the copies do not take over: of inputs, params, schemas, policy,
                priority, name and custom columns. They get their default.
            save: False returns the array that would create the copy, and writes nothing.

        Raises:
            NotFoundError: a task that is named is not in the tree.
            InvalidInputError: the options do not go together.
        """
        stored = (await self.db.get([original_task.id])).get(original_task.id)
        if stored is None:
            raise NotFoundError(original_task.id)
        tasks = await self.db.existing_tree(stored.root_id, stored.id)
        plan = plan_copy(
            tasks,
            stored.id,
            children,
            copy_mode,
            custom_task_ids,
            custom_include_children=custom_include_children,
        )
        copies = copied_tasks(tasks, plan, reset_fields or ())
        if not save:
            return as_array(copies)
        # The root comes first: every change of a tree locks the root's row first.
        originals = sorted(
            (task for task in tasks if task.id in plan.kept), key=lambda task: task.id != task.root_id
        )
        marks = [Transition(task.id, task.root_id, {}, {"has_copy": True}) for task in originals]
        return await self._save_copies(tasks, copies, marks)

    async def create_fork(
        self, original_task: Task, chosen: Sequence[str], overrides: Overrides, *, save: bool = True
    ) -> TaskTreeNode | list[dict[str, Json]]:
        """Copy the whole tree of a task: chosen tasks run again, and completed others keep their results.

        The original tree does not change.

        Args:
            original_task: any task of a stored tree.
            chosen: IDs of the tasks that run again, with what is below or depends on them.
            overrides: new values of fields of tasks, which then run again, too; see `forked_tasks`.
            save: False returns the array that would create the fork, and writes nothing.

        Raises:
            NotFoundError: a task that is named is not in the tree.
            InvalidInputError: an override cannot be used.
        """
        tasks = await self.db.existing_tree(original_task.root_id, original_task.id)
        copies = forked_tasks(tasks, chosen, overrides, get_settings())
        return await self._save_copies(tasks, copies) if save else as_array(copies)

    async def create_task_copy_minimal(
        self, original_task: Task, children: bool | None = None, reset_fields: Sequence[str] | None = None
    ) -> TaskTreeNode:
        """Copy a task and what it needs; see `create_task_copy`."""
        return await self.create_task_copy(original_task, children, "minimal", None, reset_fields)

    async def create_task_copy_full(
        self, original_task: Task, reset_fields: Sequence[str] | None = None
    ) -> TaskTreeNode:
        """Copy the whole tree of a task; see `create_task_copy`."""
        return await self.create_task_copy(original_task, None, "full", None, reset_fields)

    async def create_task_copy_custom(
        self,
        original_task: Task,
        custom_task_ids: Sequence[str],
        custom_include_children: bool = False,
        reset_fields: Sequence[str] | None = None,
    ) -> TaskTreeNode:
        """Copy chosen tasks of a tree; see `create_task_copy`."""
        return await self.create_task_copy(
            original_task,
            None,
            "custom",
            custom_task_ids,
            reset_fields,
            custom_include_children=custom_include_children,
        )

    @staticmethod
    def tree_to_flat_list(root_node: TaskTreeNode) -> list[Task]:
        """Return the tasks of a node and of all below it, each before its children."""
        return [node.task for node in root_node.walk()]

    async def _save_copies(
        self, tasks: Sequence[Task], copies: list[Task], provided: Sequence[Transition] = ()
    ) -> TaskTreeNode:
        """Write the copies of tasks of a tree, provided that the transitions win."""
        root = next(task for task in tasks if task.id == task.root_id)
        next(copy for copy in copies if copy.parent_id is None).written_by = with_author(root, self.author)
        check_tree(copies)
        await self.db.add(_stamped(copies), provided=provided)
        return await self._created(copies, {copy.original_task_id or "": copy.id for copy in copies})

    def _signed(self, tasks: list[Task]) -> list[Task]:
        """Check what a new tree may touch, and store its author, if there is one, with its root."""
        check_tree(tasks)
        if self.author is not None:
            next(task for task in tasks if task.parent_id is None).written_by = as_json((self.author,))
        return tasks

    async def _created(self, written: Sequence[Task], ids: dict[str, str]) -> TaskTreeNode:
        """Return the stored tasks as nodes, after calling the hooks."""
        node = TaskTreeNode.build(written)
        node.ids = ids
        await Hooks.current().run_tree("on_tree_created", node.task, node)
        return node


def check_same_user(task: Task, tasks: Sequence[Task]) -> None:
    """Refuse tasks of another user in a tree that a task starts. A task without a user may start any tree.

    Raises:
        InvalidInputError: a task belongs to another user; `violations` names each.
    """
    if task.user_id is None:
        return
    faults = [
        f"{each.name!r} ({each.id}) belongs to user {each.user_id!r}"
        for each in tasks
        if each.user_id not in (None, task.user_id)
    ]
    if faults:
        raise InvalidInputError(
            f"Task {task.name!r} ({task.id}) of user {task.user_id!r} cannot run a tree of another user: "
            f"{', '.join(faults[:5])}. Leave user_id out, or submit the tree to run on its own.",
            faults,
        )


def _told_by(task: Task) -> tuple[str, str, str | None]:
    """Return the fields that must match in a tree created with a key, as others may guess its ids."""
    return task.id, task.name, task.user_id


def _real_ids(checked: CheckedArray, written: Sequence[Task]) -> dict[str, str]:
    """Return what each reference of an array became: given -> real."""
    if written is checked.tasks:
        return checked.ids
    real = dict(zip((task.id for task in checked.tasks), (task.id for task in written), strict=True))
    return {given: real[known] for given, known in checked.ids.items()}


def _stamped(tasks: list[Task]) -> list[Task]:
    """Set the values that the store would set, so that the tasks do not have to be read again."""
    now, custom = utc_now(), custom_fields()
    for task in tasks:
        task.created_at = task.updated_at = now
        # A first guess, which saves a write at the start of a run that decides the same.
        task.executor = choose_executor(task, executor_is_known)
        if custom:
            task.extra = {**custom, **task.extra}
    return tasks


def with_new_ids(tasks: Sequence[Task]) -> list[Task]:
    """Return a tree under new ids; see `with_ids`."""
    return with_ids(tasks, new_ids(len(tasks)))


def with_ids(tasks: Sequence[Task], ids: Sequence[str]) -> list[Task]:
    """Return a tree under other ids: parents, dependencies and references inside inputs follow."""
    real = dict(zip((task.id for task in tasks), ids, strict=True))
    return [
        replace(
            task,
            id=real[task.id],
            root_id=real[task.root_id],
            parent_id=None if task.parent_id is None else real[task.parent_id],
            dependencies=[_renamed(each, real) for each in task.dependencies],
            inputs=remap_references(task.inputs, real),
            policy=remap_for_each(task.policy, real),
        )
        for task in tasks
    ]


def _renamed(dependency: Dependency, real: Mapping[str, str]) -> Dependency:
    return {**dependency, "id": real[dependency["id"]]}
