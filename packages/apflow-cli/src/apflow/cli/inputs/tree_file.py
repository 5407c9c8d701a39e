"""Tasks with parameters: the values that `--set` gives, put into the tasks of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from apflow.cli.inputs.pairs import read_pairs
from apflow.cli.inputs.typed_text import read_typed
from apflow.core.authoring.array_validation import flat_entries
from apflow.core.authoring.file_parameters import (
    FileParameters,
    FilledTasks,
    declares_parameters,
    fill_parameters,
    read_parameters,
)
from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.trees import as_array
from apflow.core.settings import get_settings

EXAMPLE = "day=2026-11-27"


def with_parameters(given: Json, assignments: Sequence[str]) -> Json:
    """Return the tasks of what was given, with the values of its parameters.

    Args:
        assignments: `NAME=VALUE`, as `--set` takes it.

    Raises:
        InvalidInputError: a parameter is declared or used wrongly, has no value, or one of another type.
        click.UsageError: a value is not of the form NAME=VALUE.
    """
    filled = filled_tasks(given, assignments)
    if filled is None:
        return given
    parameters, tasks, missing = filled
    if missing:
        raise InvalidInputError(
            "The file has parameters without a value: give each as --set NAME=VALUE.",
            [_described(name, parameters) for name in missing],
        )
    return tasks.tasks


def filled_tasks(
    given: Json, assignments: Sequence[str]
) -> tuple[FileParameters, FilledTasks, list[str]] | None:
    """Return the parameters of what was given, its tasks with their values, and the names without a value.

    None if it declares no parameters.
    """
    found = read_pairs("--set", assignments, EXAMPLE)
    if not declares_parameters(given):
        if found:
            raise click.UsageError(
                f"--set {next(iter(found))}: the tasks declare no parameters. Declare them in `params`, next "
                "to `tasks`."
            )
        return None
    parameters = read_parameters(given)
    values = parameters.complete(_values(parameters, found))
    tasks = flat_entries(as_array({"tasks": given["tasks"]}))
    return parameters, fill_parameters(tasks, parameters, values), parameters.missing(values)


def _values(parameters: FileParameters, texts: Mapping[str, str]) -> dict[str, Json]:
    """Return the values of parameters that are given as text, by their types."""
    values: dict[str, Json] = {}
    faults: list[str] = []
    depth = get_settings().max_json_depth
    for name, text in texts.items():
        if name not in parameters.declared:
            faults.append(f"--set {name}: {parameters.unknown(name)}")
            continue
        try:
            values[name] = read_typed(text, [parameters.type_of(name)], depth)
        except ValueError as error:
            faults.append(f"--set {name}: {error}.")
    if faults:
        raise InvalidInputError("The parameters of the file cannot be used.", faults)
    return values


def _described(name: str, parameters: FileParameters) -> str:
    description = str(parameters.declared[name].get("description", "")).strip()
    return f"{name} ({parameters.type_of(name)}){f': {description}' if description else ''}"
