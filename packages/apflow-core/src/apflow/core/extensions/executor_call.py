"""A call of an executor as plain data, for runners that make it in another process.

The process that runs the tree owns the call. It gives the call to a runner, which brings it to a process that
serves it (`engine.call_server.CallServer`). While the call runs, each side sends messages to the other.

All of it is plain JSON, so a runner may send it in any way. It contains references to secrets, which the
process that serves the call resolves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Final, cast

from apflow.core.errors import InvalidInputError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, to_json

FORMAT: Final = 1  # of calls and messages; a process that serves calls refuses any other

Message = Mapping[str, Json]
Receive = Callable[[Message], None]

# What the serving process sends: `kind` of a message.
BEGAN: Final = "began"  # the executor's code is called now
EVENT: Final = "event"  # `event`: of the executor's event queue
LINES: Final = "lines"  # `lines`: of the log of the task, see `log_line`
INPUTS: Final = "inputs"  # `inputs`: of the call, with secrets as references
REQUEST: Final = "request"  # the code needs the store: `id`, `name` and `arguments` of the request
ASKED: Final = "asked"  # the answer to `CANCEL`: `answer` of the executor's `cancel`, and `is_cancelable`
# What the owner sends.
ANSWER: Final = "answer"  # to a request: its `id`, and its `value` or its `error`
CANCEL: Final = "cancel"  # the cancellation of the task is requested: `message`, and the `seconds` it has
RELEASE: Final = "release"  # the code is ended soon, and another attempt continues its work

# The columns of a task that the code of an executor can see, or that decide how it is called.
_COLUMNS: Final = (
    "id", "name", "root_id", "parent_id", "user_id", "priority", "dependencies", "inputs", "params",
    "schemas", "policy", "key", "label", "tags", "position", "executor", "attempts", "generation",
    "earlier_attempts", "interruptions", "created_at", "started_at", "updated_at", "spawned_by", "extra",
)  # fmt: skip
_TIMES: Final = ("created_at", "started_at", "updated_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A completed dependency of a task."""

    id: str
    key: str
    result: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorCall:
    """One call of an executor, as plain data.

    Attributes:
        id: no other call has it, not even another attempt at the same task.
        executor_id: the executor to call.
        import_path: `module:name` of the class, if code of the owner has registered it; None: it is
            installed.
        task: the columns of the task, with times in ISO 8601. References to dependencies and secrets in it
            are not resolved.
        needed: the completed dependencies of the task.
        written_by: the authors of the tree; None: it comes from the machine of the owner.
        scheduled_at: when the run of the tree was requested, in ISO 8601.
        allowed_capabilities: all that the owner allows tasks to touch, by kind; None: anything.
        resources: what the process that makes the call must offer, such as `{"gpu": 1, "zone": "eu"}`; see
            `model.resources`.
        wants_inputs: whether the owner needs the inputs of the call, for its post-hooks.
        format: `FORMAT` of the owner.
    """

    id: str
    executor_id: str
    import_path: str | None
    task: Mapping[str, Json]
    needed: Sequence[Needed] = ()
    written_by: Sequence[Mapping[str, Json]] | None = None
    scheduled_at: str | None = None
    allowed_capabilities: Mapping[str, Json] | None = None
    resources: Mapping[str, Json] = field(default_factory=dict[str, Json])
    wants_inputs: bool = False
    format: int = FORMAT

    def to_json(self) -> dict[str, Json]:
        """Return the call as plain JSON. The values in it are shared."""
        shown = {each.name: getattr(self, each.name) for each in fields(self)}
        return shown | {"needed": [asdict(each) for each in self.needed]}

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> ExecutorCall:
        """Return the call that `to_json` described.

        Raises:
            InvalidInputError: it comes from a version of apflow whose calls have another format.
        """
        if data.get("format") != FORMAT:
            raise InvalidInputError(
                f"The call has the format {data.get('format')!r}; this process serves {FORMAT}. Install the "
                "same version of apflow-core where trees run and where calls are served."
            )
        values = dict(data)
        values["needed"] = [Needed(**each) for each in cast("list[dict[str, Json]]", data["needed"])]
        return cls(**values)

    def stored_task(self) -> Task:
        """Return the task, as it is stored."""
        values = dict(self.task)
        for name in _TIMES:
            if values[name] is not None:
                values[name] = datetime.fromisoformat(values[name])
        task = Task(**values)
        task.status = TaskStatus.IN_PROGRESS
        return task

    def stored_tasks(self) -> dict[str, Task]:
        """Return the part of the tree that the call needs, by id: the task, its dependencies and its root."""
        task = self.stored_task()
        root = task
        if task.root_id != task.id:
            root = Task(id=task.root_id, name=task.root_id, root_id=task.root_id, user_id=task.user_id)
        root.written_by = None if self.written_by is None else [dict(each) for each in self.written_by]
        if self.scheduled_at is not None:
            root.run_requested_at = datetime.fromisoformat(self.scheduled_at)
        tasks = {root.id: root, task.id: task}
        for each in self.needed:
            tasks[each.id] = Task(
                id=each.id,
                name=each.key,
                key=each.key,
                root_id=task.root_id,
                status=TaskStatus.COMPLETED,
                result=each.result,
            )
        return tasks


def columns_of(task: Task) -> dict[str, Json]:
    """Return the columns of a task that a call contains, as plain JSON."""
    return {name: to_json(getattr(task, name)) for name in _COLUMNS}


def import_path_of(source: object) -> str | None:
    """Return `module:name` of a class or the class of an instance; None if no other process can import it."""
    kind = source if isinstance(source, type) else type(source)
    if kind.__module__ == "__main__" or "<" in kind.__qualname__:
        return None
    return f"{kind.__module__}:{kind.__qualname__}"
