"""The state of one run: its phase, its tasks, and what it waits for. Pure.

The run, its cancellations and its drain share one `RunState`. `RunPhase` and `PHASES` define the possible
phases and transitions between them; only `RunState.enter` changes the phase.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Generic, TypeVar, cast

from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TreeSummary
from apflow.core.model.tree_index import children_by_parent
from apflow.core.planning.outcome import Outcome, cancelled, with_usage
from apflow.core.planning.plan import DerivedOutcome, Plan

logger = logging.getLogger(__name__)

KEPT_OF_A_CANCELLED = ("partial_result", "result", "token_usage")


class RunPhase(StrEnum):
    """The phase of a run."""

    STARTING = "starting"  # the request of the run is not durable yet
    RUNNING = "running"  # starts ready tasks
    DRAINING = "draining"  # starts no tasks, and releases the tree when running code has ended
    CLOSING = "closing"  # no process owns the tree: writes cancellations, starts no tasks
    ENDING = "ending"  # the end of the run or the release of the tree is being written, or is durable
    LOST = "lost"  # another process may own the tree: writes nothing more
    OVER = "over"


PHASES: Mapping[RunPhase, frozenset[RunPhase]] = {
    RunPhase.STARTING: frozenset({RunPhase.RUNNING, RunPhase.DRAINING, RunPhase.LOST}),
    RunPhase.RUNNING: frozenset({RunPhase.DRAINING, RunPhase.ENDING, RunPhase.LOST}),
    RunPhase.DRAINING: frozenset({RunPhase.ENDING, RunPhase.LOST}),
    RunPhase.CLOSING: frozenset({RunPhase.ENDING, RunPhase.LOST, RunPhase.OVER}),
    # Back, if the store rejects the end because another process has changed the tree.
    RunPhase.ENDING: frozenset({RunPhase.OVER, RunPhase.RUNNING, RunPhase.DRAINING, RunPhase.CLOSING}),
    RunPhase.LOST: frozenset(),
    RunPhase.OVER: frozenset(),
}


class Cancellation:
    """The `cancellation_checker` of an executor: returns whether its attempt is cancelled.

    A reference from the executor to the attempt would form a cycle that only the garbage collector can free.
    """

    __slots__ = ("is_requested",)

    def __init__(self) -> None:
        self.is_requested = False

    def __call__(self) -> bool:
        return self.is_requested


class Call:
    """The state of a call of a task's executor."""

    __slots__ = (
        "answer", "cancellation", "generation", "lateness", "message", "number", "outcome", "started_at",
        "task", "was_called",
    )  # fmt: skip

    def __init__(self, task: Task) -> None:
        self.task = task
        self.number, self.generation = task.attempts, task.generation  # at the start of the call
        self.started_at = task.updated_at
        self.outcome: Outcome | None = None  # set when the call has ended
        self.was_called = False  # whether the executor's code has started
        self.cancellation = Cancellation()
        self.message: str | None = None  # the reason for the cancellation
        self.lateness: Outcome | None = None  # the failure with which it ends because of a deadline
        self.answer: Json = None  # what the executor's `cancel` returned

    @property
    def is_cancelled(self) -> bool:
        """Whether cancellation is requested, so that the outcome can only be `cancelled`."""
        return self.cancellation.is_requested

    def request_cancel(self, message: str | None) -> None:
        """Request the cancellation: the outcome can then only be `cancelled`."""
        self.cancellation.is_requested = True
        self.message = message

    def fail_late(self, outcome: Outcome) -> None:
        """Request the end because of a deadline: unless a cancellation is requested, too, the call fails."""
        self.cancellation.is_requested = True
        self.lateness = outcome

    def cancelled(self, outcome: Outcome | None = None) -> Outcome:
        """Return the outcome of an attempt that was ended, including results that its code returned."""
        kept: dict[str, Json] = {}
        result = None if outcome is None or outcome.status is TaskStatus.FAILED else outcome.result
        if isinstance(result, dict):
            kept.update(cast("dict[str, Json]", result))
        answer = self.answer
        if isinstance(answer, dict):
            answer = cast("dict[str, Json]", answer)
            kept.update({name: answer[name] for name in KEPT_OF_A_CANCELLED if answer.get(name) is not None})
        ended = cancelled(self.message, kept or None)
        if self.lateness is not None and self.task.cancel_requested_at is None:
            ended = replace(self.lateness, result=kept | self.lateness.result)
        return ended if outcome is None or outcome.usage is None else with_usage(ended, outcome.usage)


CallT = TypeVar("CallT", bound=Call)


@dataclass(eq=False)
class RunState(Generic[CallT]):
    """The state that the parts of one run share. `take_tree` fills it from the stored tree."""

    root_id: str
    owner: str | None
    scope: list[str] | None  # ids that this run may start; None: all
    phase: RunPhase = RunPhase.STARTING
    tasks: list[Task] = field(default_factory=list[Task])
    by_id: dict[str, Task] = field(default_factory=dict[str, Task])
    children: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    plan: Plan = field(init=False)
    reading: int = 0  # how many times the tree was read
    # Task id -> its call. The task is in progress until the end of the call is written.
    running: dict[str, CallT] = field(default_factory=dict[str, CallT])
    hooking: dict[str, CallT] = field(default_factory=dict[str, CallT])  # ended, with running post-hooks
    retrying: set[str] = field(default_factory=set[str])  # waiting for the next attempt
    derived: deque[DerivedOutcome] = field(default_factory=deque[DerivedOutcome])  # not written yet
    # Abandoned by a drain: task id -> whether the executor's code had started.
    interrupted: dict[str, bool] = field(default_factory=dict[str, bool])
    changes_written: int = 0
    last_number: int = 0  # of the last stored event that was published or existed before this run
    summary: TreeSummary | None = None  # set when the end of the run is durable

    def enter(self, phase: RunPhase) -> None:
        """Change the phase. The present phase must allow the transition."""
        if phase not in PHASES[self.phase]:
            raise RuntimeError(f"The run of tree {self.root_id} cannot go from {self.phase} to {phase}.")
        logger.debug("Tree %s: phase %s -> %s", self.root_id, self.phase, phase)
        self.phase = phase

    @property
    def is_closing(self) -> bool:
        """Whether the run only writes cancellations."""
        return self.phase is RunPhase.CLOSING

    @property
    def is_at_work(self) -> bool:
        """Whether code of executors or post-hooks has not ended."""
        return bool(self.running or self.hooking)

    @property
    def is_settled(self) -> bool:
        """Whether nothing remains to be derived or decided until something else happens."""
        return not self.derived and (not self.plan.undecided or self.is_closing)

    @property
    def may_start(self) -> bool:
        """Whether ready tasks are started."""
        return self.phase in (RunPhase.STARTING, RunPhase.RUNNING) and not self.derived

    def take_tree(self, tasks: Iterable[Task]) -> None:
        """Replace the tasks by the stored tree and create a new plan."""
        self.reading += 1
        self.tasks[:] = tasks
        self.by_id.clear()
        self.by_id.update((task.id, task) for task in self.tasks)
        self.children.clear()
        self.children.update(children_by_parent(self.tasks))
        self.derived.clear()
        self.retrying.clear()
        self.plan = Plan(self.tasks, self.scope)

    def add(self, tasks: Sequence[Task]) -> None:
        """Add new tasks, in order of position, to the tree. The plan has its own method."""
        self.tasks.extend(tasks)
        self.by_id.update((task.id, task) for task in tasks)
        for parent_id, ids in children_by_parent(tasks).items():
            self.by_id[parent_id].has_children = True
            self.children.setdefault(parent_id, []).extend(ids)

    def has_ended(self, task: Task) -> bool:
        """Whether a task has ended or is outside the scope of this run."""
        return task.status in TERMINAL or not self.plan.nodes[task.id].in_scope
