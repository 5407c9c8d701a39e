"""The command `apflow serve`, also installed as the program `apflow-server`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apflow.core.bounds import MAX_COUNT

if TYPE_CHECKING:
    from apflow.core.settings import Settings

PROTOCOLS = ("jsonrpc", "json-rpc", "a2a", "mcp", "rest")


def _check_protocol(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Refuse protocols that the server does not support. It serves all the others at once."""
    if value is not None and value.lower() not in PROTOCOLS:
        raise click.BadParameter(
            f"{value!r} is not supported. The server speaks {', '.join(PROTOCOLS)}: omit the option.",
            ctx,
            parameter,
        )


@click.command()
@click.argument("action", type=click.Choice(["start"]), required=False)
@click.option("--host", metavar="HOST", help="Address to listen on. Default: APFLOW_BIND, or 127.0.0.1.")
@click.option(
    "-p", "--port", type=click.IntRange(0, 65535), metavar="PORT", help="Port to listen on. Default: 8000."
)
@click.option(
    "-w", "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of processes."
)
@click.option(
    "--reload", is_flag=True, help="Restart when a Python file below the current directory changes."
)
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import a module that registers executors or hooks; repeatable. Also APFLOW_IMPORT.",
)
@click.option(
    "--protocol",
    callback=_check_protocol,
    expose_value=False,
    metavar="NAME",
    help="A protocol of clients: jsonrpc, a2a, mcp or rest. The server speaks all of them in any case.",
)
@click.option("--insecure", is_flag=True, help="Allow access from other machines without authentication.")
@click.option(
    "--fd",
    type=click.IntRange(0, MAX_COUNT),
    hidden=True,
    help="File descriptor of a bound socket, inherited from the parent process.",
)
@click.option(
    "--parent",
    type=click.IntRange(0, MAX_COUNT),
    hidden=True,
    help="File descriptor of a pipe that closes when the parent process exits.",
)
def serve(
    action: str | None,  # noqa: ARG001 - `serve` and `serve start` are the same
    host: str | None,
    port: int | None,
    workers: int,
    reload: bool,
    modules: tuple[str, ...],
    insecure: bool,
    fd: int | None,
    parent: int | None,
) -> None:
    """Serve the database over HTTP and run submitted trees.

    On SIGTERM, SIGHUP or Ctrl-C the server stops accepting trees, waits up to shutdown_timeout for running
    tasks, releases the remaining trees so that other processes can continue them, and exits with status 0. A
    second signal ends it immediately; no stored data is lost.
    """
    from apflow.server.process.start import Start, start

    settings = settings_with(modules, is_insecure=insecure)
    start(settings, Start(host=host, port=port, workers=workers, has_reload=reload, fd=fd, parent=parent))


def settings_with(modules: tuple[str, ...], *, is_insecure: bool = False) -> Settings:
    """Return the settings, with what the command line says beside them, for processes below this one too."""
    import os

    from apflow.core.settings import get_settings, reset_settings

    if modules:
        os.environ["APFLOW_IMPORT"] = ",".join(dict.fromkeys([*get_settings().import_modules, *modules]))
    if is_insecure:
        os.environ["APFLOW_INSECURE"] = "true"
    reset_settings()
    return get_settings()


def main() -> int:
    """Run the server as a program and return its exit code."""
    from apflow.core.errors import ApflowError, InvalidInputError, StoreError

    try:
        code = serve.main(prog_name="apflow-server", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except ApflowError as error:
        click.echo(f"Error: {error}", err=True)
        return 2 if isinstance(error, InvalidInputError) else 5 if isinstance(error, StoreError) else 1
    return code if isinstance(code, int) else 0
