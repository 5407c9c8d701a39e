"""Parameters of operations: the types that signatures of `TaskService` use, and models made from signatures.

The signature of a method is the only place that describes its parameters: name, type, default, and a
`Field` with the description and the limits. `parameters_model` turns a signature into a pydantic model, and
every interface uses that model. The service modules import the types of this module for type checkers only,
because pydantic takes long to import; `parameters_model` resolves the annotations.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Final, Literal, cast, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
)

from apflow.core.bounds import MAX_BUDGET, MAX_COUNT, MAX_TAGS
from apflow.core.model.approval import MAX_REASON
from apflow.core.model.span import SPAN
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.payload.json_value import whole
from apflow.core.service.time_span import SINCE_SCHEMA, check_since
from apflow.core.webhooks.webhook import WebhookConfig

MAX_TASK_IDS: Final = 1000  # in one call
MAX_STATUSES: Final = 100
MAX_LOG_LINES: Final = 10_000  # in one answer
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d")


@dataclass(frozen=True)
class JsonType:
    """Annotation of a parameter whose type in JSON differs from its type in Python."""

    type: Any


def _check_time(value: object) -> object:
    if not isinstance(value, datetime) and not (isinstance(value, str) and _TIME.match(value)):
        raise ValueError("give a time as a string in ISO 8601 format")
    return value


def _to_utc(value: datetime) -> datetime:
    """Convert a time to UTC, in which stores compare times."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("give a time within the years 1 to 9999, also in UTC") from None


def _split(value: object) -> object:
    """Split a string of IDs: "a,b"."""
    return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value


# fail_fast: a hostile list has millions of invalid items, and the error must stay short.
JsonIds = Annotated[list[str], Field(fail_fast=True)]
JsonTasks = Annotated[list[dict[str, Json]], Field(fail_fast=True)] | dict[str, Json]
JsonDependencies = Annotated[list[str | dict[str, Json]], Field(fail_fast=True)]
JsonTags = Annotated[list[str], Field(fail_fast=True, max_length=MAX_TAGS)]
JsonStatus = Annotated[TaskStatus, Field(strict=False)]
JsonStatuses = Annotated[list[JsonStatus], Field(fail_fast=True, max_length=MAX_STATUSES)]
_JsonId = Annotated[str, Field(pattern=r"[^,\s]")]  # contains more than separators
JsonIdList = Annotated[list[_JsonId], Field(min_length=1, max_length=MAX_TASK_IDS)] | _JsonId

AnyInteger = Annotated[int, Field(ge=-MAX_COUNT, le=MAX_COUNT), BeforeValidator(whole)]
NotNegative = Annotated[int, Field(ge=0, le=MAX_COUNT), BeforeValidator(whole)]
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT), BeforeValidator(whole)]
Amount = Annotated[float, Field(ge=0, le=MAX_BUDGET)]
WholeAmount = Annotated[int, Field(ge=0, le=MAX_BUDGET), BeforeValidator(whole)]
JsonTime = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_check_time), AfterValidator(_to_utc)
]
Time = Annotated[datetime | None, JsonType(JsonTime | None)]
JsonSpan = Annotated[str, Field(pattern=f"^{SPAN.pattern}$")]
JsonSince = Annotated[str, AfterValidator(check_since), WithJsonSchema(SINCE_SCHEMA)]

# What a number in JSON can hold exactly in every language.
LogNumber = Annotated[int, Field(ge=0, le=2**53 - 1), BeforeValidator(whole)]
LogLimit = Annotated[
    int,
    Field(ge=1, le=MAX_LOG_LINES, description="The maximum number of lines to return."),
    BeforeValidator(whole),
]
MinLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None,
    Field(description="Only lines of this level or a higher one."),
]

TaskId = Annotated[
    str, Field(validation_alias=AliasChoices("task_id", "id"), description="ID or path of the task.")
]
TaskIds = Annotated[
    Iterable[str],
    JsonType(
        Annotated[
            list[str],
            Field(fail_fast=True, min_length=1, max_length=MAX_TASK_IDS),
            BeforeValidator(_split, json_schema_input_type=JsonIdList),
        ]
    ),
    Field(
        validation_alias=AliasChoices("task_ids", "context_ids"),
        description="IDs or paths of tasks: a list, or one string with commas between them.",
    ),
]
ScheduleId = Annotated[
    str,
    Field(validation_alias=AliasChoices("schedule_id", "id"), description="ID or name of the schedule."),
]
Reason = Annotated[
    str | None, Field(max_length=MAX_REASON, description="Why, for the record and for the task.")
]
Tasks = Annotated[
    Json, JsonType(JsonTasks), Field(description="The tasks to create: an array of objects, or one object.")
]
RootLabel = Annotated[
    str | None, Field(description="The label of the root task, instead of the one that the tasks have.")
]
RootTags = Annotated[
    Sequence[str], JsonType(JsonTags), Field(description="Tags that the root task gets in addition.")
]
Statuses = Annotated[
    TaskStatus | Sequence[TaskStatus] | None,
    JsonType(JsonStatus | JsonStatuses | None),
    Field(description="Only tasks with this status, or with one of these."),
]
OfUser = Annotated[str | None, Field(description="Only tasks of this user.")]
OfKey = Annotated[str | None, Field(description="Only tasks with this key, which is unique within a tree.")]
OriginalId = Annotated[str | None, Field(description="Only copies of this task.")]
IdPrefix = Annotated[str | None, Field(description="Only tasks whose ID begins with this string.")]
IsRunning = Annotated[
    bool | None,
    Field(description="Only roots of trees with an unfinished run (true), or without one (false)."),
]
Since = Annotated[
    str | None,
    JsonType(JsonSince | None),
    Field(
        description="Only tasks created in this time before now, such as `90s`, `30m`, `12h`, `7d` or `2w`, "
        "or after this time in ISO 8601 format."
    ),
]
CreatedAfter = Annotated[Time, Field(description="Only tasks created after this time.")]
CreatedBefore = Annotated[Time, Field(description="Only tasks created before this time.")]
OfLabel = Annotated[str | None, Field(description="Only tasks whose label contains this string.")]
OfTags = Annotated[
    Iterable[str],
    JsonType(
        Annotated[
            list[str],
            Field(fail_fast=True, max_length=MAX_TAGS),
            BeforeValidator(_split, json_schema_input_type=JsonTags | str),
        ]
    ),
    Field(
        description="Only tasks that have all of these tags: a list, or one string with commas between them."
    ),
]
OfName = Annotated[str | None, Field(description="Only tasks with this name.")]
Owner = Annotated[str | None, Field(description="The user who owns the created tasks.")]
OnConflict = Annotated[
    Literal["copy", "error"],
    Field(description="If a given ID is taken: `copy` creates the tasks under new IDs, `error` fails."),
]
CreationKey = Annotated[
    str | None,
    Field(description="Makes the call repeatable: the same key returns the tree that it created first."),
]
NoCache = Annotated[
    bool, Field(description="Make every task that runs call its executor, whatever results are cached.")
]
CopyChildren = Annotated[
    bool | None,
    Field(description="Also copy the descendants of the task. By default, only if the task is a root."),
]
KeyOwner = Annotated[
    str | None,
    Field(description="The user who owns the key; by default the caller. Another user requires an admin."),
]
Provider = Annotated[str, Field(description="Name of the provider of language models.")]
WebhookParameter = Annotated[
    Mapping[str, Json] | None,
    JsonType(WebhookConfig | None),
    Field(description="Where the server sends the events of the run."),
]


def _check_overrides(value: object) -> object:
    """Check the form of all overrides, with one short error for any number of invalid ones."""
    given = cast("dict[str, object]", value if isinstance(value, dict) else {})
    for name, fields in given.items():
        if not isinstance(fields, dict):
            raise ValueError(f"{name[:80]!r} must have an object of fields")  # noqa: TRY004
    return cast("object", value)


Overrides = Annotated[
    Mapping[str, Mapping[str, Json]] | None,
    JsonType(Annotated[dict[str, dict[str, Json]] | None, BeforeValidator(_check_overrides)]),
    Field(
        description="New values of fields, by ID, key or path of a task, which runs again, too: "
        "`name`, `label`, `tags`, `priority`, `inputs`, `params`, `schemas`, `policy` or a custom "
        "column. An object is merged into the present one, and null removes a member (RFC 7396)."
    ),
]


class Parameters(BaseModel):
    """Base class of the models. They refuse unknown parameters, and strings in place of numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)


@cache
def parameters_model(method: Callable[..., Any]) -> type[Parameters]:
    """Return the model of a method's parameters, made from its signature."""
    hints = get_type_hints(method, localns=globals(), include_extras=True)
    fields: dict[str, Any] = {
        name: (_json_type(hints[name]), ... if given.default is given.empty else given.default)
        for name, given in inspect.signature(method).parameters.items()
        if name != "self"
    }
    return create_model(model_name(method), __base__=Parameters, __module__=method.__module__, **fields)


def model_name(method: Callable[..., Any]) -> str:
    """Return the name of a method's model: `ListParams` for `list`."""
    return "".join(part.capitalize() for part in method.__name__.split("_")) + "Params"


def _json_type(hint: Any) -> Any:
    """Return the type of a parameter in JSON, with the other annotations kept. 5.0 is an integer in JSON."""
    if get_origin(hint) is not Annotated:
        return hint
    python_type, *annotations = get_args(hint)
    kept = [each for each in annotations if not isinstance(each, JsonType)]
    types = [each.type for each in annotations if isinstance(each, JsonType)]
    if python_type is int:
        kept.append(BeforeValidator(whole))
    return Annotated[(types[0] if types else python_type, *kept)] if kept else (types or [python_type])[0]
