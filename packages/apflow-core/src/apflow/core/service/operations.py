"""The table of operations: what every interface offers, described once.

An operation is a method of `TaskService` with a name, parameters, a result and a rule for who may call it.
Protocols, clients and their documentation are made from this table.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic import ValidationError as ParametersError

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.parameters import (
    Cancel,
    Copy,
    Count,
    CountRunning,
    Create,
    Delete,
    Execute,
    List,
    LlmKey,
    OneExecutor,
    OneTask,
    Parameters,
    Parent,
    Resume,
    Running,
    SetLlmKey,
    SeveralTasks,
    Tree,
    Update,
    Watch,
)
from apflow.core.service.results import (
    CancelResult,
    CopyPreviewResult,
    CountResult,
    DeleteResult,
    Event,
    ExecutorResult,
    HealthResult,
    KeyChangeResult,
    KeyStatusResult,
    MetricsResult,
    RunningCountResult,
    RunResult,
    StatusResult,
    TaskResult,
    TreeResult,
    WebhookResult,
    WhyResult,
)
from apflow.core.service.task_service import TaskService

MOST_PARAMETERS = 100  # so many names need not be looked at one by one
LONGEST_SHOWN = 80  # characters of a name
Who = Literal["anyone", "owner"]  # whoever may call at all; who may see the tasks that are named


@dataclass(frozen=True)
class Operation:
    """One operation, as interfaces need to know it."""

    name: str
    parameters: type[Parameters]
    result: Any  # a type, for `TypeAdapter`
    who: Who
    method: str  # of `TaskService`
    is_stream: bool = False  # it yields results one by one
    is_safe: bool = False  # it changes nothing, and may be repeated

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return (getattr(TaskService, self.method).__doc__ or "").strip().splitlines()[0]

    async def call(self, service: TaskService, given: Mapping[str, Json]) -> Json:
        """Check the parameters and call the method.

        Raises:
            InvalidInputError: the parameters are not what they should be; every fault is listed.
        """
        return await getattr(service, self.method)(**self.read(given))

    def stream(self, service: TaskService, given: Mapping[str, Json]) -> AsyncIterator[dict[str, Json]]:
        """Check the parameters and return what the method yields; see `call`."""
        stream: AsyncIterator[dict[str, Json]] = getattr(service, self.method)(**self.read(given))
        return stream

    def read(self, given: Mapping[str, Json]) -> dict[str, Any]:
        """Return parameters as the method takes them; what is left out has the method's own default.

        Raises:
            InvalidInputError: the parameters are not what they should be; every fault is listed.
        """
        if len(given) > MOST_PARAMETERS:
            fault = f"There are {len(given)} parameters. Give those that {self.name} has."
            raise InvalidInputError(f"Parameters of {self.name} are wrong.", [fault])
        try:
            read = self.parameters.model_validate(dict(given))
        except ParametersError as error:
            raise InvalidInputError(f"Parameters of {self.name} are wrong.", _faults(error)) from error
        return {name: _plain(getattr(read, name)) for name in read.model_fields_set}

    def parameters_schema(self) -> dict[str, Json]:
        """Return the JSON Schema of the parameters."""
        return self.parameters.model_json_schema(by_alias=False)

    def result_schema(self) -> dict[str, Json]:
        """Return the JSON Schema of the result."""
        return TypeAdapter(self.result).json_schema()


def _plain(value: Any) -> Any:
    return value.model_dump(by_alias=True, exclude_unset=True) if isinstance(value, BaseModel) else value


def _faults(error: ParametersError) -> list[str]:
    return [
        f"{'.'.join(str(part)[:LONGEST_SHOWN] for part in each['loc']) or 'parameters'}: {each['msg']}"
        for each in error.errors()
    ]


OPERATIONS: dict[str, Operation] = {
    each.name: each
    for each in (
        Operation("tasks.create", Create, TreeResult, "anyone", "create"),
        Operation("tasks.submit", Create, TreeResult, "anyone", "submit"),
        Operation("tasks.execute", Execute, RunResult, "owner", "execute"),
        Operation("tasks.watch", Watch, Event, "owner", "watch", is_stream=True, is_safe=True),
        Operation("tasks.webhooks", OneTask, list[WebhookResult], "owner", "webhooks", is_safe=True),
        Operation("tasks.get", OneTask, TaskResult, "owner", "get", is_safe=True),
        Operation("tasks.detail", OneTask, TaskResult, "owner", "get", is_safe=True),
        Operation("tasks.list", List, list[TaskResult], "anyone", "list", is_safe=True),
        Operation("tasks.children", Parent, list[TaskResult], "owner", "children", is_safe=True),
        Operation("tasks.tree", Tree, TreeResult, "owner", "tree", is_safe=True),
        Operation("tasks.count", Count, CountResult, "anyone", "count", is_safe=True),
        Operation("tasks.update", Update, TaskResult, "owner", "update"),
        Operation("tasks.delete", Delete, DeleteResult, "owner", "delete"),
        Operation("tasks.copy", Copy, TreeResult | CopyPreviewResult, "owner", "copy"),
        Operation("tasks.cancel", Cancel, list[CancelResult], "owner", "cancel"),
        Operation("tasks.running.cancel", Cancel, list[CancelResult], "owner", "cancel"),
        Operation("tasks.running.list", Running, list[StatusResult], "anyone", "running", is_safe=True),
        Operation(
            "tasks.running.count", CountRunning, RunningCountResult, "anyone", "count_running", is_safe=True
        ),
        Operation("tasks.running.status", SeveralTasks, list[StatusResult], "owner", "status", is_safe=True),
        Operation("tasks.resume", Resume, list[StatusResult], "owner", "resume"),
        Operation("tasks.why", OneTask, WhyResult, "owner", "why", is_safe=True),
        Operation("system.health", Parameters, HealthResult, "anyone", "health", is_safe=True),
        Operation("system.metrics", Parameters, MetricsResult, "anyone", "metrics", is_safe=True),
        Operation("system.executors", Parameters, list[ExecutorResult], "anyone", "executors", is_safe=True),
        Operation("system.executor", OneExecutor, ExecutorResult, "anyone", "executor", is_safe=True),
        Operation("config.llm_key.set", SetLlmKey, KeyChangeResult, "anyone", "set_llm_key"),
        Operation("config.llm_key.get", LlmKey, KeyStatusResult, "anyone", "get_llm_key", is_safe=True),
        Operation("config.llm_key.delete", LlmKey, KeyChangeResult, "anyone", "delete_llm_key"),
    )
}
