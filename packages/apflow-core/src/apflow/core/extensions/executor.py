"""What an executor is, and what it sees while it runs.

An executor is written once and runs many times; every run gets a new instance, on which the
engine sets the attributes listed in `ExecutableTask` before it calls `execute`. All of them have
defaults on the class, so that a bare instance works in a unit test and no `super().__init__()` is needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, cast

from apflow.core.capture.task_log import TaskLog
from apflow.core.errors import InvalidInputError
from apflow.core.extensions.running_call import NO_TASK, Described, RunningCall, Tasks
from apflow.core.model.log import LEVELS
from apflow.core.model.results import RunOutcome
from apflow.core.model.task import Json, Task
from apflow.core.payload.json_value import copy_json

# A pydantic model class, a JSON Schema, or nothing to check.
InputsSchema = type[Any] | dict[str, Json] | None

NO_RESULTS: Mapping[str, Json] = MappingProxyType({})
NO_RESOURCES: Mapping[str, float | str] = MappingProxyType({})


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

    cancelable: bool = False  # whether `execute` ends within the grace period after `cancel` is called
    effect: str = "idempotent"  # "pure", "idempotent" or "once": what a second run would do
    # It only waits for others, and finds what they did when it runs again: `effect`, and that of the policy,
    # do not matter, and the end of its process does not count against the task.
    only_waits: bool = False
    max_concurrency: int | None = None  # of this executor, in one process
    # What the process that calls it must offer: amounts and labels, such as {"gpu": 1, "zone": "eu"}.
    resources: Mapping[str, float | str] = NO_RESOURCES
    # Whether a returned {"status": "failed"} or {"status": "cancelled"} ends the task in that way.
    reports_status: bool = True
    # It sends inputs only over connections of `apflow.core.net.connect`: a secret can be bound to hosts.
    uses_net_policy: bool = False

    # Set by the engine before `execute`.
    task_id: str | None = None
    root_task_id: str | None = None
    user_id: str | None = None
    stored_task: Task | None = None  # the run's own: `task` gives copies of it
    attempts: int = 0  # this one included
    idempotency_key: str | None = None  # the same for every attempt at one piece of work
    policy_effect: str | None = None  # `effect` of the task's policy; None: the policy names none
    dependency_results: Mapping[str, Json] = NO_RESULTS  # of the completed dependencies, in order
    cancellation_checker: Callable[[], bool] | None = None
    event_queue: EventQueue | None = None
    task_log: TaskLog | None = None  # of this attempt; None outside of a run, or if the capture is off
    running_call: RunningCall | None = None  # starts trees that belong to the task

    @property
    def task(self) -> Task | None:
        """A copy of the task that is run; None without a run."""
        return None if self.stored_task is None else self.stored_task.copy()

    @abstractmethod
    def execute(self, inputs: dict[str, Any]) -> Any:
        """Do the work and return plain JSON. Raise, or return `{"status": "failed"}`, to fail the task.

        Write `async def execute` for code that awaits. A plain `def execute` runs in a thread: it may block.
        There, `self.cancellation_checker()` turns true when the task is cancelled or its time is over.

        Args:
            inputs: the inputs of the task as a JSON object: references, secrets and defaults are filled in,
                and they satisfy the input schema.

        Raises:
            Exception: fails the task; the name of the class is the `error_type` of its result.
        """

    def get_input_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of `inputs`. Unless overridden, everything is accepted."""
        return {"type": "object", "properties": {}}

    async def cancel(self) -> Any:
        """Stop the running `execute`. What is returned may hold `partial_result` and `token_usage`."""
        return None

    def log(self, message: object, *, level: int | str = "INFO") -> None:
        """Add a line to the log of the task. Thread-safe. Outside of a run, do nothing.

        Args:
            message: the string to add, or an object whose `str()` it is. Newlines stay within the entry.
            level: "DEBUG", "INFO", "WARNING", "ERROR" or "CRITICAL", or a level of `logging`.

        Raises:
            InvalidInputError: `level` is not one of these names.
        """
        number = LEVELS.get(level.upper()) if isinstance(level, str) else level
        if number is None:
            raise InvalidInputError(f"{level!r} is not a log level. Use one of {', '.join(LEVELS)}.")
        if self.task_log is not None and number >= self.task_log.limits.level:
            self.task_log.add(str(message), number)

    async def report_progress(self, fraction: float, message: str | None = None, data: Json = None) -> None:
        """Send a progress event. Outside of a run, do nothing.

        Args:
            fraction: the part of the work that is done, from 0.0 to 1.0.
            message: text for people; None for none.
            data: plain JSON for programs; None for none.
        """
        if self.event_queue is None:
            return
        event = {"type": "progress", "task_id": self.task_id, "progress": fraction}
        await self.event_queue.put(event | {"message": message, "data": data})

    async def run_child(self, tasks: Tasks | Described, *, key: str | None = None) -> RunOutcome:
        """Run a tree as a part of this task, and wait for it.

        The tree is stored separately and belongs to the task: it is cancelled with the task, and the task
        holds no place among the concurrent executor calls while it waits. The tree has the user of the task.
        It runs once: after a crash, the same key finds the tree again, continues it, or returns the outcome
        that it had. A retry of the task runs only what did not complete again.

        Args:
            tasks: an array of tasks, or an object with `to_array()`, such as `TaskBuilder`.
            key: identifies the tree within this task, as an idempotency key; up to 255 characters. By
                default, the content of `tasks` does, which must then be the same after a crash.

        Returns:
            `{"status", "progress", "root_task_id", "result", "error", "tolerated"}`, as
            `TaskExecutor.execute_tasks` does, with the `results` of its tasks by key. A tree that fails
            raises no error: returned from `execute`, its outcome fails this task, too.

        Raises:
            TreeInvalidError: the array is not a valid tree. Nothing is created.
            InvalidInputError: the code runs outside of a task, the tree names another user, or trees are
                nested more than 50 levels deep.
            KeyUsedError: the attempt has given the key with other tasks.
            ConflictError: the task has ended, or its cancellation is requested.
        """
        return await self._call().run_child(tasks, key)

    def run_child_sync(self, tasks: Tasks | Described, *, key: str | None = None) -> RunOutcome:
        """Do what `run_child` does in code that runs in a thread; the thread is blocked meanwhile.

        Args:
            tasks, key: as for `run_child`.

        Raises:
            InvalidInputError: as `run_child`, and if it is called on an event loop.
        """
        return self._call().run_child_sync(tasks, key)

    @property
    def is_continued(self) -> bool:
        """Whether the code is ended so that another attempt continues its work.

        That is so if its process shuts down or has lost the tree to another one; not if the effect is `once`.
        """
        return self.running_call is not None and self.running_call.is_continued

    async def saved_state(self) -> Json:
        """Return the state that this attempt continues from; None for none.

        That is what `save_state` saved last, in this attempt or in the one before it if that was interrupted:
        its process died, shut down or lost the tree. A retry after a failure begins without a state, and so
        does an execution of a task that has ended.

        Raises:
            StoreError: the store cannot be read.
        """
        return None if self.running_call is None else await self.running_call.saved_state()

    async def save_state(self, state: Json) -> None:
        """Save a state, durably, from which another attempt continues if this one is interrupted.

        A typical state is the id of a job that another system runs, so that an attempt after a crash follows
        the job and does not start it again. Outside of a run, do nothing.

        Args:
            state: plain JSON of up to 1 MiB; it replaces the state that was saved before. None removes that.
                Values of secrets are masked in it.

        Raises:
            InvalidInputError: the state is not plain JSON, or too large.
            ConflictError: the task has ended, or another process runs it.
            StoreError: the store cannot write.
        """
        if self.running_call is not None:
            await self.running_call.save_state(state)

    def saved_state_sync(self) -> Json:
        """Do what `saved_state` does in code that runs in a thread; the thread is blocked meanwhile.

        Raises:
            InvalidInputError: it is called on an event loop.
            StoreError: as `saved_state`.
        """
        return None if self.running_call is None else self.running_call.saved_state_sync()

    def save_state_sync(self, state: Json) -> None:
        """Do what `save_state` does in code that runs in a thread; the thread is blocked meanwhile.

        Args:
            state: as for `save_state`.

        Raises:
            InvalidInputError: as `save_state`, and if it is called on an event loop.
            ConflictError, StoreError: as `save_state`.
        """
        if self.running_call is not None:
            self.running_call.save_state_sync(state)

    def _call(self) -> RunningCall:
        if self.running_call is None:
            raise InvalidInputError(NO_TASK)
        return self.running_call


class BaseTask(ExecutableTask):
    """An executor whose inputs are described by `inputs_schema`: a pydantic model or a JSON Schema.

    `MyExecutor(inputs={...})` and `super().__init__(inputs=..., task_id=...)` work as in the former base
    class; a class needs neither.
    """

    inputs_schema: ClassVar[InputsSchema] = None

    # For people and catalogues; the engine does not use them.
    type: Any = ""
    version: str = ""
    tags: Sequence[str] = ()
    examples: Sequence[Any] = ()
    category: Any = ""
    metadata: Mapping[str, Any] = MappingProxyType({})

    _inputs: dict[str, Any] | None = None

    def __init__(self, inputs: dict[str, Any] | None = None, **attributes: Any) -> None:
        """Set what is given: `inputs`, and attributes such as `task_id`, `user_id` or `cancellation_checker`.

        The engine gives none of it. `params` of a task go to an `__init__` of the class itself.
        """
        super().__init__()
        if inputs is not None:
            self.inputs = inputs
        for name, value in attributes.items():
            found = getattr(self.__class__, name, None)
            if not isinstance(found, property) or found.fset is not None:
                setattr(self, name, value)

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that the instance was made with, or was given by `set_inputs`."""
        return {} if self._inputs is None else self._inputs

    @inputs.setter
    def inputs(self, inputs: dict[str, Any] | None) -> None:
        self._inputs = dict(inputs or {})

    def set_inputs(self, inputs: dict[str, Any]) -> None:
        """Replace `inputs`."""
        self.inputs = inputs

    def check_input_schema(self, inputs: dict[str, Any] | None = None) -> bool:
        """Return whether inputs, by default `self.inputs`, are as the schema wants them."""
        try:
            self.validate_input_schema(inputs)
        except InvalidInputError:
            return False
        return True

    def validate_input_schema(self, inputs: dict[str, Any] | None = None) -> bool:
        """Return true if inputs, by default `self.inputs`, are as the schema wants them.

        Raises:
            InvalidInputError: they are not; `violations` lists every fault with its path.
        """
        from apflow.core.payload.schema import compile_schema  # pydantic and jsonschema_rs take their time

        schema = compile_schema(input_schema_of(self))
        if schema is not None:
            schema.validate(copy_json(self.inputs if inputs is None else inputs))
        return True

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
    """Return whether the executor overrides `cancel`."""
    return type(executor).cancel is not ExecutableTask.cancel
