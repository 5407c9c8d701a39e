"""The options that many commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from apflow.cli.inputs.completion import complete_server, complete_task
from apflow.core.bounds import MAX_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


class Number(click.FloatRange):
    """A number within bounds. Not a number (`nan`) is outside of all bounds."""

    noun = "a number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not {self.noun}.", param, ctx)
        return number


class Seconds(Number):
    """A number of seconds within bounds."""

    noun = "a number of seconds"


@dataclass
class Session:
    """What was asked for about the command as a whole, wherever on the line it stood."""

    is_debug: bool = False
    is_json: bool = False
    wait_lock: float = 0.0
    modules: tuple[str, ...] = ()
    server: str = ""
    format: str = "table"

    @property
    def is_for_people(self) -> bool:
        """Whether the output is a table, and not JSON, YAML or ids."""
        return not self.is_json and self.format in ("table", "wide")


def session_of(ctx: click.Context) -> Session:
    """Return the session of a command, made where a test calls the command alone."""
    return ctx.ensure_object(Session)


def finish(code: int) -> NoReturn:
    """End the command with an exit code."""
    raise click.exceptions.Exit(code)


def _keep(field: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def keep(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(session_of(ctx), field, value)

    return keep


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_keep("is_debug"),
    help="Show the traceback of errors.",
)
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_keep("is_json"),
    help="Write stable JSON with a schema_version.",
)
format_option = click.option(
    "-o",
    "--format",
    type=click.Choice(["table", "wide", "json", "yaml", "id"]),
    expose_value=False,
    callback=_keep("format"),
    help="How to show what is found; wide has more columns, and id only the IDs, one per line.",
)
wait_lock_option = click.option(
    "--wait-lock",
    type=Seconds(min=0, max=MAX_SECONDS),
    metavar="SECONDS",
    expose_value=False,
    callback=_keep("wait_lock"),
    help="Time to wait for a database that another process holds.",
)
server_option = click.option(
    "--server",
    metavar="URL",
    expose_value=False,
    callback=_keep("server"),
    shell_complete=complete_server,
    help="Send requests to this server instead of a database. Also APFLOW_API_URL.",
)
import_option = click.option(
    "--import",
    multiple=True,
    metavar="MODULE",
    expose_value=False,
    callback=_keep("modules"),
    help="Import a module that registers executors or hooks; repeatable. Also APFLOW_IMPORT.",
)
set_option = click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of a parameter that the file declares; repeatable.",
)


def with_output(command: Command) -> Command:
    """Add what every command takes."""
    return json_option(debug_option(command))


def with_store(command: Command) -> Command:
    """Add what a command takes that opens the database."""
    return wait_lock_option(with_output(command))


def with_service(command: Command) -> Command:
    """Add what a command takes whose work is done on the database, here or by a server."""
    return server_option(with_store(command))


def with_list(command: Command) -> Command:
    """Add what a command takes that lists tasks of the database."""
    return format_option(with_service(command))


def with_executors(command: Command) -> Command:
    """Add what a command takes that names executors, and opens no database."""
    return server_option(import_option(with_output(command)))


def with_runs(command: Command) -> Command:
    """Add what a command takes that runs trees."""
    return import_option(with_store(command))


def with_outcome(command: Command) -> Command:
    """Add the options of a command that runs one tree and shows its result."""
    from pathlib import Path  # here: `--help` of the program needs no paths

    output = click.option(
        "--output",
        "-o",
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        callback=_check_folder,
        help="Also write the outcome to a file, as JSON.",
    )
    timeout = click.option(
        "--timeout",
        type=Seconds(min=0, max=MAX_SECONDS, min_open=True),
        metavar="SECONDS",
        help="Cancel the run after this time.",
    )
    return output(timeout(server_option(with_runs(command))))


def _check_folder(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and not path.absolute().parent.is_dir():
        raise click.BadParameter(
            f"Directory {path.absolute().parent} does not exist; create it first.", ctx, parameter
        )
    return path


def with_task(command: Command) -> Command:
    """Add the argument of a command about one task."""
    return click.argument("task_id", metavar="ID", shell_complete=complete_task)(command)


def with_tasks(command: Command) -> Command:
    """Add the argument of a command about one or more tasks."""
    ids = click.argument("task_ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_task)
    return ids(command)
