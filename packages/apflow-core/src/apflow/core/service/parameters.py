"""What operations take: one pydantic model each, from which interfaces make their own descriptions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from apflow.core.authoring.field_validation import READ_ONLY
from apflow.core.bounds import MAX_COUNT
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.payload.json_value import whole
from apflow.core.service.webhook import WebhookConfig

MOST_NAMED: Final = 1000  # tasks that one call names
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d")


def _check_text(value: object) -> object:
    if not isinstance(value, datetime) and not (isinstance(value, str) and _TIME.match(value)):
        raise ValueError("give a time as text, as in ISO 8601")
    return value


def _in_utc(value: datetime) -> datetime:
    """Return the time as stores compare it: at the ends of the calendar there is none."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("give a time within the years 1 to 9999, also in UTC") from None


AnyInteger = Annotated[int, Field(ge=-MAX_COUNT, le=MAX_COUNT), BeforeValidator(whole)]
NotNegative = Annotated[int, Field(ge=0, le=MAX_COUNT), BeforeValidator(whole)]
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT), BeforeValidator(whole)]
Status = Annotated[TaskStatus, Field(strict=False)]
Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_check_text), AfterValidator(_in_utc)]


def _split(value: object) -> object:
    """Return the ids of a string, which may name several: "a,b"."""
    return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value


# Of a list only the first fault is told: a hostile one has millions.
Ids = Annotated[list[str], Field(fail_fast=True)]
Tasks = Annotated[list[dict[str, Json]], Field(fail_fast=True)]
Dependencies = Annotated[list[str | dict[str, Json]], Field(fail_fast=True)]


class Parameters(BaseModel):
    """Parameters of an operation. Unknown ones are refused, and so is text where a number is due."""

    model_config = ConfigDict(extra="forbid", strict=True)


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


_GivenId = Annotated[str, Field(pattern=r"[^,\s]")]  # it has more than separators
GivenIds = Annotated[list[_GivenId], Field(min_length=1, max_length=MOST_NAMED)] | _GivenId


class SeveralTasks(Parameters):
    """Tasks or trees, by their ids."""

    task_ids: Annotated[Ids, BeforeValidator(_split, json_schema_input_type=GivenIds)] = Field(
        validation_alias=AliasChoices("task_ids", "context_ids"),
        min_length=1,
        max_length=MOST_NAMED,
        description="Ids, as a list or as one string with commas between them",
    )


class Create(Parameters):
    """Tasks that make a new tree."""

    tasks: Tasks | dict[str, Json] = Field(description="The array of tasks, or one task")
    user_id: str | None = None
    on_conflict: Literal["copy", "error"] = Field("copy", description="What to do when a given id is taken")
    idempotency_key: str | None = Field(None, description="The same key gives the tree that it made first")


class Update(OneTask):
    """What to change; what is left out stays as it is."""

    name: str | None = None
    priority: AnyInteger | None = None
    inputs: dict[str, Json] | None = None
    params: dict[str, Json] | None = None
    schemas: dict[str, Json] | None = None
    policy: dict[str, Json] | None = None
    dependencies: Dependencies | None = Field(None, description="Only of a pending task")
    status: Status | None = Field(None, description="completed: marks the task as done by hand")
    result: Json = Field(None, description="Of a task that is marked as completed")
    parent_id: str | None = Field(None, description="Cannot change; accepted where it is the task's")
    user_id: str | None = Field(None, description="Cannot change; accepted where it is the task's")
    original_task_id: str | None = Field(None, description="Cannot change; accepted where it is the task's")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_the_engine_sets(cls, given: Json) -> Json:
        """Accept a task as it was read: what only the engine sets is ignored."""
        if not isinstance(given, dict):
            return given
        return {
            name: value for name, value in cast("dict[str, Json]", given).items() if name not in READ_ONLY
        }


class Execute(Parameters):
    """What to run, and how."""

    task_id: str | None = Field(
        None, validation_alias=AliasChoices("task_id", "id"), description="A stored task; else give tasks"
    )
    tasks: Tasks | dict[str, Json] | None = Field(None, description="What to create and run")
    wait: bool = Field(False, description="Return when the run has ended")
    force: bool = Field(False, description="Run what has completed again")
    copy_execution: bool = Field(False, description="Leave the task as it is, and run a copy")
    copy_children: bool | None = Field(
        None, description="Copy what is below the task, too; left out: the whole tree of a root"
    )
    user_id: str | None = Field(None, description="Whose the created tasks are")
    on_conflict: Literal["copy", "error"] = Field("copy", description="What to do when a given id is taken")
    idempotency_key: str | None = Field(None, description="The same key creates and requests nothing twice")
    use_streaming: bool = Field(False, description="Answer with the events, where the interface can")
    webhook_config: WebhookConfig | None = Field(None, description="Whom to tell of the events")


class Watch(OneTask):
    """Whose events to follow, and from where."""

    after: NotNegative | None = Field(
        None,
        description="Number of the last event that is known; left out: the state, then what follows",
    )


class Running(Parameters):
    """Whose runs to list, and how many."""

    user_id: str | None = None
    limit: Positive | None = 100


class CountRunning(Parameters):
    """Whose runs to count."""

    user_id: str | None = None


class SetLlmKey(Parameters):
    """A key, and what it is for."""

    api_key: str = Field(min_length=1, repr=False)
    provider: str = "openai"
    user_id: str | None = Field(None, description="Whose key it is; that of another user takes an admin")


class LlmKey(Parameters):
    """Which key."""

    provider: str = "openai"
    user_id: str | None = Field(None, description="Whose key it is; that of another user takes an admin")


class Filters(Parameters):
    """Which tasks; what is left out does not matter."""

    user_id: str | None = None
    status: Status | Annotated[list[Status], Field(fail_fast=True, max_length=100)] | None = None
    name: str | None = None


class Count(Filters):
    """Which tasks to count."""

    root_only: bool = False


class List(Filters):
    """Which tasks to list, in which order."""

    root_only: bool = True
    original_task_id: str | None = None
    created_after: Time | None = None
    created_before: Time | None = None
    limit: Positive | None = 100
    offset: NotNegative = 0
    cursor: str | None = Field(None, description="The id of the last task of the page before")
    order: Literal["created_at", "-created_at", "priority", "name"] = "-created_at"


class Delete(OneTask):
    """What to delete."""

    force: bool = Field(False, description="Also what has ended")


class Copy(OneTask):
    """What to copy, and how."""

    children: bool | None = Field(
        None, description="Copy what is below the task, too; left out: the whole tree of a root"
    )
    copy_mode: Literal["minimal", "full", "custom"] = "minimal"
    custom_task_ids: Ids | None = None
    custom_include_children: bool = Field(False, description="Copy what is below custom_task_ids, too")
    reset_fields: Ids | None = None
    save: bool = Field(True, description="False returns the array that would be created")


class Cancel(SeveralTasks):
    """What to cancel, and how."""

    force: bool = Field(False, description="Give running code no time to end by itself")
    error_message: str | None = Field(None, max_length=10_000, description="Becomes the error of each task")


class Resume(Parameters):
    """Which left runs to go on with."""

    task_ids: Ids | None = Field(
        None, max_length=MOST_NAMED, description="Trees to resume; all that can be, when left out"
    )


class OneExecutor(Parameters):
    """One executor, by its id."""

    executor_id: str = Field(validation_alias=AliasChoices("executor_id", "id"))
