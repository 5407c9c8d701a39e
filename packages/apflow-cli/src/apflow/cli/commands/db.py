"""`apflow db`: the database itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.commands.db_backup import backup
from apflow.cli.commands.db_export import export
from apflow.cli.commands.db_import import import_
from apflow.cli.commands.db_journal import checkpoint, discard_journal
from apflow.cli.commands.db_purge import purge, vacuum
from apflow.cli.commands.db_query import query
from apflow.cli.inputs.options import session_of, with_service, with_store

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.group()
def db() -> None:
    """Inspect, query, copy, export, import and clean the database."""


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
        journal = found["journal"] and f"{found['journal']['records']:,} records to apply"
        counts = {"tasks": found["tasks"]["total"]} | found["tasks"]["by_status"]
        write_fields(found | {"journal": journal} | counts)


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


for _command in (backup, checkpoint, discard_journal, export, import_, purge, query, vacuum):
    db.add_command(_command)
