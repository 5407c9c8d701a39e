"""Runs and cancels trees by id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from apflow.core.concurrency.containment import run_apart
from apflow.core.concurrency.exit_fence import leave_code
from apflow.core.concurrency.fair_semaphore import process_semaphore
from apflow.core.engine import active_runs, late_results, leases
from apflow.core.engine.cancellation import CancelRequest, request_elsewhere
from apflow.core.engine.child_trees import ChildTrees
from apflow.core.engine.loop_watch import watching_loop
from apflow.core.engine.nesting import NestingContext
from apflow.core.engine.placement import is_known_for, placement_of, workers_seen
from apflow.core.engine.resource_pool import pool_of
from apflow.core.engine.run_context import RunContext
from apflow.core.engine.store_retry import CALLER_TIMEOUT_SECONDS, Patience
from apflow.core.engine.tree_run import TreeRun
from apflow.core.errors import AlreadyRunningError, ConflictError, NotFoundError, OwnerLostError
from apflow.core.events.bus import EventBus, bus_of
from apflow.core.extensions import registry
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.hooks import Hooks
from apflow.core.extensions.runner import AnyRunner, LocalRunner, chosen_runner
from apflow.core.extensions.running_call import current_call
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import Json, Task, task_label, utc_now
from apflow.core.model.tree import TaskTreeNode, TreeSummary, tree_status
from apflow.core.model.tree_index import TreeIndex
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.child_trees import ids_of_children, is_open
from apflow.core.planning.deadlock import find_deadlock
from apflow.core.planning.plan import choose_executor
from apflow.core.planning.run_start import begin_run, has_unended_run, has_work, in_scope, take_over
from apflow.core.settings import Settings, get_settings
from apflow.core.store.base import NoticeKind, TaskStore
from apflow.core.webhooks.defaults import register_defaults, withdraw

logger = logging.getLogger(__name__)

MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.02, 1.0  # seconds between checks whether another process has responded
ATTEMPTS = 10  # to request a run while other processes change the tree


@dataclass(slots=True)
class Driver:
    """Runs trees of one store, with its hooks, its runner and its settings."""

    store: TaskStore
    hooks: Hooks = field(default_factory=Hooks.current)
    runner: AnyRunner = field(default_factory=chosen_runner)
    settings: Settings = field(default_factory=get_settings)
    instances: MutableMapping[str, ExecutableTask] = field(default_factory=dict[str, ExecutableTask])
    max_concurrency: int | None = None  # limit of this run, in addition to the limit of the process
    # Seconds for which a write is repeated while the store is unavailable; None: no limit.
    patience: float | None = CALLER_TIMEOUT_SECONDS
    no_cache: bool = False  # every task of the requested run calls its executor
    depth: int = 0  # how many trees that wait for each other the run is inside of
    # Whether a cancellation of `run` releases the tree to another process instead of cancelling it.
    releases: Callable[[], bool] = field(default=lambda: False)

    @property
    def bus(self) -> EventBus:
        """The bus that publishes events."""
        return bus_of(self.store)

    async def run(
        self,
        root_id: str,
        *,
        named_id: str | None = None,
        force: bool = False,
        resume_only: bool = False,
        leave: Callable[[list[Task], Task], bool] | None = None,
        on_read: Callable[[list[Task]], object] | None = None,
    ) -> list[Task] | None:
        """Run a tree, or one of its tasks with its dependencies, and return all tasks of the tree at the end.

        If a dead process left an unfinished run of the tree, that run is finished first. If code of an
        executor calls this, the tree belongs to the task of the executor; see `child_trees`.

        Args:
            resume_only: only take over and finish a run that was requested before.
            leave: called with the tasks and the root of a requested run. If it returns true, `run` changes
                nothing and returns None.
            on_read: called with the stored tasks, which the run keeps up to date, so that a caller that has
                read the tree before can release its copy.

        Raises:
            NotFoundError: the tree does not exist.
            AlreadyRunningError: a live owner runs the tree.
            StoreError: the store failed, or was unavailable for too long; the run stays requested.
        """
        call = current_call.get()
        if isinstance(call, ChildTrees) and call.is_live and not resume_only:
            return await call.nest(self, root_id, named_id=named_id, force=force, on_read=on_read)
        return await run_apart(
            lambda _: self._run(root_id, named_id, force, resume_only, leave, on_read),
            f"apflow:drive:{root_id}",
        )

    async def run_nested(
        self,
        root_id: str,
        *,
        depth: int,
        releases: Callable[[], bool],
        named_id: str | None = None,
        force: bool = False,
        resume_only: bool = False,
        on_read: Callable[[list[Task]], object] | None = None,
    ) -> list[Task] | None:
        """Run a tree that the code of a task waits for; see `run`.

        The run does not inherit that it was started by code of an executor.

        Args:
            depth: how many trees that wait for each other the run is inside of.
            releases: whether a cancellation of this coroutine releases the tree instead of cancelling it.
        """
        nested = replace(self, depth=depth, releases=releases)
        context = copy_context()
        context.run(leave_code)
        context.run(current_call.set, None)
        return await run_apart(
            lambda _: nested._run(root_id, named_id, force, resume_only, None, on_read),  # noqa: SLF001
            f"apflow:drive:{root_id}",
            context=context,
        )

    async def cancel_tree(self, root_id: str, message: str) -> None:
        """Cancel a tree without a grace period, and wait for a limited time until its code has ended."""
        answer = await cancel(self, root_id, message, is_forced=True)
        logger.debug("Tree %s: %s", root_id, answer["message"])

    def drain_tree(self, root_id: str, seconds: float) -> None:
        """Drain the run of a tree in this process, if there is one."""
        run = active_runs.run_of(self.store, root_id)
        if run is not None:
            run.drain(seconds)

    async def _run(
        self,
        root_id: str,
        named_id: str | None,
        force: bool,
        resume_only: bool,
        leave: Callable[[list[Task], Task], bool] | None,
        on_read: Callable[[list[Task]], object] | None,
    ) -> list[Task] | None:
        active_runs.claim(self.store, root_id)
        try:
            await workers_seen(self.store).look(self.store)
            tasks = await self.store.tree(root_id)
            if not tasks:
                raise NotFoundError(root_id)
            if on_read is not None:
                on_read(tasks)
            root = _root_of(tasks, root_id)
            if await is_owned_elsewhere(self.store, root):
                raise AlreadyRunningError(root_id)
            if leave is not None and has_unended_run(root) and leave(tasks, root):
                return None
            if _is_unannounced(root) and self.hooks.tree.get("on_tree_created"):
                tree = TaskTreeNode.build([task.copy() for task in tasks])
                await self.hooks.run_tree("on_tree_created", tree.task, tree)
            tasks = await self._finish_last_run(tasks, root)
            if resume_only:
                return tasks
            return await self._drive_requested(tasks, root_id, named_id, force)
        finally:
            active_runs.leave(self.store, root_id)

    async def _drive_requested(
        self, tasks: list[Task], root_id: str, named_id: str | None, force: bool
    ) -> list[Task]:
        """Request a run and drive it. Plan again if another process changes the tree before the request."""
        for _ in range(ATTEMPTS):
            root = _root_of(tasks, root_id)
            run = self._requested(tasks, root, named_id, force)
            if run is None:
                return tasks
            webhooks = await register_defaults(self.store, root, self.settings)
            try:
                return await self._drive(run)
            except AlreadyRunningError:
                if run.has_begun:
                    raise
                await withdraw(self.store, webhooks)
                tasks = await self.store.tree(root_id)
                if has_unended_run(_root_of(tasks, root_id)):
                    raise AlreadyRunningError(root_id) from None
        raise AlreadyRunningError(root_id)

    async def _finish_last_run(self, tasks: list[Task], root: Task) -> list[Task]:
        """Finish a run that a dead process left: its tasks, or only its end hooks."""
        if has_unended_run(root):
            run = self._resumed(tasks, root)
            ended = [task for task in tasks if task.child_trees and task.status in TERMINAL]
            await self._cancel_child_trees([task for task in ended if task.id in run.first_moves])
            return await self._drive(run)
        if root.run_requested_at is not None:
            await self.call_end_hooks(root, tree_status(tasks, root.id))
        return tasks

    def _requested(self, tasks: list[Task], root: Task, named_id: str | None, force: bool) -> TreeRun | None:
        """Return the requested run, or None if there is nothing to run."""
        batch = ChangeSet(root.id, active_runs.owner_id(), utc_now())
        is_known = is_known_for(self.store)
        scope = begin_run(
            tasks,
            root,
            batch,
            named_id=named_id,
            force=force,
            is_known=is_known,
            no_cache=self.no_cache,
        )
        if batch.removed:
            gone = set(batch.removed)
            tasks[:] = [task for task in tasks if task.id not in gone]
        if not has_work(tasks, scope):
            return None
        return self._make(tasks, scope, batch)

    def _resumed(self, tasks: list[Task], root: Task) -> TreeRun:
        batch = ChangeSet(root.id, active_runs.owner_id(), utc_now())
        context = self._context(no_cache=root.run_ignores_cache)
        take_over(
            tasks,
            root,
            batch,
            is_known=is_known_for(self.store),
            effect=partial(context.effect, must_know=True),
            max_interruptions=self.settings.max_interruptions,
        )
        return self._make(tasks, root.run_scope, batch)

    def closing(self, tasks: list[Task], root: Task) -> TreeRun:
        """Return a run that starts no tasks and only writes cancellations, for a tree without an owner."""
        fence = {
            "run_owner": root.run_owner,
            "lease_until": root.lease_until,
        }  # no process has taken it since
        batch = ChangeSet(root.id, active_runs.owner_id(), utc_now(), fence)
        return self._make(tasks, root.run_scope if has_unended_run(root) else None, batch, is_closing=True)

    async def _cancel_child_trees(self, tasks: Sequence[Task]) -> None:
        """Cancel the trees that tasks have started, because the tasks end without their code."""
        ids = ids_of_children(tasks)
        roots = await self.store.get(ids) if ids else {}
        parents = {task.id for task in tasks}
        for root in roots.values():
            if root.spawned_by in parents and is_open(root):
                await self.cancel_tree(root.id, "The task that started the tree has ended.")

    async def cancel_child_trees_below(self, tasks: Sequence[Task], task_ids: Sequence[str]) -> None:
        """Cancel the trees that started tasks below these, and these, have started."""
        below = set(TreeIndex(tasks).subtree(*task_ids))
        await self._cancel_child_trees(
            [task for task in tasks if task.id in below and TaskStatus.is_active(task.status)]
        )

    def _context(self, *, no_cache: bool = False) -> RunContext:
        driver = replace(self, no_cache=no_cache)  # also for the trees that tasks start
        nesting = NestingContext(driver=driver, patience=self.patience, depth=self.depth)
        runner, placement = self.runner, placement_of(self.store, self.settings)
        return RunContext(
            hooks=self.hooks,
            runner=runner if isinstance(runner, LocalRunner) else LocalRunner(),
            settings=self.settings,
            instances=self.instances,
            nests=nesting,
            elsewhere=None if isinstance(runner, LocalRunner) else runner,
            placement=placement,
            pool=None if placement is not None else pool_of(self.settings),
        )

    def _make(
        self, tasks: list[Task], scope: list[str] | None, batch: ChangeSet, *, is_closing: bool = False
    ) -> TreeRun:
        fault = None if is_closing else _invalid_tree(tasks, scope)
        run = TreeRun(
            self.store,
            self._context(no_cache=_root_of(tasks, batch.root_id).run_ignores_cache),
            self.bus,
            process_semaphore(self.settings.max_concurrency),
            tasks=tasks,
            scope=scope,
            first=batch,
            limit=self.max_concurrency,
            is_closing=is_closing,
            patience=self.patience,
        )
        if fault is not None:
            run.refuse([task.id for task in in_scope(tasks, scope)], fault)
        return run

    async def _drive(self, run: TreeRun) -> list[Task]:
        """Drive a run to its end. Cancelling this coroutine cancels the tree and waits for its code."""
        active_runs.enter(self.store, run)
        with (
            watching_loop(run, self.settings.loop_block_seconds),
            leases.holding_lease(self.store, run, active_runs.owner_id(), self.settings.lease_seconds),
        ):
            driving = asyncio.create_task(run.drive(), name=f"apflow:run:{run.root_id}")
            try:
                if self.hooks.tree.get("on_tree_started"):
                    await self.hooks.run_tree("on_tree_started", run.by_id[run.root_id].copy())
                with self.bus.on_notice(NoticeKind.CANCEL, run.look_at):
                    await asyncio.shield(driving)
            except asyncio.CancelledError:
                await self._give_up(run, driving)
                raise
            except OwnerLostError:
                if run.hold.was_held():
                    late = late_results.late_results(run.state.running.values())
                    await late_results.deliver(
                        self.store, run.root_id, run.requested_at, active_runs.owner_id(), late
                    )
                raise
        if run.summary is not None:
            await self.call_end_hooks(run.by_id[run.root_id], run.summary)
        return run.tasks

    async def _give_up(self, run: TreeRun, driving: asyncio.Task[None]) -> None:
        if driving.done():
            return
        if self.releases():
            run.drain(0)
            await asyncio.wait({driving}, timeout=self.settings.cancel_grace + self.settings.cancel_wait)
            driving.cancel()
            return
        run.cancel(CancelRequest([run.root_id], "The caller was cancelled.", is_forced=True))
        await asyncio.wait({driving}, timeout=self.settings.cancel_grace + self.settings.cancel_wait)
        driving.cancel()
        if run.summary is not None:
            await self.call_end_hooks(run.by_id[run.root_id], run.summary)

    async def call_end_hooks(self, root: Task, summary: TreeSummary) -> None:
        """Call the end hooks of the tree, at least once, and record that they were called."""
        if root.run_requested_at is None:
            return
        shown = root.copy()
        if summary.status is TaskStatus.FAILED:
            await self.hooks.run_tree("on_tree_failed", shown, summary.error or "")
        elif summary.status is TaskStatus.CANCELLED:
            await self.hooks.run_tree("on_tree_cancelled", shown, summary.error or "Cancelled.")
        else:
            await self.hooks.run_tree("on_tree_completed", shown, str(summary.status))
        batch = ChangeSet(root.id, active_runs.owner_id(), utc_now())
        expects = {"run_requested_at": root.run_requested_at, "run_ended_at": root.run_ended_at}
        batch.put(root, expects, {"run_requested_at": None, "run_owner": None})
        change = batch.change()
        patiently = Patience(f"The end of tree {root.id}", self.patience)
        await patiently(lambda: self.store.write(change))


async def is_owned_elsewhere(store: TaskStore, root: Task) -> bool:
    """Return whether another live process owns the requested run of a tree."""
    if not store.capabilities.is_shared or root.run_requested_at is None:
        return False
    if root.run_owner in (None, active_runs.owner_id()):
        return False
    return not await store.unowned(active_runs.owner_id(), 1, [root.id])


def _is_unannounced(root: Task) -> bool:
    """Return whether a tree was created task by task, so that its creation hooks were not called yet.

    The tasks of a tree that was created as a whole have executors; see `TaskCreator`.
    """
    is_new = root.run_ended_at is None and root.started_at is None and root.status is TaskStatus.PENDING
    return is_new and root.executor is None and choose_executor(root, registry.executor_is_known) is not None


def _root_of(tasks: Sequence[Task], root_id: str) -> Task:
    root = next((task for task in tasks if task.id == root_id), None)
    if root is None:
        raise NotFoundError(root_id)  # it has been deleted meanwhile
    return root


async def cancel(driver: Driver, task_id: str, message: str | None, *, is_forced: bool) -> dict[str, Json]:
    """Cancel a task, its descendants and the tasks that depend on them; wait until their code has ended.

    Returns:
        `{"status": "cancelled" | "cancelling" | "failed", "task_id", "message"}`, and `token_usage` and
        `result` if the executor returned them.
    """
    store, settings = driver.store, driver.settings
    task = (await store.get([task_id])).get(task_id)
    if task is None:
        return _nothing_to_cancel(task_id)
    try:
        tasks = await store.existing_tree(task.root_id, task_id)
    except NotFoundError:
        return _nothing_to_cancel(task_id)  # it has been deleted meanwhile
    if not _is_open_below(tasks, task_id):
        message = f"Nothing is left to cancel: task {task_label(task)} is {task.status}."
        return {"status": "failed", "task_id": task_id, "message": message}
    request = CancelRequest([task_id], message, is_forced)
    wait = settings.cancel_wait + (0 if is_forced else settings.cancel_grace)
    try:
        async with asyncio.timeout(wait):
            has_cancelled = await _ask(driver, task.root_id, request)
    except TimeoutError:
        text = "The cancellation was requested; the task's code has not ended yet."
        return {"status": "cancelling", "task_id": task_id, "message": text}
    ended = (await store.get([task_id])).get(task_id, task)
    if not has_cancelled:
        text = f"Nothing is left to cancel: task {task_label(task)} is {ended.status}."
        return {"status": "failed", "task_id": task_id, "message": text}
    return _answer(ended, message)


async def _ask(driver: Driver, root_id: str, request: CancelRequest) -> bool:
    """Send a request to the run of the tree, or carry it out if no process runs it; wait for the end."""
    while True:
        run = await active_runs.running(driver.store, root_id)
        if run is not None:
            run.cancel(request)
            if await asyncio.shield(asyncio.wrap_future(request.done)):
                return True
            if not _is_open_below(
                await driver.store.existing_tree(root_id, *request.task_ids), *request.task_ids
            ):
                return False
            request = CancelRequest(request.task_ids, request.message, request.is_forced)
            await asyncio.sleep(0)  # the run ended before the request reached it
            continue
        root = (await driver.store.get([root_id])).get(root_id)
        if root is not None and await is_owned_elsewhere(driver.store, root):
            ended = await _ask_elsewhere(driver.store, root_id, request)
            if ended is not None:
                return ended
            continue  # its owner has died or released it
        try:
            await _cancel_unowned(driver, root_id, request)
            return request.done.result()
        except AlreadyRunningError:
            continue  # another process has started to run it


async def _ask_elsewhere(store: TaskStore, root_id: str, request: CancelRequest) -> bool | None:
    """Store a request for the owner of the tree and wait for the result.

    Returns:
        Whether any task ended as cancelled; None if no process owns the tree any more.
    """
    wait = MIN_WAIT_SECONDS
    while True:
        tasks = await store.tree(root_id)
        batch = ChangeSet(root_id, None, utc_now())
        is_open = request_elsewhere(tasks, request, batch)
        if not is_open:
            return request.has_cancelled
        if batch.moves:
            try:
                await store.write(batch.change())
            except ConflictError:
                continue
        await asyncio.sleep(wait)
        wait = min(MAX_WAIT_SECONDS, wait * 2)
        if not await is_owned_elsewhere(store, _root_of(tasks, root_id)):
            return None


async def _cancel_unowned(driver: Driver, root_id: str, request: CancelRequest) -> None:
    active_runs.claim(driver.store, root_id)
    try:
        tasks = await driver.store.tree(root_id)
        await driver.cancel_child_trees_below(tasks, request.task_ids)
        root = _root_of(tasks, root_id)
        run = driver.closing(tasks, root)
        active_runs.enter(driver.store, run)
        run.cancel(request)
        await run.drive()
        if run.summary is not None:
            await driver.call_end_hooks(run.by_id[root.id], run.summary)
    finally:
        active_runs.leave(driver.store, root_id)


def _invalid_tree(tasks: Sequence[Task], scope: Sequence[str] | None) -> str | None:
    """Return why no run can finish this tree, or None."""
    outside = _outside(tasks, scope)
    if outside:
        return outside
    cycle = find_deadlock(tasks)
    if not cycle:
        return None
    names = {task.id: task.name for task in tasks}
    shown = " -> ".join(repr(names[each]) for each in [*cycle[:6], cycle[0]])
    return f"These tasks wait for each other: {shown}. Change a dependency, or move a task out of its group"


def _outside(tasks: Sequence[Task], scope: Sequence[str] | None) -> str | None:
    """Return a message that names tasks to run with dependencies outside the tree, or None."""
    known = {task.id for task in tasks}
    faults = [
        f"{task_label(task)} depends on {dependency['id']!r}"
        for task in in_scope(tasks, scope)
        if task.status not in TERMINAL
        for dependency in task.dependencies
        if dependency["id"] not in known
    ]
    if not faults:
        return None
    more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
    return (
        f"Dependencies are outside the tree: {', '.join(faults[:5])}{more}. Create the missing tasks in this "
        "tree (parent_id), or add them with TaskTreeNode.add_child before the run"
    )


def _is_open_below(tasks: Sequence[Task], *task_ids: str) -> bool:
    below = set(TreeIndex(tasks).subtree(*task_ids))
    return any(task.id in below and task.status not in TERMINAL for task in tasks)


def _nothing_to_cancel(task_id: str) -> dict[str, Json]:
    return {"status": "failed", "task_id": task_id, "message": str(NotFoundError(task_id))}


def _answer(task: Task, message: str | None) -> dict[str, Json]:
    answer: dict[str, Json] = {
        "status": "cancelled",
        "task_id": task.id,
        "message": message or f"Task {task.name!r} is cancelled.",
    }
    result = task.result
    if isinstance(result, dict):
        result = cast("dict[str, Json]", result)
        if result.get("token_usage") is not None:
            answer["token_usage"] = result["token_usage"]
        answer["result"] = result
    return answer
