"""`apflow mcp`: the Model Context Protocol over standard input and output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apflow.cli.inputs.options import import_option, with_service

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.group()
def mcp() -> None:
    """Serve the database to clients of the Model Context Protocol."""


@mcp.command()
@import_option
@with_service
@click.option(
    "--tools",
    metavar="LIST",
    default="",
    help="The tools to offer, with commas between them: profiles (default, read, operations, executors, "
    "all), names such as tasks_get or run_rest_executor, or patterns such as 'tasks_*'. "
    "Also APFLOW_MCP_TOOLS.",
)
@click.pass_context
def serve(ctx: click.Context, tools: str) -> None:
    """Serve one MCP client at standard input and output, until its input ends.

    The client starts this command by itself; see the configuration examples in the documentation. The
    command uses the server that is named, or the process that holds the database; otherwise it opens the
    database and runs the submitted trees, too. Its log goes to standard error.
    """
    from apflow.cli.session.mcp import load_stdio, serve_client
    from apflow.cli.session.work import perform
    from apflow.core.settings import get_settings

    chosen = tuple(each.strip() for each in tools.split(",") if each.strip()) or get_settings().mcp_tools
    stdio = load_stdio()
    stdio.check(chosen)

    with stdio.claimed() as wire:  # before modules are imported, which may print

        async def work(service: TaskService) -> None:
            await serve_client(lambda own, ending: stdio.serve(wire, own, chosen, ending), service)

        perform(ctx, work)
