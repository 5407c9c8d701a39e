"""The attempts of a task: a table, and the traceback of each error."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from textwrap import indent

from apflow.cli.display.output import write_line, write_table
from apflow.cli.display.times import local
from apflow.core.model.task import Json

_COLUMNS = ("number", "outcome", "started_at", "ended_at", "error")


def write_attempts(attempts: Sequence[Mapping[str, Json]], *, with_tracebacks: bool) -> None:
    """Write the attempts of a task, and below them their tracebacks."""
    if not attempts:
        write_line("It has no attempts.")
        return
    write_table(_COLUMNS, [[_shown(each, column) for column in _COLUMNS] for each in attempts])
    for each in attempts if with_tracebacks else ():
        write_traceback(each)


def write_traceback(attempt: Mapping[str, Json]) -> None:
    """Write the traceback of an attempt, if it has one."""
    if attempt["traceback"]:
        # Indented, so that the lines of an error cannot be taken for lines of the program.
        write_line(f"\nTraceback of attempt {attempt['number']}:\n{indent(attempt['traceback'], '  ')}")


def _shown(attempt: Mapping[str, Json], column: str) -> Json:
    value = attempt[column]
    match column:
        case "outcome":
            return value or "running"
        case "started_at" | "ended_at":
            return value and (local(value) if sys.stdout.isatty() else value[:23])
        case "error":
            return value and value[:200]
        case _:
            return value
