"""Lists of tasks: for people at a terminal, and plain columns in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from apflow.cli.display.names import executor_of, short_ids
from apflow.cli.display.output import own_key, write_columns, write_table
from apflow.cli.display.table import Column
from apflow.cli.display.times import age, duration, local
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, utc_now

PIPED = ("id", "key", "name", "status", "progress", "created_at")
PIPED_WIDE = ("tasks", "executor", "user_id", "label", "tags", "started_at", "completed_at", "error")

_COLUMNS = (
    Column("ID"),
    Column("KEY", is_flexible=True, rank=4, needs_value=True),
    Column("NAME", is_flexible=True),
    Column("LABEL", is_flexible=True, rank=5, needs_value=True),
    Column("STATUS"),
    Column("PROGRESS", rank=2, needs_value=True),
    Column("TASKS", rank=3, needs_value=True),
    Column("EXECUTOR", is_flexible=True, rank=5, needs_value=True),
    Column("AGE", rank=1, needs_value=True),
    Column("DURATION", rank=1, needs_value=True),
    Column("USER", is_flexible=True, rank=9, needs_value=True),
    Column("TAGS", is_flexible=True, rank=8, needs_value=True),
    Column("STARTED", rank=7, needs_value=True),
    Column("ENDED", rank=8, needs_value=True),
    Column("ERROR", is_flexible=True, rank=6, needs_value=True),
)
_WIDE = ("USER", "TAGS", "STARTED", "ENDED", "ERROR")


def write_task_list(tasks: Sequence[Mapping[str, Json]], *, is_wide: bool = False) -> None:
    """Write a list of tasks. A root that has `tree` is shown with the status of its tree."""
    if not sys.stdout.isatty():
        _write_piped(tasks, is_wide=is_wide)
        return
    if not tasks:
        return
    ids = short_ids(task["id"] for task in tasks)
    rows = [_row(task, ids[task["id"]]) for task in tasks]
    columns = [each for each in _COLUMNS if is_wide or each.title not in _WIDE]
    write_columns(
        columns,
        [[row[each.title] for each in columns] for row in rows],
        # What is asked for is not left out, even if lines become longer than those of the terminal.
        keeps_all=is_wide,
    )


def _row(task: Mapping[str, Json], short: str) -> dict[str, str]:
    now = utc_now()
    tree = task.get("tree")
    return {
        "ID": short,
        "KEY": own_key(task),
        "NAME": str(task["name"]),
        "LABEL": str(task.get("label") or ""),
        "STATUS": status_of(task),
        "PROGRESS": f"{progress_of(task):.0%}",
        "TASKS": _ended(tree) if tree and tree["total"] > 1 else "",
        "EXECUTOR": executor_of(task),
        "AGE": age(task["created_at"], now),
        "DURATION": duration(task, now),
        "USER": str(task["user_id"] or ""),
        "TAGS": ", ".join(task.get("tags") or ()),
        "STARTED": local(task["started_at"]),
        "ENDED": local(task["completed_at"]),
        "ERROR": str(task["error"] or ""),
    }


def status_of(task: Mapping[str, Json]) -> str:
    """Return the status of a task; of its tree, if the task is a root and has it."""
    return str((task.get("tree") or task)["status"])


def progress_of(task: Mapping[str, Json]) -> float:
    """Return the progress of a task, 0.0 to 1.0; of its tree, if the task is a root and has it."""
    return float((task.get("tree") or task)["progress"])


def _ended(tree: Mapping[str, Json]) -> str:
    ended = sum(count for status, count in tree["by_status"].items() if TaskStatus.is_terminal(status))
    return f"{ended}/{tree['total']}"


def _write_piped(tasks: Sequence[Mapping[str, Json]], *, is_wide: bool) -> None:
    """Write whole values: nothing is cut, and times are those of the stored task."""
    columns = (*PIPED, *PIPED_WIDE) if is_wide else PIPED
    has_keys = any(task.get("key") not in (None, task["id"]) for task in tasks)
    shown = [column for column in columns if column != "key" or has_keys]
    write_table(shown, [[_piped(task, column) for column in shown] for task in tasks])


def _piped(task: Mapping[str, Json], column: str) -> Json:
    match column:
        case "status":
            return status_of(task)
        case "progress":
            return f"{progress_of(task):.0%}"
        case "created_at" | "started_at" | "completed_at":
            return task[column] and task[column][:19]
        case "tasks":
            return task["tree"]["total"] if task.get("tree") else None
        case "executor":
            return executor_of(task)
        case "tags":
            return ",".join(task.get("tags") or ())
        case _:
            return task.get(column)
