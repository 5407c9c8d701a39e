"""A schedule: when a tree of tasks is created and run again, and how far that has come.

Plain data. Times are aware datetimes in UTC. `planning.due_times` computes when it is due, and
`planning.scheduling` what happens then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from apflow.core.model.span import seconds_of
from apflow.core.model.task import Json, to_json

KIND: Final = "schedule"  # of the records, by the id of the schedule
TREE_KIND: Final = "schedule.tree"  # of the records with the tasks of each; they never change, see `tree`

MAX_RUNS: Final = 10  # that a schedule remembers, besides those that may not have ended


class CatchUp(StrEnum):
    """What happens with due times that passed while no worker ran."""

    ALL = "all"
    LATEST = "latest"
    NONE = "none"


class Overlap(StrEnum):
    """What happens with a due time while a tree of the schedule still runs."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL = "cancel"  # the running tree, and start when it has ended
    ALLOW = "allow"  # both at once


class ScheduledRun(NamedTuple):
    """A tree that was started for a due time."""

    scheduled_at: datetime
    task_id: str  # its root


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule and its progress. Exactly one of `cron`, `every` and `at` is set."""

    id: str
    name: str
    user_id: str | None
    created_at: datetime
    cron: str | None = None  # five fields, or a name such as @daily
    every: str | None = None  # a span: 15m
    at: datetime | None = None  # once
    timezone: str = "UTC"  # of `cron`: an IANA name
    start: datetime | None = None  # no due time is before it; due times of `every` count from it
    end: datetime | None = None  # no due time is after it
    jitter: str | None = None  # a span: each start is this much later at most
    catch_up: CatchUp = CatchUp.LATEST
    overlap: Overlap = Overlap.SKIP
    is_paused: bool = False
    tree: str = ""  # which tasks it has now: a change of them stores new ones, under another name
    written_by: list[dict[str, Json]] | None = None  # the author, as roots of trees store it; see `origin`

    # Progress. What is due is decided once, by the writer whose version of the record is stored.
    cursor: datetime  # due times until then have been decided
    next_due: datetime | None = None  # the first one after it
    next_start: datetime | None = None  # when that is started: `next_due` and its jitter
    queued: tuple[datetime, ...] = ()  # due times that wait until a tree has ended
    starting: tuple[datetime, ...] = ()  # due times whose tree must now be created
    open_trees: tuple[str, ...] = ()  # roots of trees that may not have ended
    runs: tuple[ScheduledRun, ...] = ()  # the last ones
    started_count: int = 0
    skipped_count: int = 0  # due times that `overlap` left out
    error: str | None = None  # why the last start failed

    @property
    def every_seconds(self) -> float | None:
        """The interval in seconds."""
        return seconds_of(self.every)

    @property
    def jitter_seconds(self) -> float:
        """The greatest delay of a start, in seconds."""
        return seconds_of(self.jitter) or 0.0

    @property
    def status(self) -> str:
        """`paused`, `active`, or `ended` if no due time will come and none waits."""
        if self.is_paused:
            return "paused"
        is_active = self.next_due is not None or self.queued or self.starting
        return "active" if is_active else "ended"

    def to_json(self) -> dict[str, Json]:
        """Return the schedule as JSON, which `read_schedule` reads."""
        return {each.name: _json(getattr(self, each.name)) for each in fields(self)}


def _json(value: Json) -> Json:
    if isinstance(value, ScheduledRun):
        return {"scheduled_at": to_json(value.scheduled_at), "task_id": value.task_id}
    if isinstance(value, tuple):
        return [_json(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return str(value) if isinstance(value, StrEnum) else to_json(value)


_TIMES = ("created_at", "at", "start", "end", "cursor", "next_due", "next_start")
_LISTS_OF_TIMES = ("queued", "starting")


def read_schedule(stored: Mapping[str, Json]) -> Schedule:
    """Return a schedule from its JSON; fields that this version does not know are ignored.

    Raises:
        KeyError, TypeError, ValueError: the JSON is not that of a schedule.
    """
    values = {each.name: stored[each.name] for each in fields(Schedule) if each.name in stored}
    for name in _TIMES:
        if values.get(name) is not None:
            values[name] = datetime.fromisoformat(values[name])
    for name in _LISTS_OF_TIMES:
        values[name] = tuple(datetime.fromisoformat(each) for each in values.get(name, ()))
    values["open_trees"] = tuple(values.get("open_trees", ()))
    values["runs"] = tuple(
        ScheduledRun(datetime.fromisoformat(each["scheduled_at"]), each["task_id"])
        for each in values.get("runs", ())
    )
    values["catch_up"] = CatchUp(values.get("catch_up", CatchUp.LATEST))
    values["overlap"] = Overlap(values.get("overlap", Overlap.SKIP))
    return Schedule(**values)
