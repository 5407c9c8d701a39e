"""Schedules, for people at a terminal and in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from apflow.cli.display.names import short_ids
from apflow.cli.display.output import write_columns, write_table
from apflow.cli.display.table import Column
from apflow.cli.display.task_fields import write_task
from apflow.cli.display.times import local
from apflow.core.model.task import Json

PIPED = ("id", "name", "status", "due", "next_start", "started_count", "skipped_count", "error")
_COLUMNS = (
    Column("ID"),
    Column("NAME", is_flexible=True),
    Column("STATUS"),
    Column("DUE", is_flexible=True),
    Column("NEXT START", rank=1, needs_value=True),
    Column("STARTED", rank=3, needs_value=True),
    Column("SKIPPED", rank=4, needs_value=True),
    Column("ERROR", is_flexible=True, rank=2, needs_value=True),
)


def write_schedules(found: Sequence[Mapping[str, Json]]) -> None:
    """Write a list of schedules."""
    if not sys.stdout.isatty():
        write_table(PIPED, [[{**each, "due": due_of(each)}[column] for column in PIPED] for each in found])
        return
    ids = short_ids(each["id"] for each in found)
    write_columns(_COLUMNS, [_row(each, ids[each["id"]]) for each in found])


def write_schedule(found: Mapping[str, Json]) -> None:
    """Write the fields of one schedule that have a value."""
    write_task({name: value for name, value in found.items() if value not in (None, [])})


def due_of(schedule: Mapping[str, Json]) -> str:
    """Return when a schedule is due: `30 2 * * * Europe/Berlin`, `every 15m`, `at 2026-11-27T08:30+00:00`."""
    if schedule["cron"] is not None:
        zone = "" if schedule["timezone"] == "UTC" else f" {schedule['timezone']}"
        return f"{schedule['cron']}{zone}"
    return f"every {schedule['every']}" if schedule["every"] is not None else f"at {schedule['at']}"


def _row(found: Mapping[str, Json], short: str) -> list[str]:
    return [
        short,
        str(found["name"]),
        str(found["status"]),
        due_of(found),
        "" if found["status"] == "paused" else local(found["next_start"]),
        str(found["started_count"] or ""),
        str(found["skipped_count"] or ""),
        str(found["error"] or ""),
    ]
