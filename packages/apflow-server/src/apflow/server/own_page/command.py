"""The command `apflow ui`."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Port to listen on, at 127.0.0.1. Default: a free one.",
)
@click.option("--no-open", is_flag=True, help="Print the address instead of opening a browser.")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import a module that registers executors or hooks; repeatable. Also APFLOW_IMPORT.",
)
def ui(port: int, no_open: bool, modules: tuple[str, ...]) -> None:
    """Open the page of the database in a browser: see and steer every tree.

    Serves the database at 127.0.0.1 until Ctrl-C, for this browser only: the address has a token that is
    valid once. Meanwhile it runs submitted trees, and other commands work as before. If another process
    holds the database and has a page, that page is opened instead.
    """
    from apflow.server.command import settings_with
    from apflow.server.own_page.opening import open_page

    open_page(settings_with(modules), port, has_browser=not no_open)
