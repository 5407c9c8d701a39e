"""What operations return: one pydantic model each."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json


class Result(BaseModel):
    """What an operation returns. Fields that are not declared here may come with it."""

    model_config = ConfigDict(extra="allow")


class TaskResult(Result):
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


class TreeResult(TaskResult):
    """A task, with what is below it."""

    children: list[dict[str, Json]]  # of this same form: not declared, because validation would recurse


class RunResult(Result):
    """How a run stands; with `result`, where its end was waited for."""

    success: bool  # it has not failed
    root_task_id: str
    task_id: str
    status: TaskStatus | Literal["started"]  # "started": the events are streamed
    progress: float
    message: str
    error: str | None


class WebhookResult(Result):
    """A webhook, and how far it is."""

    id: str
    url: str
    method: str
    headers: dict[str, Json]
    timeout: float
    max_retries: int
    status: Literal["active", "done", "dead"]
    sent: int  # number of the last event that was sent or given up
    failures: int
    not_before: datetime | None
    refused: int
    error: str | None
    created_at: datetime
    ended_at: datetime | None


class StatusResult(Result):
    """How a task, or the tree of a root, is doing."""

    task_id: str
    context_id: str | None  # the root of its tree
    name: str | None
    status: TaskStatus | Literal["not_found"]
    progress: float | None
    error: str | None
    is_running: bool
    started_at: datetime | None
    updated_at: datetime | None


class CountResult(Result):
    """How many tasks there are."""

    total: int
    by_status: dict[str, int]


class DeleteResult(Result):
    """What was deleted."""

    success: bool
    task_id: str
    deleted_count: int


class CopyPreviewResult(Result):
    """The array that would make the copy."""

    tasks: list[dict[str, Json]]
    saved: Literal[False]


class CancelResult(Result):
    """What became of a cancellation."""

    task_id: str
    status: str
    message: str | None = None


class WhyResult(Result):
    """Why a task is where it is."""

    task_id: str
    name: str
    status: TaskStatus
    reasons: list[str]
    advice: list[str]


class ExecutorResult(Result):
    """An executor, and whether it can be used."""

    id: str
    name: str | None
    description: str | None
    distribution: str | None
    version: str | None
    is_usable: bool
    problem: str | None
    input_schema: dict[str, Json] | None


class Event(Result):
    """What has happened to a tree."""

    type: str
    task_id: str
    root_task_id: str
    sequence: int
    timestamp: datetime
    status: TaskStatus | None
    progress: float | None
    message: str | None
    data: Json
    result: Json
    error: str | None
    final: bool | None = None  # true in the event with which the run of a tree ends


class RunningCountResult(Result):
    """How many."""

    count: int


class Storage(Result):
    """Where tasks are kept."""

    kind: str
    is_shared: bool


class HealthResult(Result):
    """That this process can do its work."""

    status: Literal["healthy"]
    message: str
    version: str | None
    timestamp: datetime
    running_tasks_count: int  # trees that this process runs
    storage: Storage
    uptime_seconds: float


class MetricsResult(Result):
    """How much there is to do."""

    tasks: dict[str, int]
    runs_requested: int
    runs_here: int
    uptime_seconds: float


class KeyChangeResult(Result):
    """Whether a key was set, or deleted."""

    success: bool
    provider: str


class KeyStatusResult(Result):
    """Whether there is a key."""

    provider: str
    has_key: bool
    providers: dict[str, bool]  # every provider for which there is a key
