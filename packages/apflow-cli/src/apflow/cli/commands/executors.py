"""`apflow executors`: what tasks can use."""

from __future__ import annotations

import json
from typing import Any

import click

from apflow.cli.inputs.completion import complete_executor
from apflow.cli.inputs.options import session_of, with_executors


@click.group()
def executors() -> None:
    """List and describe the executors that tasks can use."""


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
