"""Writing data: JSON for programs, plain lines for pipes, colours and tables for people at a terminal.

Data goes to standard output, everything else to standard error. Nothing recurses with the size of a tree.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from apflow.cli.display.names import short_ids
from apflow.cli.display.table import GAP, Column, cut, lines
from apflow.cli.display.times import duration
from apflow.cli.display.tree_lines import TreeLine, counts_text, tree_lines
from apflow.core.model.task import Json, utc_now
from apflow.core.process.printable import printable, printable_json

SCHEMA_VERSION = 1
MIN_TEXT = 20  # characters of a task in a tree, however far it is indented

STYLES = {
    "pending": "dim",
    "in_progress": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "skipped": "dim",
}


def one_line(value: Json) -> str:
    """Return a value as text of one line that no terminal takes for a command."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text.replace("\n", " ").replace("\t", " "))


def write_json(document: Mapping[str, Json]) -> None:
    """Write one JSON document of one line."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    is_terminal = sys.stdout.isatty()
    for part in encode(document, is_ascii=not is_unicode):
        _write(printable_json(part) if is_terminal else part)
    _write("\n")


def save_json(path: Path, document: Mapping[str, Json]) -> None:
    """Write one JSON document into a file, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(encode(document))
        file.write("\n")
    partial.replace(path)


def encode(document: Mapping[str, Json], *, is_ascii: bool = False) -> Iterator[str]:
    """Yield a document as JSON, its schema version first. `root` may hold a tree of any depth."""
    plain = {name: value for name, value in document.items() if name != "root"}
    head = json.dumps({"schema_version": SCHEMA_VERSION} | plain, ensure_ascii=is_ascii)
    if "root" not in document:
        yield head
        return
    yield f'{head[:-1]}, "root": '
    yield from _encode_tree(document["root"], is_ascii)
    yield "}"


def _encode_tree(root: Mapping[str, Json], is_ascii: bool) -> Iterator[str]:
    waiting: list[Mapping[str, Json] | str] = [root]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
            continue
        own = json.dumps(
            {name: value for name, value in part.items() if name != "children"}, ensure_ascii=is_ascii
        )
        yield f'{own[:-1]}, "children": ['
        waiting.append("]}")
        children: list[Mapping[str, Json]] = part["children"]
        for at in reversed(range(len(children))):
            waiting.extend((children[at], ", ") if at else (children[at],))


def write_line(text: str = "") -> None:
    """Write lines of data, usually one. What a terminal would take for a command is escaped."""
    _write(f"{printable(text, keeps_lines=True)}\n")


def write_wrapped(line: str, indent: str) -> None:
    """Write a line of data below an indent; on a terminal, it is wrapped between words if it is long."""
    whole = indent + printable(line)
    room = max(MIN_TEXT, terminal_width())
    for part in _wrapped(whole, room) if sys.stdout.isatty() else [whole]:
        _write(f"{part}\n")


def write_note(text: str, *, wraps: bool = True) -> None:
    """Write lines for people to standard error. What a terminal would take for a command is escaped.

    Args:
        wraps: on a terminal, long lines are wrapped between words.
    """
    shown = printable(text, keeps_lines=True)
    if wraps and sys.stderr.isatty():
        shown = "\n".join(part for line in shown.split("\n") for part in _wrapped(line, error_width()))
    click.echo(shown, err=True)


def _wrapped(line: str, width: int) -> list[str]:
    """Return the lines of a long line, with the same indent. Words stay whole."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def write_table(
    columns: Sequence[str], rows: Iterable[Sequence[Json]], *, optional: Sequence[str] = ()
) -> None:
    """Write rows: a table on a terminal, aligned columns in a pipe. A column "status" is coloured.

    Args:
        optional: columns that a terminal leaves out if they do not fit, the first one first.
    """
    cells = [[one_line(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        titled = [
            Column(
                name.upper(),
                is_flexible=name != "status" and not name.endswith("id"),
                rank=len(optional) - optional.index(name) if name in optional else 0,
                is_wrapped=True,
            )
            for name in columns
        ]
        write_columns(titled, _with_short_ids(columns, cells))
        return
    widths = [max(len(name), *(len(row[at]) for row in cells), 0) for at, name in enumerate(columns)]
    for row in [[name.upper() for name in columns], *cells]:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        write_line("  ".join(padded).rstrip())


def _with_short_ids(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[list[str]]:
    short = {
        at: short_ids(row[at] for row in cells) for at, name in enumerate(columns) if name.endswith("id")
    }
    return [[short[at][text] if at in short else text for at, text in enumerate(row)] for row in cells]


def write_columns(
    columns: Sequence[Column], rows: Sequence[Sequence[Json]], *, keeps_all: bool = False
) -> None:
    """Write a table that fits the terminal.

    Args:
        keeps_all: no column is left out if there is no room.
    """
    filled = [at for at, each in enumerate(columns) if not each.needs_value or any(row[at] for row in rows)]
    kept = [replace(columns[at], rank=0) if keeps_all else columns[at] for at in filled]
    cells = [[one_line(row[at]) for at in filled] for row in rows]
    for number, line in enumerate(lines(kept, cells, terminal_width(), ellipsis())):
        shown = [_coloured(kept[at].title.lower(), text) if number else _bold(text) for at, text in line]
        _write(GAP.join(shown).rstrip() + "\n")


def error_width() -> int:
    """Return how many characters a line of the terminal of standard error holds."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or terminal_width()
    except (OSError, ValueError):
        return terminal_width()


def terminal_width() -> int:
    """Return how many characters a line of the terminal holds."""
    return shutil.get_terminal_size().columns


def ellipsis() -> str:
    """Return what stands for text that was cut, in characters that standard output can show."""
    return "…" if (sys.stdout.encoding or "").lower().startswith("utf") else "..."


def _bold(text: str) -> str:
    return click.style(text, bold=True) if _has_colours() else text


def write_fields(fields: Mapping[str, Json]) -> None:
    """Write one thing, a line for each of its fields that has a value; long ones wrap on a terminal."""
    shown = {one_line(name): one_line(value) for name, value in fields.items()}
    width = max(len(name) for name in shown)
    is_terminal = sys.stdout.isatty()
    for name, text in shown.items():
        if text in ("", "{}", "[]"):
            continue
        room = max(MIN_TEXT, terminal_width() - width - len(GAP))
        first, *more = _wrapped(text, room) if is_terminal else [text]
        _write(f"{name.ljust(width)}  {_coloured(name, first)}\n")
        for line in more:
            _write(f"{' ' * width}  {line}\n")


def own_key(task: Mapping[str, Json]) -> str:
    """Return the key of a task if it says more than the id and the name, else an empty string."""
    key = task.get("key")
    return "" if key in (None, task["id"], task["name"]) else one_line(key)


def label(task: Mapping[str, Json]) -> str:
    """Return the name of a task, with its key if that says more."""
    key = own_key(task)
    return one_line(task["name"]) + (f" ({key})" if key else "")


def count(root: Mapping[str, Json]) -> int:
    """Return how many tasks a tree has."""
    found = 0
    waiting = [root]
    while waiting:
        found += 1
        waiting.extend(waiting.pop()["children"])
    return found


def write_tree(
    root: Mapping[str, Json],
    *,
    statuses: Collection[str] = (),
    depth: int | None = None,
    limit: int | None = None,
) -> None:
    """Write a tree, a line for each task, indented below its parent; see `tree_lines` for the arguments.

    On a terminal, IDs are short and errors are cut to the width of the line.
    """
    is_terminal = sys.stdout.isatty()
    width = terminal_width() if is_terminal else None
    for line in tree_lines(root, statuses=statuses, depth=depth, limit=limit):
        _write(_tree_line(line, width) + "\n")


def _tree_line(line: TreeLine, width: int | None) -> str:
    indent = "  " * line.depth
    if line.task is None:
        return f"{indent}{'...' if width is None else ellipsis()} {counts_text(line.hidden)}"
    task = line.task
    status = one_line(task["status"]).ljust(11)
    error = f"  {one_line(task['error'])}" if task["error"] else ""
    if width is None:
        return f"{indent}{status}  {label(task)}  {one_line(task['id'])}{error}"
    known = short_ids([task["id"]])[task["id"]]
    rest = f"{label(task)}  {one_line(known)}{_ran(task)}{error}"
    room = max(MIN_TEXT, width - len(indent) - len(status) - len(GAP))
    return f"{indent}{_coloured('status', status)}  {cut(rest, room, ellipsis())}"


def _ran(task: Mapping[str, Json]) -> str:
    ran = duration(task, utc_now())
    return f"  {ran}" if ran else ""


def _coloured(name: str, text: str) -> str:
    style = STYLES.get(text.strip()) if name == "status" else None
    if style is None or not _has_colours():
        return text
    return click.style(text, dim=True) if style == "dim" else click.style(text, fg=style)


def _has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
