"""`apflow db`: the database itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.options import finish, session_of, with_service, with_store

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.group()
def db() -> None:
    """Inspect the database, and upgrade its schema."""


@db.command()
@with_service
@click.pass_context
def info(ctx: click.Context) -> None:
    """Show where the database is, what it can do, and what is in it."""
    from apflow.cli.display.output import write_fields, write_json
    from apflow.cli.session.work import perform

    found = perform(ctx, lambda service: service.database())
    found = {"schema" if name == "tables_version" else name: value for name, value in found.items()}
    if session_of(ctx).is_json:
        write_json(found)
    else:
        write_fields(found | {"tasks": found["tasks"]["total"]} | found["tasks"]["by_status"])


@db.command()
@with_store
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Bring the tables up to date. Every command that opens the database does so, too."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform_here

    async def work(service: TaskService) -> dict[str, Any]:
        found = await service.database()
        return {"url": found["url"], "schema": found["tables_version"]}

    found = perform_here(ctx, work)
    if session_of(ctx).is_json:
        write_json(found)
    else:
        version = f" (schema version {found['schema']})" if found["schema"] is not None else ""
        write_line(f"{found['url']} is up to date{version}.")


@db.command("import")
@click.argument("source")
@click.option("--table", default="apflow_tasks", show_default=True, help="The table of tasks in SOURCE.")
@with_store
@click.pass_context
def import_(ctx: click.Context, source: str, table: str) -> None:
    """Copy the trees of a database of aipartnerupflow, which came before apflow, into this one.

    SOURCE is a DuckDB file or a PostgreSQL URL. It is only read. Trees that were copied before are left out,
    and no run is requested: `apflow tasks execute ID` continues unfinished trees.
    """
    from apflow.cli.display.output import write_fields, write_json
    from apflow.cli.session.work import perform_here

    async def work(service: TaskService) -> dict[str, Any]:
        from apflow.cli.session.database import read_source
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
