"""`apflow worker`: a process that runs what is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apflow.cli.inputs.options import with_runs

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.command()
@with_runs
@click.pass_context
def worker(ctx: click.Context) -> None:
    """Run the trees that are submitted to the database, until stopped.

    The worker also delivers events to webhooks, if apflow-server is installed.

    On SIGTERM, SIGHUP or Ctrl-C the worker stops claiming trees, waits up to shutdown_timeout for running
    tasks, releases the remaining trees so that other processes can continue them, and exits with status 0. A
    second signal ends it immediately; no stored data is lost.
    """
    from apflow.cli.session.work import perform_here
    from apflow.cli.session.worker import run_worker

    async def work(service: TaskService) -> None:
        said = f"Running what is submitted to {service.db.url}. SIGTERM or Ctrl-C ends this."
        await run_worker(service, lambda: click.echo(said, err=True))

    perform_here(ctx, work, is_service=True)
