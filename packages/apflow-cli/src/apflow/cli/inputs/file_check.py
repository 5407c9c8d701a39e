"""Checks a file of tasks, and finds the line and column of each violation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import click

from apflow.cli.inputs.positions import Positions, message_of
from apflow.cli.inputs.source import parse, read_source_text
from apflow.cli.inputs.tree_file import filled_tasks
from apflow.core.authoring.array_validation import check_array, flat_entries, split_trees
from apflow.core.authoring.run_check import check_runnable
from apflow.core.authoring.task_validation import Entry
from apflow.core.errors import InvalidInputError, MalformedFileError, TreeInvalidError
from apflow.core.service.trees import as_array
from apflow.core.settings import get_settings

PLACEHOLDER = "'${params."  # begins the placeholder of a string in a message


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


def check_file(file: str, assignments: Sequence[str] = ()) -> CheckedFile:
    """Check a file of tasks; "-" is standard input. Nothing is stored.

    Tasks that use a parameter without a value are checked with a placeholder, and their inputs are not.

    Args:
        assignments: values of parameters, as `--set` takes them.

    Raises:
        click.UsageError: the file cannot be read, or a value is not of the form NAME=VALUE.
    """
    text = read_source_text("", file)
    try:
        given = parse(text, file, suffix=Path(file).suffix.lower())
    except click.UsageError as error:
        return CheckedFile(violations=[_of_text(error)])
    incomplete: Collection[int] = ()
    try:
        filled = filled_tasks(given, assignments)
        if filled is None:
            entries = cast("list[Entry]", list(flat_entries(as_array(given))))
        else:
            entries, incomplete = filled[1].tasks, filled[1].incomplete
    except InvalidInputError as error:
        return CheckedFile(violations=_of_parameters(error, text))
    trees = split_trees(entries)
    found = CheckedFile(len(trees), len(entries))
    places = {id(entry): index for index, entry in enumerate(entries)}
    violations = [violation for tree in trees for violation in _violations(tree, places, incomplete)]
    if violations:
        positions = Positions(text)
        found.violations = sorted((_placed(each, positions) for each in violations), key=_order)
    return found


def _of_text(error: click.UsageError) -> FileViolation:
    cause = error.__cause__
    if isinstance(cause, MalformedFileError):
        return FileViolation(cause.error.fault, cause.error.line, cause.error.column)
    return FileViolation(error.format_message())


def _of_parameters(error: InvalidInputError, text: str) -> list[FileViolation]:
    positions = Positions(text)
    found = [_placed(each, positions) for each in error.violations or [str(error)]]
    return sorted(found, key=_order)


def _violations(
    tree: Sequence[Entry], places: Mapping[int, int], incomplete: Collection[int]
) -> Iterator[str]:
    """Yield the violations of one tree, with the indexes of the file.

    Args:
        places: the index in the file of each entry, by `id()`.
        incomplete: indexes in the file of tasks with placeholders.
    """
    try:
        tasks = check_array(tree, get_settings())
    except TreeInvalidError as error:
        # A placeholder may break rules that the value will keep: the message shows the reference.
        found = [each for each in error.violations if not (incomplete and PLACEHOLDER in each)]
    else:
        unchecked = {at for at, entry in enumerate(tree) if places[id(entry)] in incomplete}
        found = check_runnable(tasks, unchecked=unchecked)
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
