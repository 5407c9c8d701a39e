"""All fields of one task, for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from apflow.cli.display.output import one_line, terminal_width, write_fields, write_line, write_wrapped
from apflow.cli.display.table import width_of
from apflow.cli.display.times import local
from apflow.core.model.task import Json


def write_task(task: Mapping[str, Json]) -> None:
    """Write the fields of a task that have a value; on a terminal, local times and indented JSON."""
    if not sys.stdout.isatty():
        write_fields(task)
        return
    shown = {name: local(value) if _is_time(name, value) else value for name, value in task.items()}
    label = max(map(len, shown)) + 2
    long = {name: value for name, value in shown.items() if _is_long(value, terminal_width() - label)}
    write_fields({name: value for name, value in shown.items() if name not in long})
    for name, value in long.items():
        write_line(one_line(name))
        for line in json.dumps(value, indent=2, ensure_ascii=False).splitlines():
            write_wrapped(line, "  ")


def _is_time(name: str, value: Json) -> bool:
    return name.endswith("_at") and isinstance(value, str)


def _is_long(value: Json, room: int) -> bool:
    return isinstance(value, dict | list) and width_of(one_line(value)) > room
