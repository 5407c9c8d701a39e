"""`apflow db`: the database itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.options import session_of, with_store

if TYPE_CHECKING:
    from apflow.core.service import TaskService


@click.group()
def db() -> None:
    """Look at the database, and bring it up to date."""


@db.command()
@with_store
@click.pass_context
def info(ctx: click.Context) -> None:
    """Show where the database is, what it can do, and what is in it."""
    from apflow.cli.output import write_fields, write_json
    from apflow.cli.work import perform_here

    async def work(service: TaskService) -> dict[str, Any]:
        from apflow.cli.database import describe

        return await describe(service)

    found = perform_here(ctx, work)
    if session_of(ctx).is_json:
        write_json(found)
    else:
        write_fields(found | {"tasks": found["tasks"]["total"]} | found["tasks"]["by_status"])


@db.command()
@with_store
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Bring the tables up to date. Every command that opens the database does so, too."""
    from apflow.cli.output import write_json, write_line
    from apflow.cli.work import perform_here

    async def work(service: TaskService) -> dict[str, Any]:
        from apflow.cli.database import schema_version, shown_url

        return {"url": shown_url(service.db.url), "schema": schema_version(service.db)}

    found = perform_here(ctx, work)
    if session_of(ctx).is_json:
        write_json(found)
    else:
        version = f" (schema version {found['schema']})" if found["schema"] is not None else ""
        write_line(f"{found['url']} is up to date{version}.")
