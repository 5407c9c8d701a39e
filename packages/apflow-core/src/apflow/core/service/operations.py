"""The table of operations: what every interface offers, described once.

An operation is a method of `TaskService`. Its name, effect, access rule and special features are columns of
the table; its parameters come from the signature of the method, its summary and description from the
docstring. Protocols, clients, the command line and the reference documentation are made from this table.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic import ValidationError as ParametersError

from apflow.core.authoring.field_validation import READ_ONLY
from apflow.core.authoring.violation import near
from apflow.core.errors import InvalidInputError
from apflow.core.model.sql_query import MAX_QUERY_SECONDS
from apflow.core.model.task import Json
from apflow.core.service.parameters import Parameters, parameters_model
from apflow.core.service.results import (
    ApprovalResult,
    AttemptResult,
    AvailableExecutorResult,
    BudgetResult,
    CallerResult,
    CancelResult,
    CheckpointResult,
    CopyPreviewResult,
    CountResult,
    DatabaseResult,
    DeleteResult,
    DueTimesResult,
    Event,
    ExecutorResult,
    ExportResult,
    GenerateResult,
    HealthResult,
    KeyChangeResult,
    KeyStatusResult,
    LogLineResult,
    MetricsResult,
    PlanResult,
    PurgeResult,
    RunningCountResult,
    RunResult,
    ScheduleDeleteResult,
    ScheduleResult,
    SqlQueryResult,
    StatisticsResult,
    StatusResult,
    TaskResult,
    TreeResult,
    TreeWebhookResult,
    TriggerResult,
    UsageReportResult,
    VacuumResult,
    WebhookResult,
    WhyResult,
    WorkerResult,
)
from apflow.core.service.task_service import TaskService

MAX_PARAMETERS = 100  # more are refused without validating each
MAX_SHOWN = 80  # characters of a name in an error
CANCEL_SECONDS = 60.0
GENERATE_SECONDS = 300.0
PURGE_SECONDS = 600.0
VACUUM_SECONDS = 3600.0

Access = Literal["any", "owner"]
Effect = Literal["read", "add", "change"]

_SECTION = re.compile(r"^(Args|Returns|Raises):$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Shorthand:
    """`params` that are the value of one parameter instead of an object with all of them."""

    parameter: str
    options: frozenset[str]  # keys that stay parameters where `params` is one object


@dataclass(frozen=True)
class Operation:
    """One operation, as interfaces need to know it."""

    name: str
    function: Callable[..., Any]  # of `TaskService`
    result: Any  # a type, for `TypeAdapter`
    # "any": any authenticated caller, for its own tasks. "owner": the caller must be able to see the tasks
    # that the parameters name.
    access: Access = "owner"
    # "read": changes nothing and may be repeated. "add": only creates. "change": alters, ends or deletes what
    # exists.
    effect: Effect = "read"
    # Repeating the call with the same parameters has no further effect.
    is_idempotent: bool = False
    # Yields results one by one.
    is_stream: bool = False
    # A list that a client can follow: it gets the result again whenever it has changed.
    can_be_followed: bool = False
    # The parameter that asks for a stream of events as the answer.
    stream_parameter: str | None = None
    # The parameter that makes the call wait for the end of a run.
    wait_parameter: str | None = None
    # The result names the protocol that was used.
    reports_protocol: bool = False
    # Every call requests a run, and the result names its root.
    starts_run: bool = False
    # Every process that holds a database does this for other processes, also one that does not run the trees
    # that they submit. (Each does what only reads.)
    by_any_holder: bool = False
    # Seconds that a call may take beyond the usual, because code of executors has to end.
    extra_seconds: float = 0.0
    shorthand: Shorthand | None = None
    # Parameters that are accepted and ignored.
    ignored: frozenset[str] = frozenset()

    @property
    def method(self) -> str:
        """The name of the method of `TaskService`."""
        return self.function.__name__

    @property
    def parameters(self) -> type[Parameters]:
        """The model of the parameters."""
        return parameters_model(self.function)

    @property
    def is_read_only(self) -> bool:
        """Whether the operation changes nothing."""
        return self.effect == "read"

    @property
    def is_destructive(self) -> bool:
        """Whether the operation alters, ends or deletes what exists."""
        return self.effect == "change"

    @property
    def summary(self) -> str:
        """The first line of the description."""
        return self.description.partition("\n")[0]

    @property
    def description(self) -> str:
        """What the operation does: the docstring of the method, up to its first section."""
        return _SECTION.split(inspect.getdoc(self.function) or "")[0].strip()

    async def call(self, service: TaskService, given: Mapping[str, Json]) -> Json:
        """Check the parameters and call the method.

        Raises:
            InvalidInputError: a parameter is invalid; `violations` lists every fault.
        """
        return await self.bound_to(service)(**self.read(given))

    def stream(
        self, service: TaskService, given: Mapping[str, Json]
    ) -> AsyncGenerator[dict[str, Json], None]:
        """Check the parameters and return what the method yields; see `call`."""
        stream: AsyncGenerator[dict[str, Json], None] = self.bound_to(service)(**self.read(given))
        return stream

    def bound_to(self, service: TaskService) -> Callable[..., Any]:
        """Return the method of a service."""
        method: Callable[..., Any] = getattr(service, self.method)
        return method

    def read(self, given: Mapping[str, Json]) -> dict[str, Any]:
        """Return the parameters that are given, converted to what the method takes.

        Raises:
            InvalidInputError: a parameter is invalid; `violations` lists every fault.
        """
        if len(given) > MAX_PARAMETERS:
            violation = f"There are {len(given)} parameters. {self.name} takes at most {MAX_PARAMETERS}."
            raise InvalidInputError(f"Invalid parameters of {self.name}.", [violation])
        known = {name: value for name, value in given.items() if name not in self.ignored}
        try:
            read = self.parameters.model_validate(known)
        except ParametersError as error:
            violations = _violations(error, self.parameters.model_fields)
            raise InvalidInputError(f"Invalid parameters of {self.name}.", violations) from error
        return {name: _plain(getattr(read, name)) for name in read.model_fields_set}

    def parameters_schema(self) -> dict[str, Json]:
        """Return the JSON Schema of the parameters."""
        return self.parameters.model_json_schema(by_alias=False)

    def result_schema(self) -> dict[str, Json]:
        """Return the JSON Schema of the result."""
        return TypeAdapter(self.result).json_schema()


def _plain(value: Any) -> Any:
    return value.model_dump(by_alias=True, exclude_unset=True) if isinstance(value, BaseModel) else value


def _violations(error: ParametersError, known: Collection[str]) -> list[str]:
    return [_violation(each["loc"], each["type"], each["msg"], known) for each in error.errors()]


def _violation(place: tuple[int | str, ...], kind: str, message: str, known: Collection[str]) -> str:
    where = ".".join(str(part)[:MAX_SHOWN] for part in place) or "parameters"
    if kind != "extra_forbidden" or len(place) != 1:
        return f"{where}: {message}"
    advice = near(str(place[0])[:MAX_SHOWN], known) or f" The parameters are: {', '.join(known)}."
    return f"{where}: There is no such parameter.{advice}"


def unknown_operation(name: str) -> str:
    """Return the message for an operation that does not exist, with one that has a similar name."""
    advice = near(name[:MAX_SHOWN], OPERATIONS) or near(f"tasks.{name[:MAX_SHOWN]}", OPERATIONS)
    return f"Method {name[:100]!r} does not exist.{advice}"


_TREE = Shorthand(
    parameter="tasks", options=frozenset({"execute", "on_conflict", "idempotency_key", "no_cache"})
)
_S = TaskService

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("tasks.create", _S.create, TreeResult, "any", "add", shorthand=_TREE),
        Operation(
            "tasks.submit",
            _S.submit,
            TreeResult,
            "any",
            "add",
            starts_run=True,
            by_any_holder=True,
            shorthand=_TREE,
        ),
        Operation(
            "tasks.plan",
            _S.plan,
            PlanResult,
            "any",
            shorthand=Shorthand(parameter="tasks", options=frozenset()),
        ),
        Operation(
            "tasks.execute",
            _S.execute,
            RunResult,
            effect="change",
            starts_run=True,
            stream_parameter="use_streaming",
            wait_parameter="wait",
            reports_protocol=True,
        ),
        Operation("tasks.watch", _S.watch, Event, is_stream=True),
        Operation("tasks.logs", _S.logs, list[LogLineResult]),
        Operation("tasks.webhooks", _S.webhooks, list[WebhookResult]),
        Operation("tasks.get", _S.get, TaskResult),
        Operation("tasks.detail", _S.get, TaskResult),
        Operation("tasks.attempts", _S.attempts, list[AttemptResult]),
        Operation(
            "tasks.budget",
            _S.budget,
            BudgetResult,
            effect="change",
            is_idempotent=True,
            by_any_holder=True,
        ),
        Operation("tasks.usage", _S.usage, UsageReportResult, "any", can_be_followed=True),
        Operation("tasks.stats", _S.stats, StatisticsResult, "any"),
        Operation("tasks.export", _S.export, ExportResult, "any"),
        Operation("tasks.list", _S.list, list[TaskResult], "any", can_be_followed=True),
        Operation("tasks.children", _S.children, list[TaskResult]),
        Operation("tasks.tree", _S.tree, TreeResult),
        Operation("tasks.count", _S.count, CountResult, "any", can_be_followed=True),
        Operation(
            "tasks.update",
            _S.update,
            TaskResult,
            effect="change",
            is_idempotent=True,
            ignored=frozenset(READ_ONLY),  # so that a task can be sent back as it was read
        ),
        Operation("tasks.delete", _S.delete, DeleteResult, effect="change", is_idempotent=True),
        Operation(
            "tasks.purge",
            _S.purge,
            PurgeResult,
            "any",
            "change",
            by_any_holder=True,
            extra_seconds=PURGE_SECONDS,
        ),
        Operation(
            "tasks.generate", _S.generate, GenerateResult, "any", "add", extra_seconds=GENERATE_SECONDS
        ),
        Operation("tasks.copy", _S.copy, TreeResult | CopyPreviewResult, effect="add"),
        Operation("tasks.fork", _S.fork, TreeResult | CopyPreviewResult, effect="add"),
        *(
            Operation(
                name,
                _S.cancel,
                list[CancelResult],
                effect="change",
                is_idempotent=True,
                by_any_holder=True,
                extra_seconds=CANCEL_SECONDS,
            )
            for name in ("tasks.cancel", "tasks.running.cancel")
        ),
        Operation("tasks.running.list", _S.running, list[StatusResult], "any", can_be_followed=True),
        Operation("tasks.running.count", _S.count_running, RunningCountResult, "any"),
        Operation("tasks.running.status", _S.status, list[StatusResult]),
        Operation("tasks.resume", _S.resume, list[StatusResult], effect="add", is_idempotent=True),
        Operation("tasks.why", _S.why, WhyResult),
        Operation("schedules.create", _S.create_schedule, ScheduleResult, "any", "add"),
        Operation("schedules.list", _S.schedules, list[ScheduleResult], "any", can_be_followed=True),
        Operation("schedules.show", _S.schedule, ScheduleResult),
        Operation("schedules.next", _S.next_due_times, DueTimesResult),
        Operation("schedules.update", _S.update_schedule, ScheduleResult, effect="change"),
        Operation("schedules.pause", _S.pause_schedule, ScheduleResult, effect="change", is_idempotent=True),
        Operation(
            "schedules.resume", _S.resume_schedule, ScheduleResult, effect="change", is_idempotent=True
        ),
        Operation("schedules.trigger", _S.trigger_schedule, TriggerResult, effect="add"),
        Operation("schedules.delete", _S.delete_schedule, ScheduleDeleteResult, effect="change"),
        Operation("approvals.list", _S.approvals, list[ApprovalResult], "any", can_be_followed=True),
        Operation("approvals.get", _S.approval, ApprovalResult),
        Operation("approvals.approve", _S.approve, ApprovalResult, effect="change", by_any_holder=True),
        Operation("approvals.reject", _S.reject, ApprovalResult, effect="change", by_any_holder=True),
        Operation("system.health", _S.health, HealthResult, "any"),
        Operation("system.whoami", _S.whoami, CallerResult, "any"),
        Operation("system.metrics", _S.metrics, MetricsResult, "any"),
        Operation("system.database", _S.database, DatabaseResult, "any"),
        Operation(
            "system.checkpoint",
            _S.checkpoint,
            CheckpointResult,
            "any",
            "change",
            is_idempotent=True,
            by_any_holder=True,
        ),
        Operation(
            "system.vacuum",
            _S.vacuum,
            VacuumResult,
            "any",
            "change",
            is_idempotent=True,
            by_any_holder=True,
            extra_seconds=VACUUM_SECONDS,
        ),
        Operation("system.query", _S.query, SqlQueryResult, "any", extra_seconds=MAX_QUERY_SECONDS),
        Operation("system.workers", _S.workers, list[WorkerResult], "any"),
        Operation("system.webhooks", _S.unfinished_webhooks, list[TreeWebhookResult], "any"),
        Operation("system.executors", _S.executors, list[ExecutorResult], "any"),
        Operation("system.executor", _S.executor, ExecutorResult, "any"),
        Operation("system.available_executors", _S.available_executors, list[AvailableExecutorResult], "any"),
        Operation("config.llm_key.set", _S.set_llm_key, KeyChangeResult, "any", "change", is_idempotent=True),
        Operation("config.llm_key.get", _S.get_llm_key, KeyStatusResult, "any"),
        Operation(
            "config.llm_key.delete", _S.delete_llm_key, KeyChangeResult, "any", "change", is_idempotent=True
        ),
    )
}
