"""Lists of the status of tasks, as `tasks.status`, `tasks.cancel` and `tasks.resume` return it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from apflow.cli.display.names import short_ids
from apflow.cli.display.output import own_key, write_columns, write_table
from apflow.cli.display.table import Column
from apflow.cli.display.times import age
from apflow.core.model.task import Json, utc_now

PIPED = ("task_id", "key", "name", "status", "progress", "error")
_COLUMNS = (
    Column("ID"),
    Column("KEY", is_flexible=True, rank=3, needs_value=True),
    Column("NAME", is_flexible=True, needs_value=True),
    Column("STATUS"),
    Column("PROGRESS", rank=1, needs_value=True),
    Column("STARTED", rank=4, needs_value=True),
    Column("UPDATED", rank=5, needs_value=True),
    Column("ERROR", is_flexible=True, needs_value=True),
)


def write_statuses(found: Sequence[Mapping[str, Json]]) -> None:
    """Write the status of tasks."""
    if not sys.stdout.isatty():
        has_keys = any(each.get("key") not in (None, each["task_id"]) for each in found)
        shown = [column for column in PIPED if column != "key" or has_keys]
        write_table(shown, [[_piped(each, column) for column in shown] for each in found])
        return
    ids = short_ids(each["task_id"] for each in found)
    write_columns(_COLUMNS, [_row(each, ids[each["task_id"]]) for each in found])


def _row(found: Mapping[str, Json], short: str) -> list[str]:
    now = utc_now()
    name = found.get("name")
    return [
        short,
        own_key({**found, "id": found["task_id"]}) if name is not None else "",
        str(name or ""),
        str(found["status"]),
        percent(found.get("progress")) or "",
        _ago(age(found.get("started_at"), now)),
        _ago(age(found.get("updated_at"), now)),
        str(found.get("error") or found.get("message") or ""),
    ]


def _ago(text: str) -> str:
    return f"{text} ago" if text else ""


def _piped(found: Mapping[str, Json], column: str) -> Json:
    return percent(found["progress"]) if column == "progress" else found[column]


def percent(progress: float | None) -> str | None:
    """Return a progress of 0.0 to 1.0 as percent; None without one."""
    return None if progress is None else f"{progress:.0%}"
