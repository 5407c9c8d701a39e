"""`apflow db checkpoint` and `apflow db discard-journal`: the journal of a DuckDB database."""

from __future__ import annotations

import click

from apflow.cli.inputs.options import session_of, with_output, with_service


@click.command()
@with_service
@click.pass_context
def checkpoint(ctx: click.Context) -> None:
    """Write everything into the file of a DuckDB database.

    Applies the journal, and writes the write-ahead log into the file. The database may be in use.
    """
    from apflow.cli.display.names import counted
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform

    done = perform(ctx, lambda service: service.checkpoint())
    if session_of(ctx).is_json:
        write_json(done)
    else:
        applied = counted(done["records_applied"], "record")
        write_line(f"Applied {applied} of the journal. The file has {done['size_bytes']:,} bytes.")


@click.command("discard-journal")
@with_output
@click.pass_context
def discard_journal(ctx: click.Context) -> None:
    """Open a DuckDB database without its journal, which is lost or damaged.

    For a database that cannot be opened because its journal is missing, is damaged, or belongs to another
    file. Changes that only the journal has are then missing. The journal is renamed, not deleted. No process
    may have the database open. A journal that can be applied is applied, as by any other command.
    """
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform_unopened

    kept = perform_unopened(ctx, lambda db: db.discard_journal())
    if session_of(ctx).is_json:
        write_json({"journal": None if kept is None else str(kept)})
    elif kept is None:
        write_line("The database can be opened. No journal was discarded.")
    else:
        write_line(f"The database can be opened. Its journal is {kept} now.")
