"""The options that many commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import click

from apflow.cli.exitcode import ExitCode

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


@dataclass
class Session:
    """What was asked for about the command as a whole, wherever on the line it stood."""

    is_debug: bool = False
    is_json: bool = False
    wait_lock: float = 0.0
    modules: tuple[str, ...] = ()


def session_of(ctx: click.Context) -> Session:
    """Return the session of a command, made where a test calls the command alone."""
    return ctx.ensure_object(Session)


def finish(code: ExitCode) -> NoReturn:
    """End the command with an exit code."""
    raise click.exceptions.Exit(code)


def _keep(field: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(session_of(ctx), field, value)

    return keep


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_keep("is_debug"), help="Show the traceback of an error."
)
json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_keep("is_json"), help="Write JSON, stable, with schema_version."
)
wait_lock_option = click.option(
    "--wait-lock",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    expose_value=False,
    callback=_keep("wait_lock"),
    help="Wait so long for a database that another process holds.",
)
import_option = click.option(
    "--import",
    multiple=True,
    metavar="MODULE",
    expose_value=False,
    callback=_keep("modules"),
    help="Import a module that registers executors or hooks; repeatable. Also APFLOW_IMPORT.",
)


def with_output(command: Command) -> Command:
    """Add what every command takes."""
    return json_option(debug_option(command))


def with_store(command: Command) -> Command:
    """Add what a command takes that opens the database."""
    return wait_lock_option(with_output(command))


def with_runs(command: Command) -> Command:
    """Add what a command takes that runs trees, or names executors."""
    return import_option(with_store(command))
