"""Executors that tests put in place of real ones, and the record of all calls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apflow.core.errors import ApflowError, InvalidInputError
from apflow.core.extensions import registry
from apflow.core.extensions.executor import BaseTask, ExecutableTask, input_schema_of
from apflow.core.extensions.runner import LocalRunner
from apflow.core.model.task import Json
from apflow.core.payload.json_value import copy_json

NOTHING: Any = object()

Failure = BaseException | type[BaseException] | str


@dataclass(frozen=True)
class ExecutorCall:
    """One call of an executor."""

    executor: str  # its id
    task: str  # the name of the task
    task_id: str
    inputs: dict[str, Json]  # as the executor got them, references resolved and defaults filled in
    attempt: int  # the first is 1
    at: float  # seconds since the run began, by the clock of the test


@dataclass
class Stub:
    """What happens in place of an executor: a failure, a function, or else a result.

    `failures_left`: how many more calls fail; None: all.
    """

    result: Json = None
    failure: Failure | None = None
    function: Callable[[dict[str, Any]], Any] | None = None
    takes: float = 0.0  # seconds of each call, by the clock of the test
    failures_left: int | None = None

    async def call(self, inputs: dict[str, Any]) -> Json:
        """Do what the stub is for."""
        if self.takes > 0:
            await asyncio.sleep(self.takes)
        if self.failure is not None and self.failures_left != 0:
            if self.failures_left is not None:
                self.failures_left -= 1
            raise RuntimeError(self.failure) if isinstance(self.failure, str) else self.failure
        if self.function is None:
            return copy_json(self.result)
        answer = self.function(inputs)
        return await answer if inspect.isawaitable(answer) else answer


def read_stub(result: Json, failure: Failure | None, function: Any, times: int | None, takes: float) -> Stub:
    """Check the arguments of `Trees.stub` and return what they describe."""
    if function is not None and result is not NOTHING:
        raise InvalidInputError("A stub takes a result or a function, not both.")
    if function is not None and not callable(function):
        raise InvalidInputError(f"function must be callable, not a {type(function).__name__}.")
    if times is not None and (failure is None or times < 1):
        raise InvalidInputError("times counts the calls that fail: give a failure, and a number from 1.")
    if failure is not None and times is None and (result is not NOTHING or function is not None):
        raise InvalidInputError(
            "A stub that always fails has no result. Give times, the number of calls that fail first."
        )
    if takes < 0:
        raise InvalidInputError(f"takes must be 0 or more seconds, not {takes!r}.")
    return Stub(None if result is NOTHING else result, failure, function, takes, times)


# What the engine sets on an executor before it calls it.
_SET_BY_ENGINE = (
    "task_id", "root_task_id", "user_id", "stored_task", "attempts", "idempotency_key", "policy_effect",
    "dependency_results", "cancellation_checker", "event_queue", "running_call",
)  # fmt: skip


@dataclass
class StubbedExecutor:
    """The stubs of one executor id: for single tasks by name, and for all others."""

    executor_id: str
    original: registry.ExecutorEntry | None  # None: no executor of the id can be loaded
    for_all: Stub | None = None
    for_tasks: dict[str, Stub] = field(default_factory=dict[str, Stub])

    def make_class(self) -> type[ExecutableTask]:
        """Return the class to register. It has the schema, the effect and the limits of the original."""
        original, stub_of = self.original, self._stub_of

        class Stubbed(BaseTask):
            id = self.executor_id
            cancelable = original is not None and original.cancelable
            effect = "idempotent" if original is None else original.effect
            max_concurrency = None if original is None else original.max_concurrency
            uses_net_policy = original is not None and original.uses_net_policy

            def __init__(self, **params: Any) -> None:
                super().__init__()
                self.original = None if original is None else original.make(params)
                self.is_original_called = False
                schema = None if self.original is None else input_schema_of(self.original)
                setattr(self, "inputs_schema", schema)  # noqa: B010 - a class variable otherwise

            async def execute(self, inputs: dict[str, Any]) -> Any:
                stub = stub_of(self)
                if stub is not None:
                    return await stub.call(inputs)
                if self.original is None:
                    raise InvalidInputError(
                        f"Executor {self.id!r} is not installed, and no stub is for this task. "
                        "Add one without for_task."
                    )
                for name in _SET_BY_ENGINE:
                    setattr(self.original, name, getattr(self, name))
                self.is_original_called = True
                return await self.original.execute(inputs)

            async def cancel(self) -> Any:
                return await self.original.cancel() if self.original and self.is_original_called else None

        return Stubbed

    def _stub_of(self, executor: ExecutableTask) -> Stub | None:
        """Return the stub for the task of an executor."""
        name = executor.stored_task.name if executor.stored_task is not None else ""
        return self.for_tasks.get(name, self.for_all)


def loadable(executor_id: str) -> registry.ExecutorEntry | None:
    """Return an executor if it is known and can be loaded."""
    try:
        return registry.get_executor(executor_id)
    except ApflowError:
        return None


class RecordingRunner(LocalRunner):
    """Calls executors in this process, and reports each call."""

    def __init__(self, report: Callable[[ExecutableTask, Mapping[str, Json]], object]) -> None:
        self._report = report

    async def call(self, executor: ExecutableTask, inputs: dict[str, Json], timeout: float | None) -> Json:
        """See `Runner.call`."""
        self._report(executor, inputs)
        return await super().call(executor, inputs, timeout)
