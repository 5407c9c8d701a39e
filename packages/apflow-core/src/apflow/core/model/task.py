"""A task, as plain data.

A task is one row of work. What users see comes first; what the engine keeps beside it follows.
All JSON fields hold plain JSON: dict, list, str, int, float, bool, None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from apflow.core.bounds import MAX_SECONDS
from apflow.core.model.status import TERMINAL, TaskStatus

Json = Any


class Dependency(TypedDict):
    """One entry of `Task.dependencies`: what must end before the task starts.

    `required`: whether it must have completed; an optional one may end in any way.
    `name`: kept where an array named the dependency by it; the result is then also given under this name.
    """

    id: str
    required: bool
    name: NotRequired[str]


EFFECTS = ("pure", "idempotent", "once")  # what a second run of a task would do
ONLY_WAITS = "waits"  # the effect of a task whose executor only waits; no policy can name it
# When a task runs, by how its dependencies ended. The first one is the default.
TRIGGERS = ON_SUCCESS, UNLESS_FAILED, ON_FAILURE, ALWAYS = (
    "on_success",
    "unless_failed",
    "on_failure",
    "always",
)
# Those with which a task waits for its dependencies, and runs or is skipped, however they end.
AFTER_ANY_END = frozenset({ON_FAILURE, ALWAYS})

# Seconds for clean-up after a deadline. GitHub Actions gives steps that run after a cancellation as much.
DEFAULT_CLEANUP_TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """When and how often a failed attempt is repeated. Times in seconds."""

    max_attempts: int = 1
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 60.0
    jitter: bool = True
    on: tuple[str, ...] | None = None  # error types; None means every type that may be retried

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait after the given attempt (the first is 1), before jitter.

        Never more than `MAX_SECONDS`: a stored policy may be older than that bound.
        """
        longest = min(self.max_delay, MAX_SECONDS)
        try:
            return min(longest, self.delay * self.backoff ** (attempt - 1))
        except OverflowError:
            return longest


@dataclass(frozen=True, slots=True)
class Policy:
    """How to run a task: the parsed form of `Task.policy`."""

    timeout: float | None = None  # seconds per attempt
    retry: Retry = field(default_factory=Retry)
    effect: str | None = None  # "pure", "idempotent" or "once"; None: the executor's
    when: str | None = None  # a condition, see `apflow.core.payload.condition`; if false, the task is skipped
    trigger: str = ON_SUCCESS  # one of `TRIGGERS`
    # On a root only: when its tree must have ended, in seconds after the request of the run or as a time in
    # ISO 8601; and the seconds for clean-up after that.
    deadline: float | str | None = None
    cleanup_timeout: float = DEFAULT_CLEANUP_TIMEOUT

    @classmethod
    def from_json(cls, policy: Mapping[str, Json] | None) -> Policy:
        """Read a policy that creation has checked; a stored one may be older than the bounds."""
        if not policy:
            return DEFAULT_POLICY
        retry = dict(policy.get("retry") or {})
        if retry.get("on") is not None:
            retry["on"] = tuple(retry["on"])
        timeout = policy.get("timeout")
        if timeout is not None:
            timeout = min(timeout, MAX_SECONDS)
        return cls(
            timeout=timeout,
            retry=Retry(**retry),
            effect=policy.get("effect"),
            when=policy.get("when"),
            trigger=policy.get("trigger", ON_SUCCESS),
            deadline=policy.get("deadline"),
            cleanup_timeout=policy.get("cleanup_timeout", DEFAULT_CLEANUP_TIMEOUT),
        )


DEFAULT_POLICY = Policy()

PUBLIC_FIELDS = (
    "id", "key", "parent_id", "root_id", "user_id", "name", "label", "tags", "status", "priority",
    "dependencies", "inputs", "params", "schemas", "policy", "result", "error", "progress", "has_children",
    "attempts", "created_at", "started_at", "updated_at", "completed_at", "original_task_id", "has_copy",
    "spawned_by", "child_trees", "cached_from",
)  # fmt: skip


@dataclass(slots=True, eq=False)
class Task:
    """One row of work.

    Custom columns of a `TaskModel` subclass are in `extra`, and readable as attributes once
    `set_task_model_class()` has made them known. Times are aware datetimes in UTC.
    """

    id: str
    name: str
    root_id: str  # a root's own id
    parent_id: str | None = None  # organises and displays; never decides order
    user_id: str | None = None
    status: TaskStatus = TaskStatus.PENDING
    priority: int = 2  # 0 urgent, 1 high, 2 normal, 3 low; lower starts first
    dependencies: list[Dependency] = field(default_factory=list[Dependency])
    inputs: dict[str, Json] = field(default_factory=dict[str, Json])
    params: dict[str, Json] = field(default_factory=dict[str, Json])
    schemas: dict[str, Json] = field(default_factory=dict[str, Json])
    policy: dict[str, Json] = field(default_factory=dict[str, Json])
    result: Json = None
    error: str | None = None
    progress: float = 0.0  # 0.0 to 1.0: what the executor last reported; shown as `fraction`
    has_children: bool = False
    attempts: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    updated_at: datetime | None = None
    completed_at: datetime | None = None
    original_task_id: str | None = None
    has_copy: bool = False
    # What people call the task within its tree, and unique there: the id that was given, or the name where
    # names were the references. It stays when the id is new, as in a copy. By default the id.
    key: str = ""
    label: str | None = None  # what the task is about, for people; unlike the name, it decides nothing
    tags: list[str] = field(default_factory=list[str])  # to find tasks by, each once

    position: int = -1  # order of creation in the tree; -1: the store gives the next number
    executor: str | None = None  # what was decided to run it: an executor id, or GROUP
    generation: int = 0  # raised by each re-execution
    interruptions: int = 0  # times that its process died during the call
    earlier_attempts: int = 0  # before those that `attempts` counts: interrupted, or of earlier executions
    not_before: datetime | None = None  # a retry waits until then
    cancel_requested_at: datetime | None = None
    owner: str | None = None  # who started it

    # The run, on a root only.
    run_requested_at: datetime | None = None
    run_scope: list[str] | None = None  # None: the whole tree
    run_owner: str | None = None
    lease_until: datetime | None = None
    run_ended_at: datetime | None = None
    last_event: int = 0  # number of the last stored event of the tree

    # On a root only: the callers of a server who wrote the tree (see `origin`). None: this machine.
    written_by: list[dict[str, Json]] | None = None

    # On a root only: the id of the task, in another tree, whose executor started this tree.
    spawned_by: str | None = None
    # The trees that executors of this task created or started; see `child_trees`. None: none.
    child_trees: list[dict[str, Json]] | None = None

    # The task whose result this one has, because both do the same; it may have been deleted. None: its own.
    cached_from: str | None = None
    cache_key: str | None = None  # by which other tasks find the result; see `payload.cache_key`
    run_ignores_cache: bool = False  # on a root: every task of the requested run calls its executor

    extra: dict[str, Json] = field(default_factory=dict[str, Json])

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Json: ...  # custom columns

    def __post_init__(self) -> None:
        if not self.key:
            self.key = self.id

    def copy(self) -> Task:
        """Return a task with the same values; the JSON in it is shared."""
        return Task(*_values(self))

    @property
    def fraction(self) -> float:
        """The progress that every interface shows: an ended task counts as done, whatever way it ended."""
        return 1.0 if self.status in TERMINAL else self.progress

    @property
    def attempt_number(self) -> int:
        """The number of the last attempt; unlike `attempts`, it never starts again."""
        return self.earlier_attempts + self.attempts

    def to_dict(self) -> dict[str, Json]:
        """Return what users see, as plain JSON: times in ISO 8601, custom columns beside the others."""
        shown = {name: to_json(getattr(self, name)) for name in PUBLIC_FIELDS} | {"progress": self.fraction}
        shown["child_trees"] = [each["id"] for each in self.child_trees or () if each["attempt"] is not None]
        return shown | {name: to_json(value) for name, value in self.extra.items()}


_values = attrgetter(*(each.name for each in fields(Task)))

# Value of Task.executor for a task that only holds others. No executor can have an id that begins so.
GROUP = ":group"


def has_own_key(task: Task) -> bool:
    """Return whether the key of a task says more than its id and its name."""
    return task.key not in (task.id, task.name)


def task_label(task: Task) -> str:
    """Return how messages call a task: its name, its key if that says more, and its id."""
    return f"{task.name!r} ({task.key}, {task.id})" if has_own_key(task) else f"{task.name!r} ({task.id})"


def to_json(value: Json) -> Json:
    """Return a column's value as JSON: a datetime as ISO 8601 text, all else unchanged."""
    return value.isoformat() if isinstance(value, datetime) else value


def utc_now() -> datetime:
    """Return the present moment as an aware datetime."""
    return datetime.now(UTC)
