"""What every runner must keep to, as tests that its author inherits.

```python
class TestMyRunner(RunnerContract):
    def make_runner(self):
        return MyRunner()
```

The executors of the tests are classes of this module, which another process can import, and report through
files: a runner may call them in another process of the machine.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apflow.core import MemoryStore, TaskCreator, TaskManager
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.extensions.runner import AnyRunner, LocalRunner
from apflow.core.model.log import LogQuery
from apflow.core.model.task import Task

POLL_INTERVAL_SECONDS = 0.01
CLEAN_UP_SECONDS = 0.2  # that code which is cancelled takes

logger = logging.getLogger(__name__)


class Adds(BaseTask):
    """Adds two numbers."""

    id = "contract_adds"
    name = "Adds"
    description = "Adds two numbers."

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"sum": inputs["a"] + inputs["b"]}


class AddsInThread(BaseTask):
    """Adds two numbers in a plain function."""

    id = "contract_adds_in_thread"
    name = "Adds in a thread"
    description = "Adds two numbers."

    def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sum": inputs["a"] + inputs["b"]}


class Fails(BaseTask):
    """Raises an error."""

    id = "contract_fails"
    name = "Fails"
    description = "Raises an error."

    async def execute(self, inputs: dict[str, Any]) -> Any:
        raise LookupError(inputs["message"])


class Waits(BaseTask):
    """Waits until it is cancelled, and writes files when it begins, when it is asked, and when it ends."""

    id = "contract_waits"
    name = "Waits"
    description = "Waits until it is cancelled."
    folder: Path | None = None

    async def execute(self, inputs: dict[str, Any]) -> Any:
        folder = self.folder = Path(inputs["folder"])
        folder.joinpath("began").touch()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(CLEAN_UP_SECONDS)
            folder.joinpath("ended").touch()

    async def cancel(self) -> Any:
        if self.folder is not None:
            self.folder.joinpath("asked").touch()
        return {"partial_result": "half of it"}


class Tells(BaseTask):
    """Logs, reports progress, and returns what it knows of its task."""

    id = "contract_tells"
    name = "Tells"
    description = "Returns what it knows of its task."

    async def execute(self, inputs: dict[str, Any]) -> Any:
        logger.warning("a record")
        self.log("a line")
        await self.report_progress(0.5, "half of it", {"n": 1})
        return {
            "inputs": inputs,
            "results": dict(self.dependency_results),
            "task_id": self.task_id,
            "root": self.root_task_id,
            "user": self.user_id,
            "attempt": self.attempts,
            "key": self.idempotency_key,
        }


class Stores(BaseTask):
    """Runs another tree as a part of its task, and saves a state."""

    id = "contract_stores"
    name = "Stores"
    description = "Runs another tree, and saves a state."

    async def execute(self, inputs: dict[str, Any]) -> Any:
        await self.save_state({"at": inputs["at"]})
        child = {"id": "c", "name": "c", "params": {"executor_id": Adds.id}, "inputs": {"a": 1, "b": 2}}
        outcome = await self.run_child([child])
        return {"saved": await self.saved_state(), "sum": outcome.results["c"]["sum"]}


EXECUTORS = (Adds, AddsInThread, Fails, Waits, Tells, Stores)


@contextmanager
def registered_executors() -> Generator[None]:
    """Register the executors of the contract within the context."""
    for each in EXECUTORS:
        executor_register(each, override=True)
    try:
        yield
    finally:
        for each in EXECUTORS:
            get_registry().unregister(each.id)


class RunnerContract(ABC):
    """Tests for one runner. Subclass it, with a name that begins with `Test`.

    They run trees with the runner, so they hold for a `Runner` and for a subclass of `LocalRunner`.
    """

    within = 30.0  # seconds for one tree

    @abstractmethod
    def make_runner(self) -> AnyRunner:
        """Return a runner, as its entry point does. The tests close it."""

    @pytest.fixture(autouse=True)
    def contract_executors(self) -> Iterator[None]:
        """Register the executors of the tests."""
        with registered_executors():
            yield

    @pytest.mark.asyncio
    async def test_a_task_has_the_result_that_the_executor_returns(self) -> None:
        """Return the outcome with which `CallServer.serve` ended the call, unchanged."""
        task = await self._run_one(Adds, {"a": 1, "b": 2})
        assert (task.status, task.result) == ("completed", {"sum": 3})

    @pytest.mark.asyncio
    async def test_a_plain_execute_is_called_too(self) -> None:
        """Plain functions run in a thread: `CallServer.serve` and `LocalRunner.call` see to it."""
        assert (await self._run_one(AddsInThread, {"a": 1, "b": 2})).result == {"sum": 3}

    @pytest.mark.asyncio
    async def test_a_task_fails_with_the_error_of_the_executor(self) -> None:
        """The class of the error is the `error_type`, and the traceback shows the executor's code."""
        db = MemoryStore()
        task = await self._run_one(Fails, {"message": "as asked"}, db=db)
        assert (task.status, task.result["error_type"]) == ("failed", "LookupError")
        [attempt] = await db.attempts(task.id)
        assert attempt.traceback is not None
        assert "raise LookupError" in attempt.traceback

    @pytest.mark.asyncio
    async def test_calls_at_once_do_not_mix(self) -> None:
        """One runner makes many calls at once: keep what belongs to a call apart from the others."""
        array = [{"id": "r", "name": "r", "params": {"executor_id": Adds.id}, "inputs": {"a": 0, "b": 0}}]
        for n in range(50):
            one = {"id": f"t{n}", "name": "t", "params": {"executor_id": Adds.id}, "parent_id": "r"}
            array.append({**one, "inputs": {"a": n, "b": 1}})
        tasks = await self._run(array)
        assert [tasks[f"t{n}"].result for n in range(50)] == [{"sum": n + 1} for n in range(50)]

    @pytest.mark.asyncio
    async def test_a_task_knows_its_run_and_its_dependencies(self) -> None:
        """Pass the call as it is: results of dependencies, attempt and keys are in it."""
        first = {"id": "a", "name": "a", "params": {"executor_id": Adds.id}, "inputs": {"a": 1, "b": 2}}
        second = {
            "id": "r",
            "name": "r",
            "params": {"executor_id": Tells.id},
            "inputs": {"of": {"$from": "a", "path": "sum"}},
            "dependencies": [{"id": "a"}],
        }
        tasks = await self._run([second, {**first, "parent_id": "r"}])
        told, task = tasks["r"].result, tasks["r"]
        assert told["inputs"]["of"] == 3
        assert told["results"] == {tasks["a"].id: {"sum": 3}}
        assert (told["task_id"], told["root"], told["user"]) == (task.id, task.id, "ann")
        assert (told["attempt"], told["key"]) == (1, f"{task.id}:0")

    @pytest.mark.asyncio
    async def test_progress_and_log_lines_arrive(self) -> None:
        """Pass each message of the call to `receive`, in order, before the outcome."""
        db, events = MemoryStore(), list[Mapping[str, Any]]()
        task = await self._run_one(Tells, {}, db=db, events=events)
        [progress] = [each for each in events if each["type"] == "progress"]
        assert (progress["progress"], progress["message"], progress["data"]) == (0.5, "half of it", {"n": 1})
        lines = [line.entry.message for line in await db.logs(LogQuery(root_task_id=task.root_id))]
        assert [each for each in lines if each in ("a record", "a line")] == ["a record", "a line"]

    @pytest.mark.asyncio
    async def test_the_code_uses_the_store_of_its_tree(self) -> None:
        """Send the answers to the requests of the call by `send`, while the call runs."""
        task = await self._run_one(Stores, {"at": 3})
        assert task.result == {"saved": {"at": 3}, "sum": 3}

    @pytest.mark.asyncio
    async def test_a_megabyte_passes_both_ways(self) -> None:
        """Pass inputs and results of up to some megabytes as they are: limits are set by settings."""
        text = "x" * (900 << 10)
        assert (await self._run_one(Tells, {"text": text})).result["inputs"]["text"] == text

    @pytest.mark.asyncio
    async def test_the_code_ends_when_the_time_is_over(self, tmp_path: Path) -> None:
        """A task with `policy.timeout` fails as `TimeoutError`, after its code has ended."""
        task = await self._run_one(Waits, {"folder": str(tmp_path)}, policy={"timeout": 0.1})
        assert task.result["error_type"] == "TimeoutError"
        assert (tmp_path / "ended").exists()

    @pytest.mark.asyncio
    async def test_a_cancellation_reaches_the_executor_and_its_code(self, tmp_path: Path) -> None:
        """Deliver `CANCEL` at once. When `run` is cancelled, cancel the code, and wait until it has ended.
        Code that runs on would work on a task that has ended.
        """
        db, runner = MemoryStore(), self.make_runner()
        array = [_task(Waits, {"folder": str(tmp_path)})]
        node = await TaskCreator(db).create_task_tree_from_array(array)
        manager = TaskManager(db, runner=runner)
        try:
            async with asyncio.timeout(self.within):
                running = asyncio.ensure_future(manager.distribute_task_tree(node))
                while not (tmp_path / "began").exists():  # noqa: ASYNC110 - a file
                    await asyncio.sleep(POLL_INTERVAL_SECONDS)
                answer = await manager.cancel_task(node.task.id)
                await running
        finally:
            await _close(runner)
        assert answer["status"] == "cancelled"
        assert answer["result"]["partial_result"] == "half of it"
        assert (tmp_path / "asked").exists()
        assert (tmp_path / "ended").exists()

    def test_a_runner_serves_several_event_loops(self) -> None:
        """A process may run trees in several event loops, one after the other or in several threads."""
        runner = self.make_runner()
        for number in range(2):
            task = asyncio.run(self._run_one(Adds, {"a": number, "b": 1}, runner=runner))
            assert task.result == {"sum": number + 1}

    async def _run_one(
        self,
        executor: type[BaseTask],
        inputs: dict[str, Any],
        *,
        db: MemoryStore | None = None,
        events: list[Mapping[str, Any]] | None = None,
        runner: AnyRunner | None = None,
        **more: Any,
    ) -> Task:
        """Run a tree of one task, and return the task at its end."""
        tasks = await self._run([_task(executor, inputs) | more], db=db, events=events, runner=runner)
        return tasks["t"]

    async def _run(
        self,
        array: list[dict[str, Any]],
        *,
        db: MemoryStore | None = None,
        events: list[Mapping[str, Any]] | None = None,
        runner: AnyRunner | None = None,
    ) -> dict[str, Task]:
        """Run a tree, and return its tasks at the end by their keys."""
        db, runner = db or MemoryStore(), runner or self.make_runner()
        manager = TaskManager(db, runner=runner)
        if events is not None:
            manager.streaming_callbacks.add(events.append)
        try:
            async with asyncio.timeout(self.within):
                node = await TaskCreator(db).create_task_tree_from_array(array, user_id="ann")
                await manager.distribute_task_tree_with_streaming(node)
        finally:
            await _close(runner)
        return {task.key: task for task in await db.tree(node.task.id)}


def _task(executor: type[BaseTask], inputs: dict[str, Any]) -> dict[str, Any]:
    return {"id": "t", "name": "t", "params": {"executor_id": executor.id}, "inputs": inputs}


async def _close(runner: AnyRunner) -> None:
    if not isinstance(runner, LocalRunner):
        await runner.close()
