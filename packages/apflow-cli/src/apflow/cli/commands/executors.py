"""`apflow executors`: what tasks can use."""

from __future__ import annotations

import json
from typing import Any

import click

from apflow.cli.inputs.completion import complete_executor
from apflow.cli.inputs.options import session_of, with_executors, with_output


@click.group()
def executors() -> None:
    """List and describe the executors that tasks can use, and find those that can be installed."""


@executors.command("list")
@with_executors
@click.pass_context
def list_executors(ctx: click.Context) -> None:
    """List every executor, and whether it can be used."""
    from apflow.cli.display.output import write_json, write_table
    from apflow.cli.session.preparation import prepare
    from apflow.cli.session.work import perform, server_of
    from apflow.core.extensions.description import describe_executors

    if server_of(session_of(ctx)):
        found = perform(ctx, lambda service: service.executors())
    else:
        prepare(session_of(ctx))
        found = describe_executors()
    if session_of(ctx).is_json:
        write_json({"executors": found})
    else:
        columns = ("executor_id", "usable", "from", "description")
        write_table(columns, [_row(each) for each in found], optional=("from",))


def _row(executor: dict[str, Any]) -> list[Any]:
    is_usable = executor["is_usable"]
    origin = executor["distribution"] or "registered in code"
    return [
        executor["id"],
        "yes" if is_usable else "no",
        origin,
        executor["description" if is_usable else "problem"],
    ]


@executors.command()
@click.argument("executor_id", metavar="ID", shell_complete=complete_executor)
@with_executors
@click.pass_context
def show(ctx: click.Context, executor_id: str) -> None:
    """Describe one executor: its inputs, where it comes from, what it can do."""
    from apflow.cli.display.output import write_fields, write_json, write_line
    from apflow.cli.session.preparation import prepare
    from apflow.cli.session.work import perform, server_of
    from apflow.core.extensions.description import describe_executor

    if server_of(session_of(ctx)):
        found = perform(ctx, lambda service: service.executor(executor_id))
    else:
        prepare(session_of(ctx))
        found = describe_executor(executor_id)
    if session_of(ctx).is_json:
        write_json({"executor": found})
        return
    schema = found.pop("input_schema")
    write_fields(found)
    if schema is not None:
        write_line("input_schema")
        write_line(json.dumps(schema, indent=2))


@executors.command()
@click.argument("words", nargs=-1)
@with_output
@click.pass_context
def search(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Find executors of apflow that are not installed, with the command that installs them.

    Lists those whose ID, package or description contains every word. Without words, lists all.
    """
    from apflow.cli.display.output import write_json, write_note, write_table
    from apflow.core.extensions.first_party import search

    found = search(words)
    missing = [each for each in found if not each.is_installed]
    installed = [each.executor_id for each in found if each.is_installed]
    if session_of(ctx).is_json:
        listed = [
            {
                "id": each.executor_id,
                "distribution": each.distribution,
                "description": each.description,
                "command": each.command,
            }
            for each in missing
        ]
        write_json({"executors": listed, "installed": installed})
        return
    if missing:
        rows = [(each.executor_id, each.command, each.description) for each in missing]
        write_table(("executor_id", "install", "description"), rows)
    if installed:
        write_note(f"Installed already: {', '.join(installed)}. See `apflow executors list`.")
    elif not missing:
        write_note("No executor of apflow has these words. `apflow executors search` lists all.")
