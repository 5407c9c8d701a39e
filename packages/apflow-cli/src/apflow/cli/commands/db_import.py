"""`apflow db import`: exports of apflow, and databases of the system before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.options import finish, session_of, with_store

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.command("import")
@click.argument("source")
@click.option(
    "--table",
    default="apflow_tasks",
    show_default=True,
    help="The table of tasks in SOURCE, if it is a database of aipartnerupflow.",
)
@with_store
@click.pass_context
def import_(ctx: click.Context, source: str, table: str) -> None:
    """Add the contents of SOURCE to the database.

    SOURCE is a file that `apflow db export` has written, or - for standard input. All of it is imported or,
    if a line is invalid or a task exists already, nothing. Trees whose run was requested, and had not ended,
    continue when a worker or a server finds them.

    SOURCE can also be a database of aipartnerupflow, which came before apflow: a DuckDB file or a PostgreSQL
    URL. It is only read. Trees that were copied before are left out, and no run is requested: `apflow tasks
    execute ID` continues unfinished trees.
    """
    from apflow.cli.session.export_file import is_export

    if is_export(source):
        _import_export(ctx, source)
    else:
        _import_former(ctx, source, table)


def _import_export(ctx: click.Context, source: str) -> None:
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.export_file import counts_text, opened_export
    from apflow.cli.session.work import perform_here

    with opened_export(source) as reader:
        perform_here(ctx, lambda service: service.db.import_from(reader))
    counts = {str(kind): count for kind, count in reader.counts.items()}
    if session_of(ctx).is_json:
        write_json({"rows": counts})
    else:
        write_line(f"Imported {counts_text(counts)}.")


def _import_former(ctx: click.Context, source: str, table: str) -> None:
    from apflow.cli.display.output import write_fields, write_json
    from apflow.cli.session.work import perform_here

    async def work(service: TaskService) -> dict[str, Any]:
        from apflow.cli.session.former_database import read_source
        from apflow.core.authoring.former_task import import_rows

        return (await import_rows(service.db, await read_source(source, table))).to_dict()

    found = perform_here(ctx, work)
    if session_of(ctx).is_json:
        write_json(found)
    else:
        shown = {name: len(found[name]) for name in ("skipped", "refused")}
        write_fields({name: found[name] for name in ("trees", "tasks")} | shown)
    for root_id, why in found["refused"].items():
        click.echo(f"Tree {root_id} is not copied: {why}", err=True)
    if found["ignored_columns"]:
        columns = ", ".join(found["ignored_columns"])
        click.echo(
            f"Columns that are not copied: {columns}. Name their class in APFLOW_TASK_MODEL_CLASS.", err=True
        )
    if found["refused"]:
        finish(ExitCode.FAILED)
