"""What an executor is, and what it sees while it runs.

An executor is written once and runs many times; every run gets an instance of its own, on which the
engine sets the attributes listed in `ExecutableTask` before it calls `execute`. All of them have
defaults on the class, so that a bare instance works in a unit test and no `super().__init__()` is needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, cast

from apflow.core.task import Json, Task

# A pydantic model class, a JSON Schema, or nothing to check.
InputsSchema = type[Any] | dict[str, Json] | None

NO_RESULTS: Mapping[str, Json] = MappingProxyType({})


class EventQueue(Protocol):
    """Where an executor sends its progress and log events, as dicts."""

    async def put(self, event: dict[str, Json], /) -> None:
        """Send one event."""
        ...

    def put_nowait(self, event: dict[str, Json], /) -> None:
        """Send one event from code that cannot wait."""
        ...


class ExecutableTask(ABC):
    """Code that does the work of a task.

    `id`, `name` and `description` may be class attributes, properties or set in `__init__`.
    """

    id: str = ""  # what tasks call it by; unique
    name: str = ""  # for people
    description: str = ""

    cancelable: bool = False  # it ends by itself, within the grace period, when it is told to
    effect: str = "idempotent"  # "pure", "idempotent" or "once": what a second run would do
    max_concurrency: int | None = None  # of this executor, in one process
    # It sends inputs only over connections of `apflow.core.net`: a secret can be bound to hosts.
    uses_net_policy: bool = False

    # Set by the engine before `execute`.
    task_id: str | None = None
    root_task_id: str | None = None
    user_id: str | None = None
    stored_task: Task | None = None  # the run's own: `task` gives copies of it
    attempts: int = 0  # this one included
    idempotency_key: str | None = None  # the same for every attempt at one piece of work
    dependency_results: Mapping[str, Json] = NO_RESULTS  # of the completed dependencies, in order
    cancellation_checker: Callable[[], bool] | None = None
    event_queue: EventQueue | None = None

    @property
    def task(self) -> Task | None:
        """A copy of the task that is run; None without a run."""
        return None if self.stored_task is None else self.stored_task.copy()

    @abstractmethod
    async def execute(self, inputs: dict[str, Any]) -> Any:
        """Do the work and return plain JSON. Raise, or return `{"status": "failed"}`, to fail the task."""

    def get_input_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of `inputs`. Unless overridden, everything is accepted."""
        return {"type": "object", "properties": {}}

    async def cancel(self) -> Any:
        """Stop the running `execute`. What is returned may hold `partial_result` and `token_usage`."""
        return None

    async def report_progress(self, fraction: float, message: str | None = None, data: Json = None) -> None:
        """Tell how far the work is, from 0.0 to 1.0. Without a run to tell it to, do nothing."""
        if self.event_queue is None:
            return
        event = {"type": "progress", "task_id": self.task_id, "progress": fraction}
        await self.event_queue.put(event | {"message": message, "data": data})


class BaseTask(ExecutableTask):
    """An executor whose inputs are described by `inputs_schema`: a pydantic model or a JSON Schema."""

    inputs_schema: ClassVar[InputsSchema] = None

    def get_input_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of `inputs_schema`."""
        schema = self.inputs_schema
        if schema is None:
            return super().get_input_schema()
        if isinstance(schema, dict):
            return schema
        return cast("dict[str, Any]", schema.model_json_schema())


def input_schema_of(executor: ExecutableTask) -> InputsSchema:
    """Return what validates the executor's inputs: its pydantic model where that is its schema."""
    model = getattr(executor, "inputs_schema", None)
    has_own_schema = type(executor).get_input_schema not in _INHERITED_SCHEMAS
    return model if isinstance(model, type) and not has_own_schema else executor.get_input_schema()


_INHERITED_SCHEMAS = (ExecutableTask.get_input_schema, BaseTask.get_input_schema)


def overrides_cancel(executor: ExecutableTask) -> bool:
    """Say whether the executor has a `cancel` of its own."""
    return type(executor).cancel is not ExecutableTask.cancel
