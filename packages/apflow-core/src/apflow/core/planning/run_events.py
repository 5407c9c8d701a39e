"""The events of a run, and the instructions that follow from them.

An event reports what happened. `RunMachine` derives transitions and instructions from it. The engine writes
the transitions, and carries out the instructions when the transitions are durable or rejected. Events and
instructions are plain values, so they can be logged and replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, cast

from apflow.core.model.status import TaskStatus
from apflow.core.model.tree import TreeSummary
from apflow.core.planning.outcome import Outcome

if TYPE_CHECKING:
    from apflow.core.planning.run_state import Call, RunPhase

SHOWN_CHARACTERS, SHOWN_IDS = 80, 5  # of a string and of a list, in one line of the log


class RunEvent:
    """Something that happened in a run, or to it."""

    __slots__ = ()

    def __str__(self) -> str:
        shown = (f"{each.name}={_show(getattr(self, each.name))}" for each in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class AttemptEnded(RunEvent):
    """The code of an attempt has ended, or the run continues without it."""

    task_id: str
    number: int
    generation: int
    outcome: Outcome
    was_called: bool  # whether the executor's code has started


@dataclass(frozen=True, slots=True)
class PostHooksEnded(RunEvent):
    """The post-hooks of a task that ended with this status have returned."""

    task_id: str
    status: TaskStatus


@dataclass(frozen=True, slots=True)
class RetryDue(RunEvent):
    """The wait of a task before its next attempt is over."""

    task_id: str
    generation: int
    reading: int  # of the tree: each reading schedules its retries


@dataclass(frozen=True, slots=True)
class ProgressReported(RunEvent):
    """The executor of a task reported its progress."""

    task_id: str
    fraction: float


@dataclass(frozen=True, slots=True)
class TasksAdmitted(RunEvent):
    """There are free places for these ready tasks."""

    task_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class TasksRefused(RunEvent):
    """No run can ever end these tasks."""

    task_ids: Sequence[str]
    message: str


@dataclass(frozen=True, slots=True)
class CancelRequested(RunEvent):
    """The cancellation of tasks, and of all tasks below them, is requested."""

    task_ids: Sequence[str]
    message: str | None
    is_forced: bool  # without a grace period, and without clean-up
    is_repeated: bool = False  # the request was handled before, and the tree has been read again


@dataclass(frozen=True, slots=True)
class DeadlinePassed(RunEvent):
    """The deadline of the run has passed: what has not ended fails."""

    message: str
    is_final: bool  # the time for clean-up after the deadline is over, too


@dataclass(frozen=True, slots=True)
class DrainRequested(RunEvent):
    """The process shuts down: running code may take this many seconds to end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DrainExpired(RunEvent):
    """The time of a drain is over: code that still runs is abandoned."""


@dataclass(frozen=True, slots=True)
class RunFailed(RunEvent):
    """apflow's own code around an executor or a hook failed: the run ends with this error."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class TreeChanged(RunEvent):
    """Another process has changed the stored tree."""


@dataclass(frozen=True, slots=True)
class OwnershipLost(RunEvent):
    """Another process owns the tree, or may own it soon."""


@dataclass(frozen=True, slots=True)
class StartCalls:
    """Call the executors of tasks."""

    task_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class RunPostHooks:
    """Call the post-hooks of an ended task."""

    task_id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ScheduleRetry:
    """Report `RetryDue` after this many seconds."""

    task_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CancelCall:
    """End the code of a running task."""

    task_id: str
    is_forced: bool


@dataclass(frozen=True, slots=True)
class CancelAgain:
    """Request this cancellation again, because the change being written starts its task."""

    event: CancelRequested


@dataclass(frozen=True, slots=True)
class EndRun:
    """The run is over. Its summary is None if the run releases the tree to another process."""

    summary: TreeSummary | None


@dataclass(frozen=True, slots=True)
class ReturnPlaces:
    """Return the places of calls that are not made."""

    task_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class RestoreCall:
    """Restore a call whose end could not be written."""

    call: Call


@dataclass(frozen=True, slots=True)
class RestorePhase:
    """Return to a phase: the end of the run could not be written."""

    phase: RunPhase


Instruction = (
    StartCalls
    | RunPostHooks
    | ScheduleRetry
    | CancelCall
    | CancelAgain
    | EndRun
    | ReturnPlaces
    | RestoreCall
    | RestorePhase
)


def _show(value: object) -> str:
    if isinstance(value, Outcome):
        return str(value.status) + (f" {value.error_type}" if value.error_type else "")
    if isinstance(value, list | tuple):
        value = cast("Sequence[object]", value)
        shown = ", ".join(map(str, value[:SHOWN_IDS]))
        return f"[{shown}{', ...' if len(value) > SHOWN_IDS else ''}]"
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."
