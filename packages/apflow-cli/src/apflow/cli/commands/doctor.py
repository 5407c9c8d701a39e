"""`apflow doctor`: loads everything that is installed, opens the database, and reports."""

from __future__ import annotations

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.options import finish, session_of, with_runs


@click.command()
@with_runs
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check the installation: files, plugins, settings, the database and the secrets that its tasks name."""
    from apflow.cli.commands.doctor_checks import examine
    from apflow.cli.display.output import write_json, write_table

    found = examine(session_of(ctx))
    if session_of(ctx).is_json:
        write_json({"checks": [each.to_dict() for each in found]})
    else:
        write_table(("check", "result", "detail"), [[each.name, each.result, each.detail] for each in found])
    finish(ExitCode.DONE if all(each.is_good for each in found) else ExitCode.FAILED)
