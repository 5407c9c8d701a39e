"""Results of operations: one pydantic model for each."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from apflow.core.model.attempt import AttemptOutcome
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json


class Result(BaseModel):
    """The result of an operation. It may contain fields that the model does not declare."""

    model_config = ConfigDict(extra="allow")


class AttemptResult(Result):
    """An attempt of a task: a call of its executor."""

    number: int  # continues across executions of the task
    started_at: datetime | None  # null: not known
    ended_at: datetime | None  # null while it runs
    outcome: AttemptOutcome | None  # null while it runs
    error: str | None
    error_type: str | None
    traceback: str | None  # without frames of apflow's core


class UsageResult(Result):
    """What the calls of language models used."""

    calls: int  # those that failed or were cancelled included
    unpriced_calls: int  # whose cost is not known; cost_usd leaves them out
    estimated_calls: int  # whose tokens were counted by apflow, because the provider reported none
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int  # a part of input_tokens
    reasoning_tokens: int  # a part of output_tokens
    cost_usd: float
    seconds: float  # of the calls, added up


class TaskUsageResult(UsageResult):
    """What the calls of language models used, in total and by model."""

    by_model: dict[str, UsageResult]


class UsageReportResult(Result):
    """Sums of what the calls of language models used."""

    total: UsageResult
    groups: list[UsageResult]  # each with what it is grouped by: model, user_id, task_id or tree_id


class FiguresResult(Result):
    """Figures of tasks that have ended; durations in seconds, null if no task started."""

    tasks: int
    completed: int
    failed: int
    cancelled: int
    skipped: int
    failure_rate: float | None  # failed of those that completed or failed, 0 to 1; null if there are none
    retries: int  # attempts after the first one of each task
    seconds: float  # the durations, added up
    p50_seconds: float | None
    p95_seconds: float | None
    max_seconds: float | None
    calls: int  # of language models, as for the next three
    input_tokens: int
    output_tokens: int
    cost_usd: float


class GroupFiguresResult(FiguresResult):
    """Figures of the tasks of one group."""

    group: str | None  # what the tasks have in common; null if they have no such value


class TimedTaskResult(Result):
    """A task that has ended, and how long it ran."""

    id: str
    root_id: str
    name: str
    label: str | None
    executor: str | None
    user_id: str | None
    status: TaskStatus
    started_at: datetime
    seconds: float


class StatisticsResult(Result):
    """Figures of tasks that have ended."""

    since: datetime | None
    until: datetime | None
    group_by: Literal["executor", "name", "user", "label", "tag"]
    total: FiguresResult
    groups: list[GroupFiguresResult]  # those with the most tasks first
    has_more: bool  # there are more groups
    slowest: list[TimedTaskResult]  # the slowest first


class ColumnResult(Result):
    """A column of the result of a query."""

    name: str
    type: str  # in SQL


class SqlQueryResult(Result):
    """The result of a query in SQL."""

    columns: list[ColumnResult]
    rows: list[list[Json]]  # times in ISO 8601, in UTC; empty with a Parquet file
    row_count: int
    has_more: bool  # the query has more rows than its limit
    parquet: str | None  # the Parquet file in Base64, if it was asked for


class ExportLineResult(Result):
    """A line of an export: it has one of these members."""

    task: dict[str, Json] | None = None
    attempt: dict[str, Json] | None = None
    log: dict[str, Json] | None = None
    event: dict[str, Json] | None = None


class ExportResult(Result):
    """A page of an export."""

    lines: list[ExportLineResult]
    cursor: str | None  # continues; null: this is the last page


class BudgetResult(Result):
    """A budget for calls of language models, and what is spent of it.

    The amounts are `usd`, `tokens`, `calls` and `seconds`.
    """

    task_id: str
    limits: dict[str, float]
    on_exceed: Literal["fail", "wait"]
    spent: dict[str, float]
    reserved: dict[str, float]  # for calls that have begun
    lost: dict[str, float]  # reserved for calls whose process died: what they used is not known
    left: dict[str, float]
    open_calls: int
    warned: list[str]  # amounts for which a warning was given


class TreeStateResult(Result):
    """What the tasks of a tree add up to."""

    status: TaskStatus
    progress: float  # the mean of all tasks, 0.0 to 1.0
    total: int  # the number of tasks
    by_status: dict[str, int]


class TaskResult(Result):
    """A task; values of secret-like keys are masked as ***."""

    id: str
    key: str  # what the task is called within its tree
    parent_id: str | None
    root_id: str
    user_id: str | None
    name: str
    label: str | None = None
    tags: list[str] = []
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
    spawned_by: str | None = None  # on a root: the task of another tree that started this tree
    child_trees: list[str] = []  # ids of the roots of the trees that the task started
    cached_from: str | None = None  # the task whose result it has, because that had done the same
    history: list[AttemptResult] | None = None  # only if it was asked for
    # Of `tasks.get` only: what the calls of models used, for a root those of its whole tree.
    usage: TaskUsageResult | None = None
    budget_state: BudgetResult | None = None  # of `tasks.get` only, and only of a task with a budget
    tree: TreeStateResult | None = None  # on a root, only if it was asked for


class TreeResult(TaskResult):
    """A task with its descendants."""

    children: list[dict[str, Json]]  # each a `TreeResult`; not declared, because validation would recurse


class RunResult(Result):
    """The status of a run; it has `result` if the call waited for the end."""

    success: bool  # the run has not failed
    root_task_id: str
    task_id: str
    status: TaskStatus | Literal["started"]  # "started": the events follow as a stream
    progress: float
    message: str
    error: str | None


class WebhookResult(Result):
    """A webhook and the progress of its deliveries."""

    id: str
    url: str
    method: str
    headers: dict[str, Json]
    timeout: float
    max_retries: int
    events: list[str]  # types of the delivered events; empty: all stored events
    status: Literal["active", "done", "dead"]
    sent: int  # number of the last event that was delivered or given up
    failures: int
    not_before: datetime | None
    refused: int
    error: str | None
    created_at: datetime
    ended_at: datetime | None


class TreeWebhookResult(WebhookResult):
    """A webhook, with the tree whose events it receives."""

    root_task_id: str


class StatusResult(Result):
    """The status of a task; for a root, of its tree."""

    task_id: str
    context_id: str | None  # the root of its tree
    name: str | None
    key: str | None
    status: TaskStatus | Literal["not_found"]
    progress: float | None
    error: str | None
    is_running: bool
    started_at: datetime | None
    updated_at: datetime | None


class ScheduledRunResult(Result):
    """A tree that a schedule has started."""

    scheduled_at: datetime
    task_id: str  # its root


class ScheduleResult(Result):
    """A schedule. Exactly one of `cron`, `every` and `at` is set."""

    id: str
    name: str
    user_id: str | None
    status: Literal["active", "paused", "ended"]  # ended: no due time will come
    created_at: datetime
    cron: str | None
    every: str | None
    at: datetime | None
    timezone: str
    start: datetime | None
    end: datetime | None
    jitter: str | None
    catch_up: Literal["all", "latest", "none"]
    overlap: Literal["skip", "queue", "cancel", "allow"]
    is_paused: bool
    next_due: datetime | None
    next_start: datetime | None  # next_due and its jitter
    queued: list[datetime]  # due times that wait until a tree has ended
    starting: list[datetime]  # due times whose tree is being created
    open_trees: list[str]  # IDs of roots: trees that may still run
    runs: list[ScheduledRunResult]  # the last trees that were started
    started_count: int  # trees that were started, also by hand
    skipped_count: int  # due times that `overlap` or a pause left out
    error: str | None  # why the last start failed
    tasks: list[dict[str, Json]] | None = None  # of `schedules.show` only


class TriggerResult(Result):
    """A tree that was started by hand."""

    schedule_id: str
    task_id: str  # the root of the tree
    scheduled_at: datetime


class ScheduleDeleteResult(Result):
    """The outcome of the deletion of a schedule."""

    success: bool
    schedule_id: str


class DueTimesResult(Result):
    """The next due times of a schedule."""

    schedule_id: str
    timezone: str
    due_times: list[datetime]


class ApproversResult(Result):
    """Who may decide. If both are empty, the owner of the task may."""

    users: list[str]
    roles: list[str]


class DecisionResult(Result):
    """A decision about an approval."""

    approved: bool
    by: str | None  # the user; null: the owner of the database, or the time was over
    at: datetime
    reason: str | None
    answers: dict[str, Json]  # of the form
    timed_out: bool  # the time was over


class ApprovalResult(Result):
    """An approval that a task has asked for."""

    task_id: str
    root_task_id: str
    name: str  # of the task
    user_id: str | None  # the owner of the task
    # closed: its task has ended without a decision. timed_out: the time was over, and nothing was decided.
    status: Literal["open", "approved", "rejected", "timed_out", "closed"]
    question: str
    data: Json  # to look at
    form: dict[str, Json] | None  # JSON Schema of the answers
    approvers: ApproversResult
    asked_at: datetime
    deadline: datetime | None
    on_timeout: Literal["reject", "approve", "fail"]
    may_decide: bool  # whether the caller may decide
    decision: DecisionResult | None


class CountResult(Result):
    """Numbers of tasks."""

    total: int
    by_status: dict[str, int]


class JournalResult(Result):
    """What the journal of a database has and the database itself does not have yet."""

    records: int
    size_bytes: int


class DatabaseResult(Result):
    """A database and what is in it."""

    url: str  # without its password
    storage: str  # the distribution of its store, with its version
    tables_version: int | None  # None if the tables have no versions
    size_bytes: int | None  # of its file; None if it is not one
    journal: JournalResult | None  # None if the store uses no journal
    is_durable: bool
    is_shared: bool  # several processes may open it
    runs_to_resume: int  # requested runs that have not ended
    tasks: CountResult


class DeleteResult(Result):
    """The outcome of a deletion."""

    success: bool
    task_id: str
    deleted_count: int


class PlannedTaskResult(Result):
    """A task of a plan."""

    key: str  # what the task is called within its tree
    name: str
    executor: str | None  # None: no executor is known
    wave: int  # 1 for the tasks that start first
    priority: int
    dependencies: list[str]  # the keys of tasks
    expected_seconds: float | None  # None without a history
    expected_cost_usd: float | None
    runs: int  # completed tasks of the same name and executor that the estimate is made of
    limit: dict[str, Json] | None = None  # in the policy of the task
    cached_from: str | None = None  # the task whose result it would have without a call of its executor


class CapabilitiesResult(Result):
    """What a tree may touch."""

    executors: list[str]
    hosts: list[str]
    commands: list[str]  # the programs
    images: list[str]
    secrets: list[str]
    undetermined: list[str]  # inputs whose value is known only in the run, as KEY.inputs.NAME


class PlanResult(Result):
    """What a tree would do."""

    total: int  # the number of tasks, with groups
    waves: list[list[str]]  # keys, in the order of their start
    tasks: list[PlannedTaskResult]  # those that run, in the order of their start
    critical_path: list[str]  # keys: each starts when the one before it has ended
    expected_seconds: float | None  # of the critical path; tasks without a history take no time in it
    expected_cost_usd: float | None  # of all tasks with a history
    without_history: int  # tasks that run and have no history
    problems: list[str]  # what would make tasks fail before their code runs
    secrets: dict[str, Literal["set", "missing", "unusable", "refused"]]
    capabilities: CapabilitiesResult


class PurgeResult(Result):
    """What a purge has deleted or, as a dry run, would delete."""

    trees: int
    tasks: int  # of these trees
    has_more: bool  # the limit was reached: there may be more such trees
    dry_run: bool
    before: datetime  # the trees ended before this time


class CheckpointResult(Result):
    """A database after a checkpoint."""

    records_applied: int  # of the journal
    size_bytes: int  # of the file; 0 for what is not one


class VacuumResult(Result):
    """The size of a database before and after a vacuum."""

    size_bytes_before: int
    size_bytes_after: int


class CopyPreviewResult(Result):
    """The array of tasks that a copy would create."""

    tasks: list[dict[str, Json]]
    saved: Literal[False]


class CancelResult(Result):
    """The outcome of a cancellation, for one task."""

    task_id: str
    status: str
    message: str | None = None


class WhyResult(Result):
    """Why a task has its status, and what changes it."""

    task_id: str
    name: str
    key: str
    status: TaskStatus
    reasons: list[str]
    advice: list[str]


class ExecutorResult(Result):
    """An executor, and whether it is usable."""

    id: str
    name: str | None
    description: str | None
    distribution: str | None
    version: str | None
    is_usable: bool
    problem: str | None
    input_schema: dict[str, Json] | None


class AvailableExecutorResult(Result):
    """An executor of apflow that is not installed, and the command that installs it."""

    id: str
    description: str
    distribution: str
    install: str


class Event(Result):
    """An event of a tree."""

    type: str
    task_id: str
    key: str | None = None  # what the task is called within its tree
    root_task_id: str
    sequence: int
    timestamp: datetime
    status: TaskStatus | None
    progress: float | None
    message: str | None
    data: Json
    result: Json
    error: str | None
    final: bool | None = None  # true for the last event of a run


class LogLineResult(Result):
    """A line that a task has logged; a record of `logging` may contain newlines."""

    number: int  # ascending within the tree, with gaps
    task_id: str
    key: str | None  # what the task is called within its tree
    name: str | None  # of the task
    attempt: int  # the number of the attempt, which continues across re-executions
    generation: int  # re-executions of the task before this one
    timestamp: datetime
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    source: str  # "logging", "stdout", "stderr", "executor", "event", "traceback" or "engine"
    logger: str | None  # the name of the logger, if the source is "logging"
    message: str


class RunningCountResult(Result):
    """The number of trees with an unfinished run."""

    count: int


class Storage(Result):
    """The database."""

    kind: str
    is_shared: bool


class HealthResult(Result):
    """The health of the process that answers."""

    status: Literal["healthy"]
    message: str
    version: str | None
    timestamp: datetime
    running_tasks_count: int  # trees that this process runs
    storage: Storage
    uptime_seconds: float


class WorkerResult(Result):
    """A worker: a process, or a part of one, that runs the trees that are submitted."""

    id: str
    host: str
    pid: int
    version: str | None
    started_at: datetime
    seen_at: datetime  # of its last report, by its own clock
    status: Literal["running", "draining", "lost"]
    trees: int  # that it runs
    max_concurrency: int  # executor calls at once
    calls: int  # of executors that it makes for other processes
    resources: dict[str, float]  # amounts that it offers to calls
    labels: dict[str, str]


class CallerResult(Result):
    """The caller of an operation."""

    user_id: str | None  # None: the owner of the database
    roles: list[str]  # that its token names
    is_admin: bool


class MetricsResult(Result):
    """Numbers of tasks and runs."""

    tasks: dict[str, int]
    runs_requested: int
    runs_here: int
    uptime_seconds: float


class GenerateResult(Result):
    """Generated tasks; it has `root_task_id` if they were created."""

    tasks: list[dict[str, Json]]
    count: int


class KeyChangeResult(Result):
    """Whether a key was stored or deleted."""

    success: bool
    provider: str


class KeyStatusResult(Result):
    """Whether a user has a key for a provider."""

    provider: str
    has_key: bool
    providers: dict[str, bool]  # every provider with a key
