"""The state that all attempts of one run share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

from apflow.core.capture.task_log import LogLimits, LogQueue
from apflow.core.concurrency.containment import CodeTasks, call_contained
from apflow.core.engine.child_trees import ChildTrees
from apflow.core.engine.nesting import NestingContext
from apflow.core.engine.placement import Placement
from apflow.core.engine.resource_pool import ResourcePool
from apflow.core.engine.served_requests import ServedRunningCall
from apflow.core.errors import ExecutorNotFoundError
from apflow.core.extensions import registry
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.hooks import Hooks
from apflow.core.extensions.runner import LocalRunner, Runner
from apflow.core.model.event import TaskEvent
from apflow.core.model.resources import Needs
from apflow.core.model.task import ONLY_WAITS, Task
from apflow.core.permissions.capability_policy import CapabilityPolicy, capability_policy
from apflow.core.planning.outcome import Outcome
from apflow.core.planning.run_state import Cancellation
from apflow.core.settings import Settings


@dataclass(slots=True)
class RunContext:
    """The state that all attempts of one run share."""

    hooks: Hooks
    runner: LocalRunner  # calls executors in this process
    settings: Settings
    # Task id -> the instance that runs it now, for the caller that gave the dict to `TaskManager`.
    instances: MutableMapping[str, ExecutableTask]
    nests: NestingContext | None = None  # see `nesting`
    elsewhere: Runner | None = None  # calls executors in other processes, where they can run there
    placement: Placement | None = None  # decides which calls workers of the same store make
    pool: ResourcePool | None = None  # the resources of this process, where no other one makes calls
    owners_policy: CapabilityPolicy | None = None  # of the process that this one serves calls for
    # Returns the `RunningCall` of a task that is served for another process, given its secrets.
    running_call: Callable[[Task, list[str]], ServedRunningCall] | None = None
    entries: dict[str, registry.ExecutorEntry] = field(default_factory=dict[str, registry.ExecutorEntry])
    # Task id -> the result of another task, which its next attempt has instead of a call.
    cached: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    cache_keys: dict[str, str] = field(default_factory=dict[str, str])  # task id -> the key of its result
    # Set when a run begins.
    loop: asyncio.AbstractEventLoop = field(init=False)
    tasks: Mapping[str, Task] = field(init=False)
    publish: Callable[[TaskEvent], None] = field(init=False)
    note_progress: Callable[[str, float], None] = field(init=False)
    code: CodeTasks = field(init=False)  # runs users' code
    position: Callable[[], int] = field(init=False)  # returns the number of the last event
    logs: LogQueue = field(init=False)
    log_limits: LogLimits | None = field(init=False)  # None: nothing is captured
    is_restricted: bool = field(init=False)  # whether there are `policies`

    def join(
        self,
        tasks: Mapping[str, Task],
        publish: Callable[[TaskEvent], None],
        note_progress: Callable[[str, float], None],
        code: CodeTasks,
        position: Callable[[], int],
        logs: LogQueue,
    ) -> None:
        """Connect to a run: its tasks, and what receives live events and log lines."""
        self.loop = asyncio.get_running_loop()
        self.tasks, self.publish, self.note_progress = tasks, publish, note_progress
        self.code, self.position, self.logs = code, position, logs
        self.log_limits = LogLimits.of(self.settings)
        self.is_restricted = bool(self.settings.allowed_capabilities) or self.owners_policy is not None

    def is_over(self) -> bool:
        """Whether the run is ending, and all its code was asked to end."""
        return self.code.is_ended

    def entry(self, executor_id: str) -> registry.ExecutorEntry:
        """Return an executor, looked up once per run."""
        entry = self.entries.get(executor_id)
        if entry is None:
            entry = self.entries[executor_id] = registry.get_executor(executor_id)
        return entry

    def entry_here(self, executor_id: str) -> registry.ExecutorEntry | None:
        """Return an executor, looked up once per run; None if only workers of the same store have it."""
        placement = None if executor_id in self.entries else self.placement
        if (
            placement is not None
            and placement.has(executor_id)
            and not registry.executor_is_known(executor_id)
        ):
            return None
        return self.entry(executor_id)

    def runner_of(self, entry: registry.ExecutorEntry | None, needs: Needs) -> Runner | None:
        """Return what makes a call; None: this process does.

        Args:
            entry: the executor; None: only workers of the same store have it.
        """
        if self.elsewhere is not None and entry is not None and entry.may_run_elsewhere:
            return self.elsewhere
        if self.placement is not None and self.placement.is_elsewhere(entry, needs):
            return self.placement.runner
        return None

    def using(self, task: Task, needs: Needs) -> AbstractAsyncContextManager[None]:
        """Hold the amounts that a call in this process uses, once they are free.

        Raises:
            ResourceError: this process does not have them.
        """
        return nullcontext() if self.pool is None else self.pool.using(task.id, needs)

    @property
    def nesting(self) -> NestingContext:
        """What the calls of a run share to start trees. Calls that are served for another process lack it."""
        assert self.nests is not None
        return self.nests

    def policies(self) -> list[CapabilityPolicy]:
        """Return what restricts what tasks may touch: a task needs the permission of each."""
        own = capability_policy(self.settings)
        return [each for each in (own, self.owners_policy) if each is not None]

    def open_call(
        self, task: Task, cancellation: Cancellation, secrets: list[str]
    ) -> ChildTrees | ServedRunningCall:
        """Return the `RunningCall` of a task whose executor is about to be called."""
        if self.running_call is not None:
            return self.running_call(task, secrets)
        return ChildTrees(self.nesting, task, cancellation, secrets)

    def effect(self, task: Task, *, must_know: bool = False) -> str:
        """Return the effect of running the task twice, from the policy or else from the executor.

        It is `ONLY_WAITS`, whatever the policy says, if the executor only waits.

        `must_know`: raise if a lack of resources prevents loading the executor. Its effect may be `once`, and
        a later attempt to load it may succeed.
        """
        named, executor_id = task.policy.get("effect"), task.executor
        if executor_id is None:
            return str(named or ExecutableTask.effect)
        try:
            entry = call_contained(lambda: self.entry(executor_id))
            if call_contained(lambda: entry.only_waits):
                return ONLY_WAITS
            return str(named or call_contained(lambda: entry.effect))
        except ExecutorNotFoundError:
            # If a worker has it, its effect is known only there.
            is_elsewhere = self.placement is not None and self.placement.has(executor_id)
            return str(named or ("once" if is_elsewhere else ExecutableTask.effect))
        except Exception as error:
            may_pass = isinstance(error, OSError | MemoryError) or getattr(error, "may_pass", False)
            if must_know and not named and may_pass:
                raise
            # If the plugin cannot be loaded, its task fails when it starts.
            return str(named or ExecutableTask.effect)
