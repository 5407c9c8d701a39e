"""What happens at the due times of a schedule. Pure.

`decide` returns the schedule as it is afterwards. The process that stores it, on condition that no other
version was stored meanwhile, has decided: each due time is decided once, and `starting` keeps what was
decided until the trees exist. So nothing is lost where the process ends in between.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from apflow.core.model.schedule import MAX_RUNS, CatchUp, Overlap, Schedule, ScheduledRun
from apflow.core.planning.due_times import last_due, next_due, past_due_times, start_of

GRACE: Final = timedelta(seconds=60)  # a start that is later has been missed
OF_DUE_TIMES: Final = ("cron", "every", "at", "timezone", "start", "end")
MAX_AT_ONCE: Final = 100  # due times that are decided at once, and that may wait in the queue


@dataclass(frozen=True, slots=True)
class Decision:
    """The schedule after a decision, and the trees that must be cancelled."""

    schedule: Schedule
    cancel: tuple[str, ...] = ()


def needs_look(schedule: Schedule, now: datetime) -> bool:
    """Return whether `decide` may have something to decide, or a tree must be created."""
    if schedule.queued or schedule.starting:
        return True
    return not schedule.is_paused and schedule.next_start is not None and schedule.next_start <= now


def decide(schedule: Schedule, now: datetime, running: Collection[str]) -> Decision:
    """Decide what happens with the due times that have come.

    Args:
        running: which of `open_trees` have not ended.
    """
    schedule = replace(schedule, open_trees=tuple(each for each in schedule.open_trees if each in running))
    if schedule.is_paused:
        return Decision(schedule)
    due, cursor = _due(schedule, now)
    return _overlap(with_next(replace(schedule, queued=(*schedule.queued, *due), cursor=cursor)))


def _due(schedule: Schedule, now: datetime) -> tuple[list[datetime], datetime]:
    """Return the due times that `catch_up` takes, and the new cursor."""
    room = MAX_AT_ONCE - len(schedule.queued)
    found = list(islice(past_due_times(schedule, now), max(0, room)))
    if not found:  # nothing is due, or it stays due until there is room
        return [], schedule.cursor
    if schedule.catch_up is CatchUp.ALL or not _is_missed(schedule, found[0], now):
        return found, found[-1]
    last = last_due(schedule, now) or found[-1]
    is_wanted = schedule.catch_up is CatchUp.LATEST or not _is_missed(schedule, last, now)
    return ([last] if is_wanted else []), last


def _is_missed(schedule: Schedule, due: datetime, now: datetime) -> bool:
    return now - start_of(schedule, due) > GRACE


def _overlap(schedule: Schedule) -> Decision:
    """Move due times from the queue to `starting`, as `overlap` has it."""
    queued = schedule.queued
    if not queued:
        return Decision(schedule)
    is_busy = bool(schedule.open_trees or schedule.starting)
    match schedule.overlap:
        case Overlap.ALLOW:
            return Decision(_started_from(schedule, len(queued)))
        case Overlap.QUEUE:
            return Decision(schedule if is_busy else _started_from(schedule, 1))
        case Overlap.SKIP:
            kept = schedule if is_busy else _started_from(schedule, 1)
            return Decision(_skipped(kept, len(kept.queued)))
        case Overlap.CANCEL:
            kept = _skipped(schedule, len(queued) - 1)
            if not is_busy:
                return Decision(_started_from(kept, 1))
            return Decision(kept, kept.open_trees)


def _started_from(schedule: Schedule, count: int) -> Schedule:
    """Return the schedule with the first due times of the queue in `starting`."""
    queued = schedule.queued
    return replace(schedule, starting=(*schedule.starting, *queued[:count]), queued=queued[count:])


def _skipped(schedule: Schedule, count: int) -> Schedule:
    """Return the schedule without the first due times of the queue."""
    return replace(schedule, queued=schedule.queued[count:], skipped_count=schedule.skipped_count + count)


def with_next(schedule: Schedule) -> Schedule:
    """Return the schedule with the next due time that follows from its cursor."""
    due = next_due(schedule, schedule.cursor)
    return replace(schedule, next_due=due, next_start=None if due is None else start_of(schedule, due))


def with_started(schedule: Schedule, due: datetime, task_id: str) -> Schedule | None:
    """Return the schedule once the tree of a due time runs; None if another process has recorded that."""
    if due not in schedule.starting:
        return None
    return with_run(replace(schedule, starting=_without(schedule, due), error=None), due, task_id)


def with_run(schedule: Schedule, scheduled_at: datetime, task_id: str) -> Schedule:
    """Return the schedule with one more tree that it has started."""
    return replace(
        schedule,
        open_trees=(*schedule.open_trees, task_id),
        runs=(*schedule.runs, ScheduledRun(scheduled_at, task_id))[-MAX_RUNS:],
        started_count=schedule.started_count + 1,
    )


def with_failure(schedule: Schedule, due: datetime, error: str, *, is_final: bool) -> Schedule | None:
    """Return the schedule once the start of a due time has failed; None if nothing changes.

    Args:
        is_final: the start is not repeated.
    """
    if due not in schedule.starting or (schedule.error == error and not is_final):
        return None
    starting = _without(schedule, due) if is_final else schedule.starting
    return replace(schedule, starting=starting, error=error)


def paused(schedule: Schedule) -> Schedule:
    """Return the schedule paused. Due times that wait in its queue are left out."""
    return replace(_skipped(schedule, len(schedule.queued)), is_paused=True)


def resumed(schedule: Schedule, now: datetime) -> Schedule:
    """Return the schedule resumed. Due times of the pause are left out."""
    if not schedule.is_paused:
        return schedule
    return with_next(replace(schedule, is_paused=False, cursor=max(schedule.cursor, now)))


def changed(schedule: Schedule, new: Schedule, now: datetime) -> Schedule:
    """Return a schedule once its settings were changed to those of `new`.

    If the settings that decide the due times have changed, the new due times count from now on: the next one
    is the first after `now`, and none in the past is made up for. Otherwise the next due time stays, and
    those that have passed without a worker are still decided. Due times that wait, or whose tree is being
    created, stay in both cases.
    """
    is_moved = any(getattr(schedule, name) != getattr(new, name) for name in OF_DUE_TIMES)
    return with_next(replace(new, cursor=max(schedule.cursor, now) if is_moved else schedule.cursor))


def _without(schedule: Schedule, due: datetime) -> tuple[datetime, ...]:
    return tuple(each for each in schedule.starting if each != due)
