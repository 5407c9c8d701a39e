"""What a run came to, for people: the tree, and its result; on a terminal, no more than a person reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from apflow.cli.display.names import short_ids
from apflow.cli.display.output import (
    count,
    one_line,
    terminal_width,
    write_fields,
    write_line,
    write_note,
    write_tree,
    write_wrapped,
)
from apflow.cli.display.table import width_of
from apflow.core.model.task import Json

MAX_TASKS = 200  # lines of a tree, and
MAX_RESULT_LINES = 20  # of a result, that a terminal is given unasked
MAX_CHARACTERS = 200  # of one line of a result
LABEL_WIDTH = 14  # characters before the value of a field


def write_outcome(outcome: Mapping[str, Json]) -> None:
    """Write the tree and what it came to."""
    if "trees" in outcome:
        for each in outcome["trees"]:
            write_outcome(each)
        return
    is_terminal = sys.stdout.isatty()
    root = outcome["root"]
    write_tree(root, limit=MAX_TASKS if is_terminal else None)
    size = count(root)
    if is_terminal and size > MAX_TASKS:
        write_note(f"{size} tasks; `apflow tasks tree {root['id']} --all` shows them.")
    shown = {name: outcome[name] for name in ("root_task_id", "status", "error")}
    shown |= {name: outcome[name] for name in ("webhook_id", "webhook_secret") if name in outcome}
    result = one_line(outcome["result"])
    if not is_terminal or LABEL_WIDTH + width_of(result) <= terminal_width():
        write_fields(shown | {"result": result})
        return
    write_fields(shown)
    write_line("result")
    for line in result_lines(outcome["result"], short_ids([root["id"]])[root["id"]]):
        write_wrapped(line, "  ")


def result_lines(result: Json, root_id: str) -> Sequence[str]:
    """Return a result as indented lines; the last ones say what was left out, and how to get it."""
    text = result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False)
    found = text.splitlines()
    shown = [_short(line) for line in found[:MAX_RESULT_LINES]]
    left = len(found) - len(shown)
    is_whole = not left and shown == found
    if is_whole:
        return shown
    more = f"{left} more lines" if left else "cut"
    return [
        *shown,
        f"... {more} (the whole: apflow tasks get {root_id})",
        "... (--output FILE writes the whole outcome to a file)",
    ]


def _short(line: str) -> str:
    return line if len(line) <= MAX_CHARACTERS else f"{line[:MAX_CHARACTERS]}..."
