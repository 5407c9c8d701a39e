"""The program: its commands, found by entry-point name, and the border where errors become exit codes.

Nothing but click is imported before a command is called, so `--version` and `--help` cost what Python and
click cost.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.options import Session, debug_option
from apflow.cli.release import VERSION

if TYPE_CHECKING:
    from apflow.core.plugins import PluginInfo

COMMANDS = "apflow.commands"

# Shown by `--help` without loading the commands; a test holds them equal to what the commands say.
SHORT_HELP = {
    "config": "Show and change settings, and make tokens for a server.",
    "db": "Look at the database, and bring it up to date.",
    "doctor": "Check the installation: plugins, settings, the database.",
    "executors": "List and describe the executors that tasks can use.",
    "run": "Run trees of tasks.",
    "tasks": "List, inspect, run, cancel, copy and delete stored tasks.",
    "version": "Show the versions of everything installed.",
    "worker": "Run the trees that are submitted to the database, until told to stop.",
}


class Program(click.Group):
    """Commands of this and other distributions, loaded only when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        from apflow.core import plugins

        return sorted(plugins.names(COMMANDS))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        from apflow.core import plugins

        if plugins.find(COMMANDS, cmd_name) is None:
            return None
        command = plugins.load(COMMANDS, cmd_name)
        if not isinstance(command, click.Command):
            raise click.ClickException(
                f"The command {cmd_name!r} is no click command but a {type(command).__name__}."
            )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        from apflow.core import plugins

        rows = [
            (each.name, short_help(each)) for each in sorted(plugins.listing(COMMANDS), key=lambda p: p.name)
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> None:
        try:
            try:
                super().invoke(ctx)  # what a command returns is no exit code: `finish` is
            finally:
                sys.stdout.flush()
        except BrokenPipeError:  # click would end with 1, as if a task had failed
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at exit
            raise click.exceptions.Exit(ExitCode.CLOSED_PIPE) from None


def short_help(command: PluginInfo) -> str:
    """Return one line on a command, without importing it."""
    if command.distribution == "apflow-cli" and command.name in SHORT_HELP:
        return SHORT_HELP[command.name]
    return f"From {command.distribution} {command.version}."


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="apflow", message="%(prog)s %(version)s")
@debug_option
def program() -> None:
    """Run trees of tasks: in parallel, with dependencies, durably.

    Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 a task failed,
    2 usage or invalid input, 3 not found, 4 refused, 5 store locked or unreachable, 6 timeout, 7 cancelled,
    129 or 143 ended by a signal, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    session = Session()
    args = None if arguments is None else list(arguments)
    try:
        code = program.main(args=args, prog_name="apflow", standalone_mode=False, obj=session)
    except click.ClickException as error:
        from apflow.cli.display.output import write_note  # here: `--help` imports nothing of the core

        shown = io.StringIO()
        error.show(shown)  # it may repeat the contents of a file
        write_note(shown.getvalue().rstrip("\n"))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001  the program's border
        return report(error, is_debug=session.is_debug)
    return code if isinstance(code, int) else ExitCode.DONE


def report(error: Exception, *, is_debug: bool) -> int:
    """Tell what went wrong on standard error and return the exit code for it."""
    from apflow.cli.display.output import write_note
    from apflow.cli.errors.failure import describe, exit_code_of

    if is_debug:
        import traceback

        write_note("".join(traceback.format_exception(error)).rstrip())
    write_note(describe(error))
    return exit_code_of(error)
