"""The tasks that a command stores: the options that give them, and what they contain."""

from __future__ import annotations

from collections.abc import Sequence

import click

from apflow.cli.inputs.completion import complete_file
from apflow.cli.inputs.options import set_option
from apflow.cli.inputs.parameter import Decorator, combined, parameter_option
from apflow.core.model.task import Json


def with_given_tasks(operation: str) -> Decorator:
    """Add `--tasks`, `--tasks-file` and `--set` to a command that calls an operation with tasks."""
    options = (
        parameter_option(operation, "tasks", "-t", "--tasks", metavar="JSON"),
        click.option(
            "-f",
            "--tasks-file",
            "--file",
            "tasks_file",
            metavar="FILE",
            shell_complete=complete_file,
            help="A JSON or YAML file with the tasks; - is standard input.",
        ),
        set_option,
    )
    return combined(options)


def read_given_tasks(tasks: str | None, tasks_file: str | None, parameters: Sequence[str]) -> list[Json]:
    """Return the trees that the options give.

    Args:
        tasks: what `--tasks` was given.
        tasks_file: what `--tasks-file` was given.
        parameters: what each `--set` was given.

    Raises:
        click.UsageError: not exactly one of `tasks` and `tasks_file` is given, or it cannot be read.
        InvalidInputError: see `trees_of`.
    """
    from apflow.cli.inputs.source import read_option, read_source, trees_of

    if (tasks is None) == (tasks_file is None):
        raise click.UsageError("Give either --tasks JSON or --tasks-file FILE.")
    given = (
        read_option("--tasks", tasks) if tasks is not None else read_source("--tasks-file", str(tasks_file))
    )
    return trees_of(given, parameters)
