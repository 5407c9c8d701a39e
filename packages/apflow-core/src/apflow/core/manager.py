"""TaskManager: runs stored trees, as the documents of its users know it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping, Sequence
from operator import is_

from apflow.core.authoring.adoption import adopt
from apflow.core.authoring.repository import TaskRepository
from apflow.core.bounds import MAX_COUNT
from apflow.core.concurrency.containment import forget_cancellations, log_error, must_pass
from apflow.core.concurrency.exit_fence import enter_code
from apflow.core.engine.driver import Driver, cancel
from apflow.core.errors import InvalidInputError, NotFoundError
from apflow.core.events.subscription import Subscription
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.hooks import Hooks, TaskPostHook, TaskPreHook, name_of
from apflow.core.extensions.runner import AnyRunner, chosen_runner
from apflow.core.model.event import TaskEvent
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TaskTreeNode
from apflow.core.payload.json_value import clean_text, copy_json
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore
from apflow.core.store.session import get_default_session

logger = logging.getLogger(__name__)

StreamingCallback = Callable[[dict[str, Json]], Awaitable[object] | object]


class StreamingCallbacks:
    """Who is called with each event of a run with streaming: a dict, in order, the final one always.

    A callback never decides the fate of a run. One that raises is logged by name and called with the next
    event all the same; one that takes longer than a hook may is logged and removed.
    """

    def __init__(self) -> None:
        self.callbacks: list[StreamingCallback] = []

    def add(self, callback: StreamingCallback) -> None:
        """Call `callback(event)` with every event; it may be a coroutine function."""
        self.callbacks.append(callback)

    def remove(self, callback: StreamingCallback) -> None:
        """Stop calling it."""
        self.callbacks.remove(callback)

    async def send(self, event: TaskEvent, is_ended: Callable[[], bool] = lambda: True) -> None:
        """Call every callback with its own copy of an event.

        Args:
            is_ended: whether apflow has asked the caller to end: only then is a cancellation propagated.
        """
        seconds = get_settings().hook_timeout
        current = asyncio.current_task()
        for callback in list(self.callbacks):
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    answer = callback(copy_json(event.to_dict()))
                    if inspect.isawaitable(answer):
                        await answer
            except BaseException as error:  # the border to users' code
                if must_pass(error, current, is_ended):
                    raise
                if limit.expired() and callback in self.callbacks:
                    self.remove(callback)
                    logger.warning("Callback %s took over %s s: it is removed.", name_of(callback), seconds)
                else:
                    log_error(
                        logger, "Callback %s failed; the run continues.", name_of(callback), error=error
                    )
            if current is not None and current.cancelling() and not is_ended():
                await forget_cancellations(current)


class TaskManager:
    """Runs the trees of one store.

    Args:
        db: the store, of `create_session()`; None for the default one.
        root_task_id: a tree of interest; kept for its users, nothing hangs on it.
        pre_hooks: called before each task of this manager's runs, after the registered ones.
        post_hooks: called after each task, after the registered ones.
        executor_instances: filled, while a task runs, with task id -> executor instance.
        runner: where executors are called; by default the runner that the setting `runner` names.
        max_concurrency: concurrent executor calls of each run; the process has a separate limit.

    Raises:
        InvalidInputError: `max_concurrency` is not a positive integer.
    """

    def __init__(
        self,
        db: TaskStore | None = None,
        root_task_id: str | None = None,
        pre_hooks: Sequence[TaskPreHook] | None = None,
        post_hooks: Sequence[TaskPostHook] | None = None,
        executor_instances: MutableMapping[str, ExecutableTask] | None = None,
        *,
        runner: AnyRunner | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        is_count = not isinstance(max_concurrency, bool)
        if max_concurrency is not None and not (is_count and 1 <= max_concurrency <= MAX_COUNT):
            raise InvalidInputError(f"max_concurrency must be an integer from 1 to {MAX_COUNT:,}.")
        self.db = db if db is not None else get_default_session()
        self.root_task_id = root_task_id
        self.task_repository = TaskRepository(self.db)
        self.streaming_callbacks = StreamingCallbacks()
        self.executor_instances: MutableMapping[str, ExecutableTask] = (
            executor_instances if executor_instances is not None else {}
        )
        self.pre_hooks: list[TaskPreHook] = list(pre_hooks or ())
        self.post_hooks: list[TaskPostHook] = list(post_hooks or ())
        self._runner = runner
        self._max_concurrency = max_concurrency

    async def distribute_task_tree(
        self,
        task_tree: TaskTreeNode,
        use_callback: bool = True,
        *,
        force: bool = False,
        no_cache: bool = False,
    ) -> TaskTreeNode:
        """Run the stored tree below a node and return the node, refreshed.

        What has completed is kept, unless `force`; what failed or was cancelled runs again. A node that was
        added with `add_child` and is the root of another stored tree becomes a part of this tree first.

        Args:
            use_callback: whether `streaming_callbacks` receive the events.
            no_cache: make every task that runs call its executor, whatever results are cached.

        Raises:
            NotFoundError: the tree is not stored.
            AlreadyRunningError: a living owner runs it.
            InvalidInputError: a node cannot become a part of the tree.
        """
        await adopt(self.db, task_tree)
        if use_callback and self.streaming_callbacks.callbacks:
            await self._run_streaming(task_tree, force, no_cache)
        else:
            await self._run(task_tree, force, no_cache)
        return task_tree

    async def distribute_task_tree_with_streaming(
        self,
        task_tree: TaskTreeNode,
        use_callback: bool = True,
        *,
        force: bool = False,
        no_cache: bool = False,
    ) -> None:
        """As `distribute_task_tree`; `streaming_callbacks` receive every event before it returns."""
        await self.distribute_task_tree(task_tree, use_callback, force=force, no_cache=no_cache)

    async def cancel_task(
        self, task_id: str, error_message: str | None = None, *, force: bool = False
    ) -> dict[str, Json]:
        """Cancel a task, all below it and what needs them; wait until their code has ended.

        Args:
            error_message: why; becomes the `error` of the cancelled tasks.
            force: give executors no grace period, and cancel tasks that clean up (`always`), too.

        Returns:
            `{"status", "task_id", "message"}` and, where the executor kept them, `token_usage` and `result`.
            The status is "cancelled"; "cancelling", where code does not end in time; or "failed", where
            nothing was left to cancel, or there is no such task.
        """
        message = None if error_message is None else clean_text(error_message)
        return await cancel(self._driver(), task_id, message, is_forced=force)

    def subscribe(self, root_id: str, after: int | None = None) -> AsyncGenerator[TaskEvent, None]:
        """Return the events of a tree, in order, to the final one of its run.

        Args:
            after: number of the last event that is known already (0: from the first); None: from now on.
                Where this process runs the tree, that is the call; else it is the first look at the store.
        """
        driver = self._driver()
        size = driver.settings.event_queue_size
        return aiter(Subscription(driver.bus, self.db, root_id, after=after, size=size))

    def _driver(self, *, no_cache: bool = False) -> Driver:
        return Driver(
            self.db,
            hooks=Hooks.current(self.pre_hooks, self.post_hooks),
            runner=self._runner or chosen_runner(),
            instances=self.executor_instances,
            max_concurrency=self._max_concurrency,
            no_cache=no_cache,
        )

    async def _run(self, node: TaskTreeNode, force: bool, no_cache: bool) -> None:
        # Which tree a task belongs to, and whether it is the root, never changes.
        named = None if node.task.parent_id is None else node.task.id
        known: list[Task] = []

        def take(tasks: list[Task]) -> None:
            known[:] = tasks
            node.refresh(tasks)

        driver = self._driver(no_cache=no_cache)
        tasks = await driver.run(node.task.root_id, named_id=named, force=force, on_read=take) or []
        if len(tasks) != len(known) or not all(map(is_, tasks, known)):
            node.refresh(tasks)  # the run has read them again

    async def _run_streaming(self, node: TaskTreeNode, force: bool, no_cache: bool) -> None:
        root_id, driver = node.task.root_id, self._driver()
        root = (await self.db.get([root_id])).get(root_id)
        if root is None:
            raise NotFoundError(root_id)
        size = driver.settings.event_queue_size
        subscription = Subscription(
            driver.bus, self.db, root_id, after=root.last_event, size=size, until_stopped=True
        )
        is_ended = False
        forwarding = asyncio.create_task(
            self._forward(subscription, lambda: is_ended), name=f"apflow:stream:{root_id}"
        )
        try:
            await self._run(node, force, no_cache)
        finally:
            subscription.stop()
            try:
                await asyncio.wait({forwarding})
            finally:
                is_ended = True
                forwarding.cancel()

    async def _forward(self, events: Subscription, is_ended: Callable[[], bool]) -> None:
        enter_code()
        try:
            async for event in events:
                await self.streaming_callbacks.send(event, is_ended)
        except Exception:
            logger.exception("The events of tree %s cannot be read; its run continues.", events.root_id)
