"""The program: finds commands by entry-point name, and turns errors into exit codes.

Only click is imported before a command is called, so that `--version` and `--help` start quickly.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.options import Session, debug_option
from apflow.cli.release import VERSION

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMPLETION = "_APFLOW_COMPLETE"  # a variable with which a shell asks for completions
COMMANDS = "apflow.commands"
# The group whose entry points describe commands: the name is the summary, the target is that of the command.
SUMMARIES = "apflow.command_summaries"


class Program(click.Group):
    """Commands of this and other distributions, loaded only when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        from apflow.core import plugins

        return sorted(plugins.names(COMMANDS))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        from apflow.core import plugins

        if not plugins.is_offered(COMMANDS, cmd_name):
            return None
        command = plugins.load(COMMANDS, cmd_name)
        if not isinstance(command, click.Command):
            raise click.ClickException(
                f"The command {cmd_name!r} must be a click command, not a {type(command).__name__}."
            )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        rows = _summaries()
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands, which are not loaded for that."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=summary)
            for name, summary in _summaries()
            if name.startswith(incomplete)
        ]

    def invoke(self, ctx: click.Context) -> None:
        try:
            try:
                super().invoke(ctx)  # a command's return value is not an exit code
            finally:
                sys.stdout.flush()
        except BrokenPipeError:  # click would end with 1, as if a task had failed
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at exit
            raise click.exceptions.Exit(ExitCode.CLOSED_PIPE) from None


def _summaries() -> list[tuple[str, str]]:
    """Return the names of the commands, sorted, each with its summary."""
    from apflow.core import plugins

    summaries = plugins.names_by_target(SUMMARIES)
    return [
        (name, summaries.get(target) or _origin(name, target)) for name, target in plugins.targets(COMMANDS)
    ]


def _origin(name: str, target: str) -> str:
    """Return which distribution brings a command that has no summary."""
    from apflow.core import plugins

    owners = [each for each in plugins.listing(COMMANDS) if (each.name, each.value) == (name, target)]
    return f"From {owners[0].distribution} {owners[0].version}."


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
    is_completing = COMPLETION in os.environ
    if is_completing:
        warnings.simplefilter("ignore")  # they would be printed into the line that is being typed
    args = None if arguments is None else list(arguments)
    try:
        code = program.main(args=args, prog_name="apflow", standalone_mode=False, obj=session)
    except click.ClickException as error:
        from apflow.cli.display.output import write_note  # here: `--help` imports nothing of the core
        from apflow.cli.errors.usage import with_suggestion

        shown = io.StringIO()
        with_suggestion(error).show(shown)  # it may repeat the contents of a file
        write_note(shown.getvalue().rstrip("\n"))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001  the program's border
        if is_completing:
            return ExitCode.FAILED
        return report(error, is_debug=session.is_debug)
    return code if isinstance(code, int) else ExitCode.DONE


def report(error: Exception, *, is_debug: bool) -> int:
    """Print the error to standard error and return its exit code."""
    from apflow.cli.display.output import write_note
    from apflow.cli.errors.failure import describe, exit_code_of

    if is_debug:
        import traceback

        write_note("".join(traceback.format_exception(error)).rstrip(), wraps=False)
    write_note(describe(error))
    return exit_code_of(error)
