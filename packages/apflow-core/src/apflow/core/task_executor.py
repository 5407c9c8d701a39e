"""TaskExecutor: from definitions, or an id, to a finished run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from apflow.core.authoring.array_validation import check_array, split_trees
from apflow.core.authoring.creator import TaskCreator
from apflow.core.engine.driver import Driver, cancel
from apflow.core.errors import InvalidInputError, NotFoundError
from apflow.core.extensions.hooks import Hooks
from apflow.core.manager import StreamingCallback, TaskManager
from apflow.core.model.results import RunOutcome, joined_results
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TaskTreeNode, tree_outcome
from apflow.core.process.identity import ForkLock, after_fork_in_child
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore
from apflow.core.store.session import get_default_session


@dataclass(slots=True, eq=False)
class RunningTree:
    """A run that a `TaskExecutor` started: the key it was asked under, and the real root."""

    key: str
    root_task_id: str
    db: TaskStore


class TaskExecutor:
    """Runs trees and knows which of them run. There is one per process: `TaskExecutor()` returns it.

    Every `execute_*` returns `{"status", "progress", "root_task_id", "result", "error", "tolerated"}`:
    the status, progress (0.0 to 1.0) and first counted error of the whole tree, the root's result, and the
    ids of the failures that do not count. `results` of what it returns maps keys to results:
    `outcome.results["apples"]`.
    """

    _only: ClassVar[TaskExecutor | None] = None
    _lock: ClassVar[ForkLock] = ForkLock()
    _running: list[RunningTree]  # several runs may have one key
    _tracked: dict[str, None]  # what its users say runs, in order

    def __new__(cls) -> TaskExecutor:
        with cls._lock.lock:
            if cls._only is None:
                cls._only = super().__new__(cls)
                cls._only._running = []  # noqa: SLF001 - its own
                cls._only._tracked = {}  # noqa: SLF001 - likewise
            return cls._only

    async def execute_tasks(
        self,
        tasks: Sequence[Mapping[str, Any]],
        root_task_id: str | None = None,
        use_streaming: bool = False,
        streaming_callbacks_context: Any = None,
        db_session: TaskStore | None = None,
        *,
        user_id: str | None = None,
        no_cache: bool = False,
    ) -> RunOutcome:
        """Create the tree that an array describes and run it.

        An array with several roots is several trees. They are checked together, created, and run at the same
        time; the answer adds them up, and lists the answer about each under `trees`.

        Args:
            tasks: one object per task, as `TaskCreator.create_task_tree_from_array` takes them.
            root_task_id: a key of the caller's, under which the run is known while it lasts; the answer
                names the real root.
            use_streaming: send each event to `streaming_callbacks_context`: a callable that is given the
                event as a dict, or anything with an async `put`.
            db_session: the store; None for the default one.
            user_id: the user of the tasks that name none themselves; None for no user.
            no_cache: make every task call its executor, whatever results are cached.

        Raises:
            TreeInvalidError: the array is not a valid tree. Nothing is created.
            InvalidInputError: the context is neither of these.
        """
        _check_context(use_streaming, streaming_callbacks_context)
        db = db_session if db_session is not None else get_default_session()
        trees = split_trees(tasks)
        if len(trees) > 1:
            for each in trees:
                check_array(each, get_settings(), user_id)
            return await self._execute_each(
                trees, use_streaming, streaming_callbacks_context, db, user_id, no_cache
            )
        node = await TaskCreator(db).create_task_tree_from_array(tasks, user_id=user_id)
        return await self.execute_task_tree(
            node, root_task_id, use_streaming, streaming_callbacks_context, db_session=db, no_cache=no_cache
        )

    async def _execute_each(
        self,
        trees: Sequence[Sequence[Mapping[str, Any]]],
        use_streaming: bool,
        context: Any,
        db: TaskStore,
        user_id: str | None,
        no_cache: bool,
    ) -> RunOutcome:
        """Create and run several trees, and return what they add up to."""
        creator = TaskCreator(db)
        nodes = [await creator.create_task_tree_from_array(each, user_id=user_id) for each in trees]
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(
                    self.execute_task_tree(
                        node, None, use_streaming, context, db_session=db, no_cache=no_cache
                    ),
                    name=f"apflow:tree:{node.task.id}",
                )
                for node in nodes
            ]
        return add_up([each.result() for each in running])

    async def execute_task_tree(
        self,
        task_tree: TaskTreeNode,
        root_task_id: str | None = None,
        use_streaming: bool = False,
        streaming_callbacks_context: Any = None,
        db_session: TaskStore | None = None,
        *,
        force: bool = False,
        no_cache: bool = False,
    ) -> RunOutcome:
        """Run a stored tree; see `execute_tasks` for the arguments."""
        return await self.execute_task_by_id(
            task_tree.task.id,
            use_streaming,
            streaming_callbacks_context,
            db_session=db_session,
            force=force,
            no_cache=no_cache,
            root_task_id=root_task_id,
        )

    async def execute_task_by_id(
        self,
        task_id: str,
        use_streaming: bool = False,
        streaming_callbacks_context: Any = None,
        db_session: TaskStore | None = None,
        *,
        force: bool = False,
        no_cache: bool = False,
        root_task_id: str | None = None,
    ) -> RunOutcome:
        """Run a stored task: a root's whole tree; else the task, what is below it, and what it still needs.

        Completed results are reused, failures run again.

        Args:
            use_streaming, streaming_callbacks_context, db_session, root_task_id: as for `execute_tasks`.
            force: run what has completed below the task again, and everything that depends on it. Every
                task that runs calls its executor then.
            no_cache: make every task that runs call its executor, whatever results are cached.

        Raises:
            InvalidInputError: `streaming_callbacks_context` is neither a callable nor has an async `put`.
            NotFoundError: there is no such task.
            AlreadyRunningError: a living owner runs its tree.
        """
        _check_context(use_streaming, streaming_callbacks_context)
        db = db_session if db_session is not None else get_default_session()
        task = await _stored(db, task_id)
        context = streaming_callbacks_context if use_streaming else None
        return await self.execute_stored(
            task, db, context, force=force, no_cache=no_cache, root_task_id=root_task_id
        )

    async def execute_stored(
        self,
        task: Task,
        db: TaskStore,
        streaming_callbacks_context: Any = None,
        *,
        force: bool = False,
        no_cache: bool = False,
        root_task_id: str | None = None,
    ) -> RunOutcome:
        """Run a task that the caller has just read from a store; see `execute_task_by_id`."""
        run = RunningTree(root_task_id or task.root_id, task.root_id, db)
        self._running.append(run)
        try:
            if streaming_callbacks_context is not None:
                tasks = await self._run_streaming(db, task, streaming_callbacks_context, force, no_cache)
            else:
                tasks = await self._run(db, task, force, no_cache)
        finally:
            self._running.remove(run)
        return tree_outcome(tasks, task.root_id)

    async def cancel_task(
        self,
        task_id: str,
        error_message: str | None = None,
        *,
        force: bool = False,
        db_session: TaskStore | None = None,
    ) -> dict[str, Json]:
        """Cancel a task, or a run by its key (of several, the last); see `TaskManager.cancel_task`."""
        for run in reversed(self._running):
            if task_id in (run.key, run.root_task_id) and db_session in (None, run.db):
                return await cancel(Driver(run.db), run.root_task_id, error_message, is_forced=force)
        db = db_session if db_session is not None else get_default_session()
        return await cancel(Driver(db), task_id, error_message, is_forced=force)

    def running_tasks(self) -> list[str]:
        """Return the keys of the runs that this process started, or tracks, and that have not ended."""
        return list(dict.fromkeys([*(run.key for run in list(self._running)), *self._tracked]))

    def get_all_running_tasks(self) -> list[str]:
        """Return what `running_tasks` returns."""
        return self.running_tasks()

    def get_running_tasks_count(self) -> int:
        """Return how many keys `running_tasks` returns."""
        return len(self.running_tasks())

    def is_task_running(self, task_id: str) -> bool:
        """Return whether this process runs, or tracks, the tree with this key or root."""
        return task_id in self._tracked or self._run_of(task_id) is not None

    def get_task_status(self, task_id: str) -> dict[str, Json]:
        """Return what this process knows of a tree by its key or root, without asking a store.

        Returns:
            `{"task_id", "context_id", "is_running"}`: the id as it was given, the root of the tree (the id
            itself, where this process does not run it), and whether the tree runs here.
        """
        run = self._run_of(task_id)
        return {
            "task_id": task_id,
            "context_id": task_id if run is None else run.root_task_id,
            "is_running": self.is_task_running(task_id),
        }

    async def start_task_tracking(self, task_id: str) -> None:
        """Count a tree as running until `stop_task_tracking`: one that other code of this process runs."""
        self._tracked[task_id] = None

    async def stop_task_tracking(self, task_id: str) -> None:
        """Stop counting a tree of `start_task_tracking` as running. One that is not tracked is ignored."""
        self._tracked.pop(task_id, None)

    def _run_of(self, task_id: str) -> RunningTree | None:
        """Return the last run with this key or root."""
        runs = reversed(list(self._running))
        return next((run for run in runs if task_id in (run.key, run.root_task_id)), None)

    async def _run(self, db: TaskStore, task: Task, force: bool, no_cache: bool) -> list[Task]:
        named = None if task.parent_id is None else task.id
        driver = Driver(db, hooks=Hooks.current(), no_cache=no_cache)
        return await driver.run(task.root_id, named_id=named, force=force) or []

    async def _run_streaming(
        self, db: TaskStore, task: Task, context: Any, force: bool, no_cache: bool
    ) -> list[Task]:
        manager = TaskManager(db)
        manager.streaming_callbacks.add(_callback(context))
        node = TaskTreeNode(task)
        await manager.distribute_task_tree_with_streaming(node, force=force, no_cache=no_cache)
        return await db.tree(task.root_id)


def add_up(answers: Sequence[dict[str, Json]]) -> RunOutcome:
    """Return the answer about several trees: the worst status, the first error, and all as `trees`."""
    statuses = [str(answer["status"]) for answer in answers]
    worst = next((each for each in ("failed", "cancelled") if each in statuses), statuses[0])
    values: dict[str, Json] = {
        "status": worst,
        "progress": sum(answer["progress"] for answer in answers) / len(answers),
        "root_task_id": answers[0]["root_task_id"],
        "result": {answer["root_task_id"]: answer["result"] for answer in answers},
        "error": next((answer["error"] for answer in answers if answer["error"]), None),
        "tolerated": [each for answer in answers for each in answer.get("tolerated", ())],
        "trees": list(answers),
    }
    outcomes = [answer for answer in answers if isinstance(answer, RunOutcome)]
    return RunOutcome(values, lambda: joined_results(outcomes))


def _check_context(use_streaming: bool, context: Any) -> None:
    if use_streaming and context is not None and not callable(_callback(context)):
        raise InvalidInputError(
            f"streaming_callbacks_context is a {type(context).__name__}. "
            "Give a callable, or anything with a `put`."
        )


def _callback(context: Any) -> StreamingCallback:
    """Return what is called with each event: the context itself, or its `put`."""
    callback: StreamingCallback = getattr(context, "put", context)
    return callback


async def _stored(db: TaskStore, task_id: str) -> Task:
    task = (await db.get([task_id])).get(task_id)
    if task is None:
        raise NotFoundError(task_id)
    return task


def _start_without_runs() -> None:
    """Forget the runs in a forked process: they continue in the parent."""
    if TaskExecutor._only is not None:  # noqa: SLF001 - this module's
        TaskExecutor._only._running.clear()  # noqa: SLF001 - likewise
        TaskExecutor._only._tracked.clear()  # noqa: SLF001 - likewise


after_fork_in_child(_start_without_runs)
