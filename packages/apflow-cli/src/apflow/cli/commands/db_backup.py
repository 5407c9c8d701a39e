"""`apflow db backup`: a copy of a DuckDB database that is in use."""

from __future__ import annotations

from pathlib import Path

import click

from apflow.cli.inputs.options import session_of, with_service


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@with_service
@click.pass_context
def backup(ctx: click.Context, file: Path) -> None:
    """Write a consistent copy of the database to FILE, a new DuckDB file.

    The database may be in use: the process that holds it, or the server, makes the copy and continues to
    work. The copy contains the database as of one moment. Its permissions are 0600. For PostgreSQL, use
    pg_dump, or `apflow db export`.
    """
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform
    from apflow.core.process.new_file import check_absent

    path = file.expanduser().absolute()
    check_absent(path)
    perform(ctx, lambda service: service.backup(path))
    size = path.stat().st_size
    if session_of(ctx).is_json:
        write_json({"file": str(path), "size_bytes": size})
    else:
        write_line(f"{path} has a copy of the database ({size:,} bytes).")
