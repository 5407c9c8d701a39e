"""Whether the command line accepts arguments."""

from __future__ import annotations

import shlex

import click

from apflow.cli.program import program


def refused(arguments: list[str]) -> str | None:
    """Return why the program does not accept arguments, or None. Nothing is run, and values are not read."""
    command: click.Command | None = program
    ctx: click.Context | None = None
    name: str | None = "apflow"
    rest = list(arguments)
    try:
        while command is not None:
            ctx = click.Context(command, info_name=name, parent=ctx)
            _, rest, _ = command.make_parser(ctx).parse_args(args=rest)
            if not isinstance(command, click.Group) or not rest:
                break
            name, command, rest = command.resolve_command(ctx, rest)
    except click.UsageError as error:
        return error.format_message()
    return f"Got unexpected extra arguments: {shlex.join(rest)}" if rest else None
