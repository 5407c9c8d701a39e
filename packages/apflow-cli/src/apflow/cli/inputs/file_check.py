"""Checks a file of tasks, and finds the line and column of each violation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import click

from apflow.cli.inputs.positions import Positions, message_of
from apflow.cli.inputs.source import parse, read_source_text
from apflow.core.authoring.array_validation import check_array, flat_entries, split_trees
from apflow.core.authoring.run_check import check_runnable
from apflow.core.authoring.task_validation import Entry
from apflow.core.errors import InvalidInputError, MalformedTextError, TreeInvalidError
from apflow.core.service.trees import as_array
from apflow.core.settings import get_settings


@dataclass(frozen=True, slots=True)
class FileViolation:
    """A fault in a file. `line` and `column` begin at 1, and are None if the position is unknown."""

    message: str
    line: int | None = None
    column: int | None = None


@dataclass(slots=True)
class CheckedFile:
    """What a file contains, and its violations in the order of the text."""

    trees: int = 0
    tasks: int = 0
    violations: list[FileViolation] = field(default_factory=list[FileViolation])


def check_file(file: str) -> CheckedFile:
    """Check a file of tasks; "-" is standard input. Nothing is stored.

    Raises:
        click.UsageError: the file cannot be read.
    """
    text = read_source_text("", file)
    try:
        given = parse(text, file, suffix=Path(file).suffix.lower())
    except click.UsageError as error:
        return CheckedFile(violations=[_of_text(error)])
    try:
        entries = cast("list[Entry]", list(flat_entries(as_array(given))))
    except InvalidInputError as error:
        return CheckedFile(violations=[FileViolation(str(error))])
    trees = split_trees(entries)
    found = CheckedFile(len(trees), len(entries))
    places = {id(entry): index for index, entry in enumerate(entries)}
    violations = [violation for tree in trees for violation in _violations(tree, places)]
    if violations:
        positions = Positions(text)
        found.violations = sorted((_placed(each, positions) for each in violations), key=_order)
    return found


def _of_text(error: click.UsageError) -> FileViolation:
    cause = error.__cause__
    if isinstance(cause, MalformedTextError):
        return FileViolation(cause.fault, cause.line, cause.column)
    return FileViolation(error.format_message())


def _violations(tree: Sequence[Entry], places: Mapping[int, int]) -> Iterator[str]:
    """Yield the violations of one tree, with the indexes of the file.

    Args:
        places: the index in the file of each entry, by `id()`.
    """
    try:
        tasks = check_array(tree, get_settings())
    except TreeInvalidError as error:
        found = error.violations
    else:
        found = check_runnable(tasks)
    for violation in found:
        head, bracket, tail = violation.partition("]")
        name, _, index = head.partition("[")
        if name == "tasks" and bracket and index.isdecimal():
            yield f"tasks[{places[id(tree[int(index)])]}]{tail}"
        else:
            yield violation


def _placed(violation: str, positions: Positions) -> FileViolation:
    position = positions.find(violation)
    if position is None:
        return FileViolation(violation)
    return FileViolation(message_of(violation), *position)


def _order(violation: FileViolation) -> tuple[int, int]:
    return violation.line or 0, violation.column or 0
