"""The table of operations: what every interface offers, described once.

An operation is a method of `TaskService` with a name, parameters, a result and a rule for who may call it.
Protocols, clients and their documentation are made from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic import ValidationError as ParametersError

from apflow.core.errors import InvalidInputError
from apflow.core.service import TaskService
from apflow.core.states import TaskStatus
from apflow.core.task import Json

Who = Literal["anyone", "owner"]  # whoever may call at all; who may see the tasks that are named


class Parameters(BaseModel):
    """Parameters of an operation. Unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")


class OneTask(Parameters):
    """One task, by its id."""

    task_id: str = Field(validation_alias=AliasChoices("task_id", "id"), description="Id of a task")


class Tree(Parameters):
    """A tree, by the id of any of its tasks."""

    task_id: str = Field(
        validation_alias=AliasChoices("task_id", "id", "root_id"), description="Any task of the tree"
    )


class Parent(Parameters):
    """A task, by its id, of which the children are wanted."""

    parent_id: str = Field(validation_alias=AliasChoices("parent_id", "task_id", "id"))


class SeveralTasks(Parameters):
    """Tasks or trees, by their ids."""

    task_ids: list[str] = Field(validation_alias=AliasChoices("task_ids", "context_ids"), min_length=1)


class Create(Parameters):
    """Tasks that make a new tree."""

    tasks: list[dict[str, Json]] | dict[str, Json] = Field(description="The array of tasks, or one task")
    user_id: str | None = None
    on_conflict: Literal["copy", "error"] = Field("copy", description="What to do when a given id is taken")
    idempotency_key: str | None = Field(None, description="The same key gives the tree that it made first")


class Execute(OneTask):
    """What to run, and how."""

    force: bool = Field(False, description="Run what has completed again")
    copy_execution: bool = Field(False, description="Leave the task as it is, and run a copy")
    copy_children: bool = Field(False, description="Copy what is below the task, too")


class Filters(Parameters):
    """Which tasks; what is left out does not matter."""

    user_id: str | None = None
    status: TaskStatus | list[TaskStatus] | None = None
    name: str | None = None


class Count(Filters):
    """Which tasks to count."""

    root_only: bool = False


class List(Filters):
    """Which tasks to list, in which order."""

    root_only: bool = True
    original_task_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    limit: int | None = Field(100, ge=1)
    offset: int = Field(0, ge=0)
    order: Literal["created_at", "-created_at", "priority", "name"] = "-created_at"


class Delete(OneTask):
    """What to delete."""

    force: bool = Field(False, description="Also what has ended")


class Copy(OneTask):
    """What to copy, and how."""

    children: bool = False
    copy_mode: Literal["minimal", "full", "custom"] = "minimal"
    custom_task_ids: list[str] | None = None
    reset_fields: list[str] | None = None
    save: bool = Field(True, description="False returns the array that would be created")


class Cancel(SeveralTasks):
    """What to cancel, and how."""

    force: bool = Field(False, description="Give running code no time to end by itself")
    error_message: str | None = None


class Resume(Parameters):
    """Which left runs to go on with."""

    task_ids: list[str] | None = Field(None, description="Trees to resume; all that can be, when left out")


class OneExecutor(Parameters):
    """One executor, by its id."""

    executor_id: str = Field(validation_alias=AliasChoices("executor_id", "id"))


class Result(BaseModel):
    """What an operation returns. Fields that are not declared here may come with it."""

    model_config = ConfigDict(extra="allow")


class ShownTask(Result):
    """A task, with values under secret-like keys as ***."""

    id: str
    parent_id: str | None
    root_id: str
    user_id: str | None
    name: str
    status: TaskStatus
    priority: int
    dependencies: list[dict[str, Json]]
    inputs: dict[str, Json]
    params: dict[str, Json]
    schemas: dict[str, Json]
    policy: dict[str, Json]
    result: Json
    error: str | None
    progress: float
    has_children: bool
    attempts: int
    created_at: datetime | None
    started_at: datetime | None
    updated_at: datetime | None
    completed_at: datetime | None
    original_task_id: str | None
    has_copy: bool


class NestedTask(ShownTask):
    """A task, with what is below it."""

    children: list[dict[str, Json]]  # of this same form: not declared, because validation would recurse


class Executed(Result):
    """How a run ended."""

    task_id: str
    root_task_id: str
    status: TaskStatus
    progress: float
    result: Json
    error: str | None
    tolerated: list[str]


class Standing(Result):
    """How a task, or the tree of a root, is doing."""

    task_id: str
    name: str
    status: TaskStatus
    progress: float
    error: str | None


class Counted(Result):
    """How many tasks there are."""

    total: int
    by_status: dict[str, int]


class Deleted(Result):
    """What was deleted."""

    success: bool
    task_id: str
    deleted_count: int


class CopyArray(Result):
    """The array that would make the copy."""

    tasks: list[dict[str, Json]]
    saved: Literal[False]


class Cancelled(Result):
    """What became of a cancellation."""

    task_id: str
    status: str
    message: str | None = None


class Reason(Result):
    """Why a task is where it is."""

    task_id: str
    name: str
    status: TaskStatus
    reasons: list[str]
    advice: list[str]


class ShownExecutor(Result):
    """An executor, and whether it can be used."""

    id: str
    name: str | None
    description: str | None
    distribution: str | None
    version: str | None
    is_usable: bool
    problem: str | None
    input_schema: dict[str, Json] | None


@dataclass(frozen=True)
class Operation:
    """One operation, as interfaces need to know it."""

    name: str
    parameters: type[Parameters]
    result: Any  # a type, for `TypeAdapter`
    who: Who
    method: str  # of `TaskService`

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return (getattr(TaskService, self.method).__doc__ or "").strip().splitlines()[0]

    async def call(self, service: TaskService, given: Mapping[str, Json]) -> Json:
        """Check the parameters and call the method.

        Raises:
            InvalidInputError: the parameters are not what they should be; every fault is listed.
        """
        try:
            read = self.parameters.model_validate(dict(given))
        except ParametersError as error:
            raise InvalidInputError(f"Parameters of {self.name} are wrong.", _faults(error)) from error
        return await getattr(service, self.method)(
            **{name: getattr(read, name) for name in type(read).model_fields}
        )

    def parameters_schema(self) -> dict[str, Json]:
        """Return the JSON Schema of the parameters."""
        return self.parameters.model_json_schema(by_alias=False)

    def result_schema(self) -> dict[str, Json]:
        """Return the JSON Schema of the result."""
        return TypeAdapter(self.result).json_schema()


def _faults(error: ParametersError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in each['loc']) or 'parameters'}: {each['msg']}"
        for each in error.errors()
    ]


OPERATIONS: dict[str, Operation] = {
    each.name: each
    for each in (
        Operation("tasks.create", Create, NestedTask, "anyone", "create"),
        Operation("tasks.submit", Create, NestedTask, "anyone", "submit"),
        Operation("tasks.execute", Execute, Executed, "owner", "execute"),
        Operation("tasks.get", OneTask, ShownTask, "owner", "get"),
        Operation("tasks.detail", OneTask, ShownTask, "owner", "get"),
        Operation("tasks.list", List, list[ShownTask], "anyone", "list"),
        Operation("tasks.children", Parent, list[ShownTask], "owner", "children"),
        Operation("tasks.tree", Tree, NestedTask, "owner", "tree"),
        Operation("tasks.count", Count, Counted, "anyone", "count"),
        Operation("tasks.delete", Delete, Deleted, "owner", "delete"),
        Operation("tasks.copy", Copy, NestedTask | CopyArray, "owner", "copy"),
        Operation("tasks.cancel", Cancel, list[Cancelled], "owner", "cancel"),
        Operation("tasks.running.cancel", Cancel, list[Cancelled], "owner", "cancel"),
        Operation("tasks.running.status", SeveralTasks, list[Standing], "owner", "status"),
        Operation("tasks.resume", Resume, list[Standing], "owner", "resume"),
        Operation("tasks.why", OneTask, Reason, "owner", "why"),
        Operation("system.executors", Parameters, list[ShownExecutor], "anyone", "executors"),
        Operation("system.executor", OneExecutor, ShownExecutor, "anyone", "executor"),
    )
}
