"""`apflow db export`: everything that a database contains, as JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apflow.cli.inputs.options import session_of, with_service

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.command()
@click.argument("file")
@with_service
@click.pass_context
def export(ctx: click.Context, file: str) -> None:
    """Write everything that the database contains to FILE, as JSON lines.

    FILE must not exist, and appears when it is complete. With the suffix .gz it is compressed; - is standard
    output. `apflow db import FILE` reads it, into DuckDB or PostgreSQL. The database may be in use: the
    export contains it as of one moment.
    """
    from apflow.cli.display.output import write_json, write_note
    from apflow.cli.session.export_file import (
        STANDARD,
        counts_text,
        folder_of,
        readable_database,
        written_export,
    )
    from apflow.cli.session.work import perform

    with written_export(file) as writer:

        async def work(service: TaskService) -> dict[str, int]:
            async with readable_database(service, folder_of(file)) as db:
                await db.export_to(writer)
            return writer.end()

        counts = perform(ctx, work)
    if session_of(ctx).is_json and file != STANDARD:
        write_json({"file": file, "rows": counts})
    else:
        write_note(f"Exported {counts_text(counts)}.")
