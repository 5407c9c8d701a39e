"""`apflow daemon`: a worker in the background, which survives the shell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.options import finish, session_of, with_output, with_runs

if TYPE_CHECKING:
    from apflow.cli.session.daemon_files import DaemonFiles


@click.group()
def daemon() -> None:
    """Run submitted trees in the background, in a process that survives the shell.

    A database has at most one daemon of this user on this machine. `apflow worker` is the same in the
    foreground, for service managers and containers.
    """


@daemon.command()
@with_runs
@click.pass_context
def start(ctx: click.Context) -> None:
    """Start the daemon, and return when it has opened the database. Does nothing if it runs already."""
    _start(ctx, session_of(ctx).modules)


@daemon.command()
@click.option("--force", is_flag=True, help="Kill the daemon if it does not end in time.")
@with_output
@click.pass_context
def stop(ctx: click.Context, force: bool) -> None:
    """Stop the daemon as SIGTERM does, and wait until it has ended.

    Running tasks have shutdown_timeout seconds to end. Trees that have not ended stay requested: the next
    daemon, worker or server continues them.
    """
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.daemon_control import stop_daemon

    stopped = stop_daemon(_files(), is_forced=force)
    if session_of(ctx).is_json:
        write_json({"stopped": stopped is not None, "pid": stopped.pid if stopped else None})
    else:
        write_line(
            f"The daemon (process {stopped.pid}) has ended." if stopped else "The daemon does not run."
        )


@daemon.command()
@click.option("--force", is_flag=True, help="Kill the daemon if it does not end in time.")
@with_runs
@click.pass_context
def restart(ctx: click.Context, force: bool) -> None:
    """Stop the daemon if it runs, and start it, with the modules that it had unless --import names others."""
    from apflow.cli.session.daemon_control import stop_daemon

    stopped = stop_daemon(_files(), is_forced=force)
    _start(ctx, session_of(ctx).modules or (stopped.modules if stopped else ()))


@daemon.command()
@with_output
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show whether the daemon runs. The exit status is 3 if it does not."""
    from dataclasses import asdict

    from apflow.cli.display.output import write_fields, write_json, write_line

    found = _files().read()
    if session_of(ctx).is_json:
        write_json({"running": found is not None, "daemon": asdict(found) if found else None})
    elif found is None:
        write_line("The daemon does not run. Start it: apflow daemon start")
    else:
        names = ("pid", "state", "since", "database", "log", "modules")
        write_fields({name: value for name, value in asdict(found).items() if name in names})
    if found is None:
        finish(ExitCode.NOT_FOUND)


@daemon.command()
@click.option(
    "-n", "--lines", type=click.IntRange(0, 1_000_000), default=100, show_default=True, help="Lines to show."
)
@click.option("-f", "--follow", is_flag=True, help="Continue with new lines until Ctrl-C.")
@with_output
def logs(lines: int, follow: bool) -> None:
    """Show the last lines of the log of the daemon, which may have ended."""
    from apflow.cli.display.output import write_line
    from apflow.cli.session.daemon_files import last_lines
    from apflow.cli.session.daemon_log import followed

    files = _files()
    if follow:
        for line in followed(files.log, lines):
            write_line(line)
            sys.stdout.flush()
        return
    for line in last_lines(files.log, lines, size=64 << 20):
        write_line(line)


@daemon.command(hidden=True)
@with_runs
@click.pass_context
def run(ctx: click.Context) -> None:
    """Be the daemon. `apflow daemon start` starts this."""
    from apflow.cli.session.daemon_process import run_daemon

    run_daemon(ctx)


def _start(ctx: click.Context, modules: tuple[str, ...]) -> None:
    from dataclasses import asdict

    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.daemon_control import start_daemon

    state, is_new = start_daemon(_files(), modules, session_of(ctx).wait_lock)
    if session_of(ctx).is_json:
        write_json({"started": is_new, "daemon": asdict(state)})
    else:
        how = "runs" if is_new else "runs already"
        write_line(f"The daemon {how} (process {state.pid}). Its log: {state.log}")


def _files() -> DaemonFiles:
    from apflow.cli.session.daemon_files import DaemonFiles
    from apflow.core.store.session import get_default_session

    return DaemonFiles(get_default_session())
