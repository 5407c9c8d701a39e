"""`apflow workers`: the processes that run what is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apflow.cli.inputs.options import session_of, with_list

if TYPE_CHECKING:
    from apflow.core.model.task import Json


@click.command()
@with_list
@click.pass_context
def workers(ctx: click.Context) -> None:
    """List the processes that run what is submitted to the database.

    On a DuckDB database, that is at most the process that holds it. A worker that has not reported for a
    minute is lost: it was killed, or cannot reach the database.
    """
    import sys

    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.display.output import write_note, write_table
    from apflow.cli.display.times import age
    from apflow.cli.session.place import place_of
    from apflow.cli.session.work import perform
    from apflow.core.model.task import utc_now

    found = perform(ctx, lambda service: service.workers())
    if not write_as_asked(ctx, {"workers": found}, (each["id"] for each in found)):
        is_terminal, now = sys.stdout.isatty(), utc_now()
        up = "up" if is_terminal else "started_at"
        columns = ("host", "pid", "status", "trees", "calls", "offers", up, "version")
        values = [each | {"up": age(each["started_at"], now), "offers": _offers(each)} for each in found]
        if found or not is_terminal:
            write_table(columns, [[each[column] for column in columns] for each in values])
        if not found:
            write_note(
                f"No worker runs what is submitted to {place_of(session_of(ctx))}. "
                "`apflow worker` or `apflow serve` starts one."
            )


def _offers(report: dict[str, Json]) -> str:
    """Return the resources and labels that a worker offers to calls, as they are written in settings."""
    amounts: dict[str, float] = report["resources"]
    labels: dict[str, str] = report["labels"]
    shown = [f"{name}={amount:g}" for name, amount in amounts.items()]
    return ",".join([*shown, *(f"{name}={value}" for name, value in labels.items())])
