"""`Trees`: runs trees of tasks in tests, with stubs for executors and a clock that does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, cast

from apflow.core.authoring.creator import TaskCreator
from apflow.core.errors import InvalidInputError
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.registry import get_registry
from apflow.core.manager import TaskManager
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TaskTreeNode, tree_outcome
from apflow.core.payload.json_value import copy_json
from apflow.core.store.memory import MemoryStore
from apflow.testing.stubs import (
    NOTHING,
    ExecutorCall,
    Failure,
    RecordingRunner,
    StubbedExecutor,
    loadable,
    read_stub,
)
from apflow.testing.virtual_time import VirtualTimeLoop

DAY_SECONDS = 86_400.0

Tasks = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class FinishedRun:
    """A run of a tree that has ended."""

    root_task_id: str
    status: str
    progress: float
    result: Json  # of the root
    error: str | None  # the first error that counts
    tolerated: list[str]  # ids of the failed tasks that do not count
    tasks: list[Task]  # in order of position
    ids: Mapping[str, str]  # ids and unique names of the array -> stored ids
    events: list[TaskEvent]  # the stored events of this run
    seconds: float  # that passed on the clock of the test

    def __getitem__(self, name: str) -> Task:
        """Return a task by its id or unique name in the array, or by its stored id.

        Raises:
            KeyError: there is none, or several have the name.
        """
        task_id = self.ids.get(name, name)
        found = [task for task in self.tasks if task.id == task_id]
        found = found or [task for task in self.tasks if task.name == name]
        if len(found) != 1:
            known = ", ".join(sorted({repr(task.name) for task in self.tasks}))
            raise KeyError(f"{len(found) or 'No'} tasks are called {name!r}. Names of the tree: {known}.")
        return found[0]

    @property
    def waits(self) -> list[float]:
        """The seconds that each retry waited, in order."""
        return [
            float(cast("dict[str, Any]", event.data)["wait"])
            for event in self.events
            if event.type is EventType.RETRYING
        ]


class Trees:
    """Runs trees on an empty store in memory, in which time passes without waiting.

    The real code of executors without a stub is called.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.calls: list[ExecutorCall] = []  # of all executors, in order
        self._stubbed: dict[str, StubbedExecutor] = {}
        self._undo: list[Callable[[], None]] = []
        self._begun_at = 0.0

    def stub(
        self,
        executor_id: str,
        *,
        result: Json = NOTHING,
        failure: Failure | None = None,
        function: Callable[[dict[str, Any]], Any] | None = None,
        times: int | None = None,
        takes: float = 0.0,
        for_task: str | None = None,
    ) -> None:
        """Replace an executor until the end of the test. The executor does not have to be installed.

        If it is installed, its input schema, `effect` and limits stay, so that invalid inputs fail as they
        do in production.

        Args:
            result: what each call returns; by default None.
            failure: what each call raises: an exception, its class, or the text of a RuntimeError.
            function: called with the inputs; its return value is the result. It may be a coroutine function.
            times: the number of calls that fail before the result or the function; by default all fail.
            takes: seconds that each call takes, on the clock of the test.
            for_task: the name of the only task that gets this stub; by default all tasks of the executor.

        Raises:
            InvalidInputError: the arguments contradict each other.
        """
        stub = read_stub(result, failure, function, times, takes)
        stubbed = self._stubbed.get(executor_id)
        if stubbed is None:
            stubbed = self._stubbed[executor_id] = StubbedExecutor(executor_id, loadable(executor_id))
            self._undo.append(get_registry().replace(executor_id, stubbed.make_class()))
        if for_task is None:
            stubbed.for_all = stub
        else:
            stubbed.for_tasks[for_task] = stub

    def run(
        self, tasks: Tasks | Any, *, user_id: str | None = None, limit: float = 365 * DAY_SECONDS
    ) -> FinishedRun:
        """Create a tree, run it to its end, and return what happened. Works in sync and async tests.

        Args:
            tasks: an array of tasks, or an object with `to_array()`, such as `TaskBuilder`.
            user_id: the user of the tasks.
            limit: seconds that the run may take on the clock of the test.

        Raises:
            TreeInvalidError: the array is not a valid tree.
            TimeoutError: the run exceeds the limit; the message names the tasks that have not ended.
        """
        to_array = getattr(tasks, "to_array", None)
        array = cast("Tasks", to_array() if callable(to_array) else tasks)

        async def create() -> tuple[str, Mapping[str, str]]:
            node = await TaskCreator(self.store).create_task_tree_from_array(array, user_id=user_id)
            return node.task.id, node.ids

        return self._in_loop(lambda: self._run(create, limit, force=False))

    def run_again(
        self, run: FinishedRun, *, force: bool = False, limit: float = 365 * DAY_SECONDS
    ) -> FinishedRun:
        """Execute the tree of a run again: what failed or was cancelled, and what was waiting for it.

        Args:
            force: also run completed tasks again.
            limit: as for `run`.
        """

        async def known() -> tuple[str, Mapping[str, str]]:
            return run.root_task_id, run.ids

        return self._in_loop(lambda: self._run(known, limit, force=force))

    def calls_of(self, executor_id: str | None = None, *, task: str | None = None) -> list[ExecutorCall]:
        """Return the calls of an executor, of the tasks of a name, or both, in order."""
        return [
            call for call in self.calls if executor_id in (None, call.executor) and task in (None, call.task)
        ]

    def close(self) -> None:
        """Put the real executors back."""
        while self._undo:
            self._undo.pop()()

    def _in_loop(self, make: Callable[[], Any]) -> FinishedRun:
        def run() -> FinishedRun:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                return cast(FinishedRun, runner.run(make()))

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return run()
        with ThreadPoolExecutor(1, "apflow-testing") as pool:  # a loop runs in this thread
            return pool.submit(copy_context().run, run).result()

    async def _run(self, make: Callable[[], Any], limit: float, *, force: bool) -> FinishedRun:
        root_id, ids = await make()
        loop = asyncio.get_running_loop()
        self._begun_at = loop.time()
        root = (await self.store.get([root_id]))[root_id]
        manager = TaskManager(self.store, runner=RecordingRunner(self._record))
        try:
            async with asyncio.timeout(limit):
                await manager.distribute_task_tree(TaskTreeNode(root.copy()), force=force)
        except TimeoutError:
            raise TimeoutError(await self._unfinished(root_id, limit)) from None
        tasks = await self.store.tree(root_id)
        return FinishedRun(
            **tree_outcome(tasks, root_id),
            tasks=tasks,
            ids=ids,
            events=await self.store.events(root_id, after=root.last_event),
            seconds=loop.time() - self._begun_at,
        )

    async def _unfinished(self, root_id: str, limit: float) -> str:
        cancelled = [
            repr(task.name) for task in await self.store.tree(root_id) if task.status is TaskStatus.CANCELLED
        ]
        return (
            f"The tree has not ended after {limit:g} seconds of the test's clock, and was cancelled. "
            f"These tasks had not ended: {', '.join(cancelled)}."
        )

    def _record(self, executor: ExecutableTask, inputs: Mapping[str, Json]) -> None:
        task = executor.stored_task
        if task is None:
            raise InvalidInputError("An executor was called outside of a run.")
        at = asyncio.get_running_loop().time() - self._begun_at
        call = ExecutorCall(
            str(task.executor), task.name, task.id, copy_json(dict(inputs)), task.attempts, at
        )
        self.calls.append(call)
