"""Operations on runs: create trees, request runs, follow and cancel them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast

from apflow.core.authoring.creator import TaskCreator
from apflow.core.authoring.root_description import with_description
from apflow.core.concurrency.containment import call_contained
from apflow.core.engine import active_runs
from apflow.core.engine.approval_store import approval_of
from apflow.core.engine.driver import is_owned_elsewhere
from apflow.core.engine.limit_queue import read_account
from apflow.core.engine.placement import is_known_for, why_not_made, workers_seen
from apflow.core.engine.recovery import is_left_to_parent, recover
from apflow.core.engine.resource_pool import pool_of
from apflow.core.engine.submit import check_room, submit, was_requested
from apflow.core.errors import (
    AlreadyRunningError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    SecretRefusedError,
    StoreUnavailableError,
)
from apflow.core.events.bus import bus_of
from apflow.core.events.subscription import Subscription
from apflow.core.extensions.registry import executor_is_known, get_executor
from apflow.core.manager import TaskManager
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, to_json
from apflow.core.model.tree import TreeSummary, tree_status
from apflow.core.payload.approval import describe_decision
from apflow.core.payload.secrets import named_secrets
from apflow.core.permissions.origin import Origin, authors_of
from apflow.core.planning.child_trees import ids_of_children
from apflow.core.planning.explain import explain
from apflow.core.planning.plan import choose_executor
from apflow.core.planning.run_start import has_unended_run
from apflow.core.service.rendering import nested, snapshot
from apflow.core.service.run_outcome import run_outcome
from apflow.core.service.trees import Answers, TreeService
from apflow.core.service.webhooks import WebhookService
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskQuery
from apflow.core.task_executor import TaskExecutor

if TYPE_CHECKING:  # see `parameters`
    from pydantic import AliasChoices, Field

    from apflow.core.service.parameters import (
        MAX_TASK_IDS,
        CopyChildren,
        CreationKey,
        JsonIds,
        JsonTasks,
        JsonType,
        NoCache,
        NotNegative,
        OfUser,
        OnConflict,
        Owner,
        Positive,
        RootLabel,
        RootTags,
        TaskId,
        TaskIds,
        Tasks,
        WebhookParameter,
    )

MAX_SHOWN_TREES = 20  # of a task, in `why`: the last ones that it started
ANSWERED_AFTER = 1.0  # seconds that a run waits for its store before a waiting caller gets an error


class RunService(TreeService, WebhookService):
    """What one caller may do with the runs of stored tasks."""

    async def create(
        self,
        tasks: Tasks,
        *,
        user_id: Owner = None,
        on_conflict: OnConflict = "copy",
        idempotency_key: CreationKey = None,
        execute: Annotated[bool, Field(description="Also request a run, as tasks.submit does.")] = False,
        no_cache: NoCache = False,
        label: RootLabel = None,
        tags: RootTags = (),
    ) -> dict[str, Json]:
        """Create a tree of tasks and return it, nested.

        `ids` of the result maps the given IDs to the IDs that the tasks have.

        Raises:
            TreeInvalidError: the tasks are not a valid tree; nothing is created.
            CapabilityRefusedError: a task names what APFLOW_ALLOWED_CAPABILITIES does not allow.
            ForbiddenError: the tasks belong to another user.
        """
        tasks = with_description(tasks, label, tags)
        if execute:
            return await self.submit(
                tasks,
                user_id=user_id,
                on_conflict=on_conflict,
                idempotency_key=idempotency_key,
                no_cache=no_cache,
            )
        node = await self._create(tasks, user_id, on_conflict, idempotency_key)
        return nested([each.task for each in node.walk()], node.task.id) | {"ids": node.ids}

    async def execute(
        self,
        task_id: Annotated[
            str | None,
            Field(
                validation_alias=AliasChoices("task_id", "id"),
                description="ID or path of a stored task. A root runs its whole tree; any other task runs "
                "with its descendants and what they need.",
            ),
        ] = None,
        tasks: Annotated[
            Json,
            JsonType(JsonTasks | None),
            Field(description="The tasks to create and run, instead of `task_id`: an array, or one object."),
        ] = None,
        *,
        wait: Annotated[bool, Field(description="Return when the run has ended.")] = False,
        force: Annotated[
            bool, Field(description="Run completed tasks again, and take no result from the cache.")
        ] = False,
        no_cache: NoCache = False,
        copy_execution: Annotated[
            bool, Field(description="Run a copy and leave the task unchanged.")
        ] = False,
        copy_children: CopyChildren = None,
        user_id: Owner = None,
        on_conflict: OnConflict = "copy",
        idempotency_key: Annotated[
            str | None,
            Field(
                description="Makes the call repeatable: the same key creates no second tree and requests no "
                "second run."
            ),
        ] = None,
        use_streaming: Annotated[
            bool, Field(description="Answer with the events of the run, if the interface can.")
        ] = False,
        webhook_config: WebhookParameter = None,
        label: RootLabel = None,
        tags: RootTags = (),
    ) -> dict[str, Json]:
        """Request a run of a stored task, or of tasks that are created for it, and return its status.

        A server or `apflow worker` on the same database runs the tree. With `use_streaming`, the result has
        `streaming`, and the status "started" until the run has ended. With `webhook_config`, it has the
        `webhook_id`, and the `webhook_secret` if the server generated one.

        Raises:
            InvalidInputError: not exactly one of `task_id` and `tasks` is given, or a value is invalid.
            AlreadyRunningError: a run of the tree is requested and has not ended.
            LimitExceededError: too many runs are waiting or in progress.
            StoreUnavailableError: the database cannot be written now. A run that was requested stays
                requested and continues later.
        """
        if (task_id is None) == (tasks is None):
            raise InvalidInputError("Give either task_id or tasks.")
        if task_id is not None and (label is not None or tags):
            raise InvalidInputError(
                "label and tags require tasks. tasks.update changes those of a stored task."
            )
        await check_room(self.db, self.user_id or user_id)
        webhook = await self._read_webhook(webhook_config) if webhook_config is not None else None
        more: dict[str, Json] = {"streaming": True} if use_streaming else {}
        is_new = True
        known: list[Task] | None = None
        if task_id is None:
            described = with_description(tasks, label, tags)
            node = await self._create(described, user_id, on_conflict, idempotency_key)
            task, known = node.task, [each.task for each in node.walk()]
            is_new = not was_requested(task)
            more["ids"] = node.ids
        else:
            task = await self._task(task_id, with_tree=True)
            if copy_execution:
                if idempotency_key is not None:
                    raise InvalidInputError("idempotency_key cannot be used with copy_execution.")
                more["original_task_id"] = task.id
                copied = await TaskCreator(self.db, self.author).create_task_copy(
                    task, children=copy_children
                )
                task = copied.task
        async with self._webhook(webhook, task.root_id, idempotency_key, is_new=is_new) as registered:
            more |= registered
            with contextlib.suppress(*([AlreadyRunningError] if idempotency_key is not None else [])):
                if wait and not self.is_served:
                    await TaskExecutor().execute_task_by_id(
                        task.id, force=force, no_cache=no_cache, db_session=self.db
                    )
                elif is_new:
                    is_first = idempotency_key is not None and known is not None
                    await submit(
                        self.db, task.id, force=force, no_cache=no_cache, known=known, is_first=is_first
                    )
        if wait:
            await self._end_of(task.root_id)
        if not wait and is_new and known is not None:
            summary = tree_status(known)
        else:
            summary = tree_status(await self.db.existing_tree(task.root_id))
        return _run_result(task, summary, has_result=wait, is_streaming=use_streaming) | more

    async def run(
        self,
        task_id: str,
        *,
        force: bool = False,
        no_cache: bool = False,
        webhook_config: Mapping[str, Json] | None = None,
    ) -> dict[str, Json]:
        """Run a stored task in this process and wait for the end. Cancelling the call cancels the run.

        With `webhook_config`, the result has the `webhook_id`, and the `webhook_secret` if it was generated.

        Raises:
            AlreadyRunningError: another live process runs the tree.
            InvalidInputError: `webhook_config` is invalid, or no distribution here delivers webhooks.
        """
        task = await self._task(task_id, with_tree=True)
        registered: dict[str, Json] = {}
        if webhook_config is not None:
            registered = await self._register_webhook(task.root_id, webhook_config)
        try:
            outcome = await TaskExecutor().execute_stored(task, self.db, force=force, no_cache=no_cache)
        except AlreadyRunningError:
            await self._withdraw_webhook(task.root_id, registered.get("webhook_id"))
            raise
        return {"task_id": task.id, **outcome, **registered}

    async def submit(
        self,
        tasks: Tasks,
        *,
        user_id: Owner = None,
        on_conflict: OnConflict = "copy",
        idempotency_key: CreationKey = None,
        no_cache: NoCache = False,
        label: RootLabel = None,
        tags: RootTags = (),
    ) -> dict[str, Json]:
        """Create a tree of tasks, request its run durably, and return the tree at once.

        A server or `apflow worker` on the same database runs the tree. A repeated call with the same
        idempotency key requests the run only if no run was ever requested.

        Raises:
            TreeInvalidError: the tasks are not a valid tree; nothing is created.
            CapabilityRefusedError: a task names what APFLOW_ALLOWED_CAPABILITIES does not allow.
            LimitExceededError: too many runs are waiting or in progress; nothing is created.
            ConflictError: the key was used for other tasks.
        """
        await check_room(self.db, self.user_id or user_id)
        described = with_description(tasks, label, tags)
        node = await self._create(described, user_id, on_conflict, idempotency_key)
        root, known = node.task, [each.task for each in node.walk()]
        if not was_requested(root):
            with contextlib.suppress(AlreadyRunningError):
                is_first = idempotency_key is not None
                await submit(self.db, root.id, no_cache=no_cache, known=known, is_first=is_first)
        return nested(known, root.id) | {"ids": node.ids}

    async def watch(
        self,
        task_id: TaskId,
        after: Annotated[
            NotNegative | None,
            Field(description="Sequence number of the last event that the caller has; start after it."),
        ] = None,
    ) -> AsyncGenerator[dict[str, Json], None]:
        """Yield the events of a task's tree until the final event.

        Without `after`, or if some of the events that followed are not kept any more, the first event is a
        `snapshot` with the tree as `data`. Its sequence number is the one to continue from.
        """
        state, subscription = await self.follow(task_id, after)
        if state is not None:
            yield state
        async with aclosing(aiter(subscription)) as events:
            async for event in events:
                yield event.to_dict()

    async def follow(
        self, task_id: str, after: int | None = None
    ) -> tuple[dict[str, Json] | None, Subscription]:
        """Return the snapshot that `watch` starts with, if there is one, and the events that follow.

        Args:
            after: the number of the last event that the caller has; None for a snapshot first.
        """
        task = await self._task(task_id, with_tree=True)
        size = get_settings().event_queue_size
        subscription = Subscription(bus_of(self.db), self.db, task.root_id, after=after, size=size)
        tree = await subscription.begin()
        return (snapshot(tree, subscription.position) if tree is not None else None), subscription

    async def running(
        self,
        *,
        user_id: OfUser = None,
        limit: Annotated[Positive | None, Field(description="The maximum number of trees to return.")] = 100,
    ) -> Answers:
        """Return the status of the trees with an unfinished run, oldest first."""
        query = TaskQuery(
            user_id=self._whose(user_id), root_only=True, is_requested=True, limit=limit, order="created_at"
        )
        statuses: Answers = []
        for root in await self.db.find(query):
            with contextlib.suppress(NotFoundError):  # deleted meanwhile
                statuses.append(await self._status(root))
        return statuses

    async def count_running(self, *, user_id: OfUser = None) -> dict[str, Json]:
        """Count the trees with an unfinished run."""
        query = TaskQuery(user_id=self._whose(user_id), root_only=True, is_requested=True)
        return {"count": sum((await self.db.count(query)).values())}

    async def status(self, task_ids: TaskIds) -> Answers:
        """Return the status of tasks; for a root, of its tree.

        A task that does not exist, or that the caller may not see, has the status "not_found".
        """
        return [
            await self._status(task) if task is not None else _not_found(task_id) | _NO_STATUS
            for task_id, task in await self._found(task_ids)
        ]

    async def cancel(
        self,
        task_ids: TaskIds,
        *,
        force: Annotated[
            bool,
            Field(
                description="Stop running code at once, without time to end by itself, and run no clean-up."
            ),
        ] = False,
        error_message: Annotated[
            str | None, Field(max_length=10_000, description="The reason, stored as the error of each task.")
        ] = None,
    ) -> Answers:
        """Cancel tasks, with their descendants and the tasks that need them.

        A task that does not exist, or that the caller may not see, has the status "not_found".
        """
        manager = TaskManager(self.db)
        return [
            {"task_id": task.id} | await manager.cancel_task(task.id, error_message, force=force)
            if task is not None
            else _not_found(task_id)
            for task_id, task in await self._found(task_ids, with_tree=True)
        ]

    async def _found(
        self, task_ids: Iterable[str], *, with_tree: bool = False
    ) -> list[tuple[str, Task | None]]:
        """Return the named tasks with their IDs; None for a task that the caller may not see."""
        found: list[tuple[str, Task | None]] = []
        for task_id in split_ids(task_ids):
            try:
                found.append((task_id, await self._task(task_id, with_tree=with_tree)))
            except NotFoundError:
                found.append((task_id, None))
        return found

    async def resume(
        self,
        task_ids: Annotated[
            Iterable[str] | None,
            JsonType(JsonIds | None),
            Field(
                max_length=MAX_TASK_IDS,
                description="IDs or paths of the trees to resume; by default, of all that can be resumed.",
            ),
        ] = None,
    ) -> Answers:
        """Resume trees whose run was interrupted because its process ended.

        Raises:
            ForbiddenError: the caller asks for all trees, and is not an admin.
        """
        roots = (
            None if task_ids is None else [(await self._task(t, with_tree=True)).root_id for t in task_ids]
        )
        if roots is None and not self.is_admin:
            raise ForbiddenError("Only an admin may resume every tree. Name the tasks to resume.")
        resumed = await recover(self.db, roots, force=roots is not None)
        return await self.status(resumed)

    async def why(self, task_id: TaskId) -> dict[str, Json]:
        """Explain why a task has its status, and what to do to change it."""
        task = await self._task(task_id, with_tree=True)
        tasks = await self.db.existing_tree(task.root_id, task.id)
        await workers_seen(self.db).look(self.db)
        root = next(each for each in tasks if each.id == task.root_id)
        found = explain(
            tasks,
            task.id,
            is_driven=await self._is_driven(root),
            is_known=is_known_for(self.db),
            refusals=_refused_secrets(task, root),
            trees=await self._trees_of(task),
            is_left_to_parent=await is_left_to_parent(self.db, root.id),
            limit=await read_account(self.db, task),
            approval=await self._waits_for_approval(task),
            call=await self._call_of(task),
        )
        return {
            "task_id": task.id,
            "name": task.name,
            "key": task.key,
            "status": str(task.status),
            "reasons": found.reasons,
            "advice": found.advice,
        }

    async def _call_of(self, task: Task) -> str | None:
        """Return a sentence about the call of a task that a worker makes, or that waits for resources."""
        if task.status != TaskStatus.IN_PROGRESS:
            return None
        if self.db.call_exchange is not None:
            return await why_not_made(self.db, task.id)
        needs = pool_of(get_settings()).awaited(task.id)
        return None if needs is None else f"Its call waits until other calls free what it needs: {needs}."

    async def _waits_for_approval(self, task: Task) -> str | None:
        """Return a sentence about the approval that a task waits for; None if it waits for none."""
        if TaskStatus.is_terminal(task.status):
            return None
        approval = await approval_of(self.db, task)
        if approval is None or approval.decision is not None:
            return None
        return f"{describe_decision(approval)} {approval.request.question}"

    async def _status(self, task: Task) -> dict[str, Json]:
        found: dict[str, Json] = {
            "task_id": task.id,
            "context_id": task.root_id,
            "name": task.name,
            "key": task.key,
        }
        found |= {"started_at": to_json(task.started_at), "updated_at": to_json(task.updated_at)}
        if task.id != task.root_id:
            found |= {"status": str(task.status), "progress": task.fraction, "error": task.error}
            return found | {"is_running": TaskStatus.is_active(task.status)}
        tasks = await self.db.existing_tree(task.id)
        summary = tree_status(tasks)
        found |= {"status": str(summary.status), "progress": summary.progress, "error": summary.error}
        started = [each.started_at for each in tasks if each.started_at is not None]
        updated = [each.updated_at for each in tasks if each.updated_at is not None]
        found |= {"started_at": _time(min, started), "updated_at": _time(max, updated)}
        return found | {"is_running": has_unended_run(task)}

    async def _trees_of(self, task: Task) -> list[list[Task]]:
        """Return the trees that a running task has started."""
        ids = ids_of_children([task]) if TaskStatus.is_active(task.status) else []
        return [tree for each in ids[-MAX_SHOWN_TREES:] if (tree := await self.db.tree(each))]

    async def _is_driven(self, root: Task) -> bool:
        return active_runs.is_running(self.db, root.id) or await is_owned_elsewhere(self.db, root)

    async def _end_of(self, root_id: str) -> None:
        """Wait until the run of a tree has ended."""
        root = (await self.db.get([root_id])).get(root_id)
        if root is not None and root.run_requested_at is not None and root.run_ended_at is None:
            async for event in TaskManager(self.db).subscribe(root_id, root.last_event):
                _check_stall(event, root_id)


def _check_stall(event: TaskEvent, root_id: str) -> None:
    """Raise `StoreUnavailableError` if an event reports that the run has waited long for its store."""
    given: Json = event.data
    data = cast("dict[str, Json]", given) if isinstance(given, dict) else {}
    if event.type is not EventType.LOG or data.get("store") != "unavailable":
        return
    if data.get("seconds", 0) >= ANSWERED_AFTER:
        raise StoreUnavailableError(
            "The database",
            str(data.get("reason")),
            f"cannot be written now: {data.get('reason')}. The run of tree {root_id} stays requested and "
            "continues later; follow it with tasks.watch.",
        )


def split_ids(given: Iterable[str]) -> list[str]:
    """Split strings that contain several IDs with commas between them."""
    parts = [given] if isinstance(given, str) else given
    return [each.strip() for part in parts for each in part.split(",") if each.strip()]


_NO_STATUS: dict[str, Json] = {
    "context_id": None, "name": None, "key": None, "progress": None, "error": None, "is_running": False,
    "started_at": None, "updated_at": None,
}  # fmt: skip


def _not_found(task_id: str) -> dict[str, Json]:
    return {"task_id": task_id, "status": "not_found", "message": str(NotFoundError(task_id))}


def _time(choose: Callable[[list[datetime]], datetime], times: list[datetime]) -> Json:
    return to_json(choose(times)) if times else None


def _refused_secrets(task: Task, root: Task) -> list[str]:
    """Return why a task may not use secrets that it names, by the policy that applies at its start."""
    executor = task.executor or choose_executor(task, executor_is_known)
    if executor is None:
        return []
    try:
        can_bind = call_contained(lambda: get_executor(executor).uses_net_policy)
    except Exception:  # noqa: BLE001 - a plugin that cannot be loaded fails its task when it starts
        can_bind = False
    origin, refused = Origin(authors_of(root), executor, can_bind=can_bind), list[str]()
    for name in named_secrets([task.inputs, task.params]):
        try:
            origin.permit(name)
        except SecretRefusedError as error:
            refused.append(str(error))
    return refused


def _run_result(
    task: Task, summary: TreeSummary, *, has_result: bool, is_streaming: bool = False
) -> dict[str, Json]:
    """Return the result of a request for a run, from the status of its tree."""
    outcome = run_outcome(summary.status, summary.progress, summary.error, summary.result)
    if is_streaming and not TaskStatus.is_terminal(summary.status):
        outcome["status"] = "started"
    if not has_result:
        del outcome["result"]
    return {"success": outcome["success"], "root_task_id": task.root_id, "task_id": task.id, **outcome}
