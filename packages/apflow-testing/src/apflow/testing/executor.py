"""What every executor must keep to, as tests that its author inherits.

A test class names two things, and pytest does the rest:

```python
class TestMyExecutor(ExecutorContract):
    def make_executor(self):
        return MyExecutor()

    def good_inputs(self):
        return {"path": "/dev/null"}
```
"""

from __future__ import annotations

import asyncio
import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, cast

import pytest

from apflow.core.errors import ValidationError
from apflow.core.extensions.calling import call_cancel, call_execute
from apflow.core.extensions.executor import ExecutableTask, input_schema_of, overrides_cancel
from apflow.core.extensions.registry import ExecutorEntry, ExtensionCategory, get_registry
from apflow.core.manager import TaskManager
from apflow.core.model.task import Task
from apflow.core.model.tree import TaskTreeNode
from apflow.core.payload.inputs import build_inputs
from apflow.core.payload.schema import InputSchema, compile_schema
from apflow.core.store.memory import MemoryStore

Inputs = dict[str, Any]

# A value that each type of JSON Schema refuses.
_OF_ANOTHER_TYPE: Inputs = {
    "string": 3,
    "number": "three",
    "integer": "three",
    "boolean": "maybe",
    "array": 3,
    "object": 3,
}


class ExecutorContract(ABC):
    """Tests for one executor. Subclass it, with a name that begins with `Test`."""

    run_within = 30.0  # seconds for one execution with good inputs
    stop_within = 10.0  # seconds from the cancellation to the end
    start_within = 0.1  # seconds until work with slow inputs can be cancelled in the middle

    @abstractmethod
    def make_executor(self) -> ExecutableTask:
        """Return a new executor, as its author would."""

    @abstractmethod
    def good_inputs(self) -> Inputs:
        """Return inputs that lead to a result."""

    def slow_inputs(self) -> Inputs:
        """Return inputs that keep it busy for long, to be cancelled. Unless overridden, the good ones."""
        return self.good_inputs()

    def bad_inputs(self) -> list[Inputs]:
        """Return inputs that the schema must refuse. Unless overridden, made from the schema."""
        return list(_break(self._schema(), self.good_inputs()))

    def prepare(self, executor: ExecutableTask) -> None:  # noqa: B027 - a hook
        """Give the executor what a run would: results of dependencies, say. Unless overridden, nothing."""

    def check_result(self, result: Any) -> None:  # noqa: B027 - a hook
        """Assert what the good inputs must lead to. Unless overridden, any plain JSON will do.

        Args:
            result: what `execute` has returned.
        """

    def check_stopped(self) -> None:  # noqa: B027 - a hook
        """Assert that nothing is left of a cancelled run: no process, no connection. Called after each."""

    # What it is

    def test_it_is_an_executable_task(self) -> None:
        """Derive the class from `apflow.core.BaseTask`, and return an instance from `make_executor`."""
        assert isinstance(self.make_executor(), ExecutableTask)

    def test_it_has_an_id_a_name_and_a_description(self) -> None:
        """Set `id`, `name` and `description` to strings that are not empty. The id has no spaces, and is the
        same for all instances.
        """
        executor = self.make_executor()
        for text in (executor.id, executor.name, executor.description):
            assert isinstance(text, str)
            assert text.strip()
        assert not any(character.isspace() for character in executor.id)
        assert self.make_executor().id == executor.id

    def test_its_declarations_have_a_meaning(self) -> None:
        """Set `effect` to "pure", "idempotent" or "once", `cancelable` to a bool, and `max_concurrency` to a
        positive int or None.
        """
        executor = self.make_executor()
        assert executor.effect in ("pure", "idempotent", "once")
        assert isinstance(executor.cancelable, bool)
        assert executor.max_concurrency is None or executor.max_concurrency >= 1

    # What it takes

    def test_its_input_schema_is_a_json_schema_of_an_object(self) -> None:
        """`inputs_schema` is a pydantic model, or a valid JSON Schema in plain JSON with "type": "object"."""
        schema = self.make_executor().get_input_schema()
        compile_schema(schema)
        assert json.loads(json.dumps(schema)) == schema
        assert schema.get("type") == "object"

    def test_every_input_is_described(self) -> None:
        """Give each property of `inputs_schema` a "description": interfaces and language models show it."""
        properties = self.make_executor().get_input_schema().get("properties", {})
        assert [name for name, declared in properties.items() if not declared.get("description")] == []

    def test_its_defaults_and_examples_obey_its_own_schema(self) -> None:
        """Change the "default" or the "examples" of the property that the error names, or its schema."""
        schema = self.make_executor().get_input_schema()
        for name, declared in schema.get("properties", {}).items():
            one = compile_schema({"$defs": schema.get("$defs", {}), "properties": {name: declared}})
            given = [declared["default"]] if "default" in declared else []
            for value in given + declared.get("examples", []):
                assert one is not None
                one.validate({name: value})

    def test_good_inputs_are_accepted_and_defaults_added(self) -> None:
        """`good_inputs` must satisfy `inputs_schema`. Change the one or the other."""
        inputs, schema = self._inputs(self.good_inputs()), self._schema()
        expected = {*self.good_inputs(), *(schema.defaults if schema else ())}
        assert sorted(expected - inputs.keys()) == []

    def test_bad_inputs_are_refused(self) -> None:
        """Make `inputs_schema` stricter ("required", "type", "additionalProperties": False), or return from
        `bad_inputs` only inputs that it must refuse.
        """
        for bad in self._bad_inputs():
            with pytest.raises(ValidationError):
                self._inputs(bad)

    # What it does

    @pytest.mark.asyncio
    async def test_it_returns_plain_json_in_bounded_time(self) -> None:
        """`execute` returns dicts with string keys, lists, strings, finite numbers, bools and None, and not
        {"status": "failed"}, within `run_within` seconds. Convert other objects, and turn tuples into lists.
        """
        result = await self._run(self._made(), self._inputs(self.good_inputs()))
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        status = cast("Inputs", result).get("status") if isinstance(result, dict) else None
        assert status not in ("failed", "cancelled")
        self.check_result(result)

    @pytest.mark.asyncio
    async def test_it_leaves_its_inputs_and_the_results_of_others_alone(self) -> None:
        """Copy `inputs` and `dependency_results` before changing them: other tasks see the same objects."""
        executor, inputs = self._made(), self._inputs(self.good_inputs())
        before = copy.deepcopy((inputs, dict(executor.dependency_results)))
        await self._run(executor, inputs)
        assert (inputs, dict(executor.dependency_results)) == before

    @pytest.mark.asyncio
    async def test_two_runs_at_once_share_no_state(self) -> None:
        """Keep nothing on the class or in globals, and change no mutable class attribute: set attributes of
        the instance in `execute`.
        """
        prototype = self.make_executor()
        entry = ExecutorEntry(prototype.id, prototype)
        before = _state(prototype)
        runs = [entry.make(), entry.make()]
        for number, executor in enumerate(runs):
            self.prepare(executor)
            executor.task_id = f"run-{number}"
        inputs = [self._inputs(self.good_inputs()) for _ in runs]
        results = await asyncio.gather(*map(self._run, runs, inputs))
        for result in results:
            self.check_result(result)
        assert [executor.task_id for executor in runs] == ["run-0", "run-1"]
        assert _state(prototype) == before

    @pytest.mark.asyncio
    async def test_it_stops_when_it_is_cancelled(self) -> None:
        """Let `CancelledError` pass in `async def execute`. In a plain `def execute`, return when
        `self.cancellation_checker()` is true, and give blocking calls a timeout. It must end within
        `stop_within` seconds.
        """
        executor, is_cancelled = self._made(), asyncio.Event()
        executor.cancellation_checker = is_cancelled.is_set
        inputs = self._inputs(self.slow_inputs())
        running = asyncio.ensure_future(call_execute(executor, inputs))
        await asyncio.wait([running], timeout=self.start_within)
        is_cancelled.set()
        async with asyncio.timeout(self.stop_within):
            if overrides_cancel(executor):
                await call_cancel(executor)
            running.cancel()
            await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # seen: it ended, and how is its own affair
        self.check_stopped()

    @pytest.mark.asyncio
    async def test_cancelling_what_does_not_run_does_no_harm(self) -> None:
        """`cancel` may be called before `execute` has begun: do nothing then, and raise nothing."""
        async with asyncio.timeout(self.stop_within):
            await call_cancel(self._made())

    # How the engine sees it

    @pytest.mark.asyncio
    async def test_it_runs_as_a_task(self) -> None:
        """A task with `good_inputs` must complete with one call of `execute`. The error of the task, above,
        says why it did not.
        """
        task, calls = await self._run_task(self.good_inputs())
        assert (task.status, task.error) == ("completed", None)
        assert len(calls) == 1

    @pytest.mark.asyncio
    async def test_bad_inputs_fail_the_task_before_it_is_executed(self) -> None:
        """Put the rules for inputs into `inputs_schema`, and not into `execute`: apflow refuses bad inputs
        before it calls the code.
        """
        task, calls = await self._run_task(self._bad_inputs()[0])
        assert task.status == "failed"
        assert task.result["error_type"] == "ValidationError"
        assert calls == []

    def _schema(self) -> InputSchema | None:
        return compile_schema(input_schema_of(self.make_executor()))

    def _bad_inputs(self) -> list[Inputs]:
        bad = self.bad_inputs()
        if not bad:
            pytest.skip("its schema refuses nothing")
        return bad

    def _inputs(self, given: Inputs) -> Inputs:
        """Return what the engine would make of inputs."""
        schema = self._schema()
        task = Task(id="task", name="contract", root_id="task", inputs=given)
        inputs = build_inputs(task, {}, {}, schema)
        return schema.validate(inputs) if schema else inputs

    def _made(self) -> ExecutableTask:
        executor = self.make_executor()
        self.prepare(executor)
        return executor

    async def _run(self, executor: ExecutableTask, inputs: Inputs) -> Any:
        async with asyncio.timeout(self.run_within):
            return await call_execute(executor, inputs)

    async def _run_task(self, inputs: Inputs) -> tuple[Task, list[Inputs]]:
        """Run a tree of one task; return it as it ended, and the inputs of each call of `execute`."""
        calls: list[Inputs] = []
        executor = _watched(self.make_executor(), calls)
        with _registered(executor) as executor_id:
            async with MemoryStore() as store, asyncio.timeout(self.run_within):
                manager = TaskManager(store)
                task = await manager.task_repository.create_task(name=executor_id, inputs=inputs)
                await manager.distribute_task_tree(TaskTreeNode(task))
                return (await store.get([task.id]))[task.id], calls


def _break(schema: InputSchema | None, good: Inputs) -> Iterator[Inputs]:
    """Yield inputs that differ from good ones in one fault each."""
    if schema is None:
        return
    for name in schema.required:
        if name in good and name not in schema.defaults:
            yield {key: value for key, value in good.items() if key != name}
    for name, declared in schema.properties.items():
        kind = cast("Inputs", declared).get("type") if isinstance(declared, dict) else None
        if isinstance(kind, str) and kind in _OF_ANOTHER_TYPE:
            yield {**good, name: _OF_ANOTHER_TYPE[kind]}


def _state(executor: ExecutableTask) -> dict[str, str]:
    """Return what an executor and its class hold, to be compared after a run."""
    held = dict(vars(executor))
    for cls in type(executor).__mro__:
        held |= {f"{cls.__name__}.{name}": value for name, value in vars(cls).items() if name[:1] != "_"}
    return {name: repr(value) for name, value in held.items()}


def _watched(executor: ExecutableTask, calls: list[Inputs]) -> ExecutableTask:
    """Return the executor, made to note the inputs of each call."""
    kind = type(executor)

    @wraps(kind.execute)  # it is called as the method itself is: on the event loop, or in a thread
    def execute(self: ExecutableTask, inputs: Inputs) -> Any:
        calls.append(inputs)
        return kind.execute(self, inputs)

    executor.__class__ = type(kind.__name__, (kind,), {"execute": execute, "__module__": kind.__module__})
    return executor


@contextmanager
def _registered(executor: ExecutableTask) -> Generator[str]:
    executor_id = f"contract_{executor.id}"
    get_registry().register(executor, executor_id, override=True)
    try:
        yield executor_id
    finally:
        get_registry().unregister(executor_id, ExtensionCategory.EXECUTOR)
