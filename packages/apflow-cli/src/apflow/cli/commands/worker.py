"""`apflow worker`: a process that runs what is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apflow.cli.inputs.options import with_runs

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.command()
@click.option(
    "--resources",
    metavar="NAME=AMOUNT,...",
    help="What the worker has for calls that need it, such as gpu=2. Default: APFLOW_WORKER_RESOURCES.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the worker is, for calls that need it, such as zone=eu. Default: APFLOW_WORKER_LABELS.",
)
@click.option(
    "--executors",
    metavar="ID,...",
    help="The executors that it calls for other processes. Default: APFLOW_WORKER_EXECUTORS, or all.",
)
@with_runs
@click.pass_context
def worker(
    ctx: click.Context,
    resources: str | None,
    labels: tuple[str, ...],
    executors: str | None,
) -> None:
    """Run the trees that are submitted to the database, until stopped.

    On PostgreSQL, the worker also calls executors for other processes: those that the process which runs a
    tree does not have, and those of tasks with `resources` that the worker offers.

    The worker also delivers events to webhooks, if apflow-server is installed.

    On SIGTERM, SIGHUP or Ctrl-C the worker stops claiming trees, waits up to shutdown_timeout for running
    tasks, releases the remaining trees so that other processes can continue them, and exits with status 0. A
    second signal ends it immediately; no stored data is lost.
    """
    from apflow.cli.session.work import perform_here
    from apflow.cli.session.worker import run_worker

    offered = {
        "--resources": ("worker_resources", resources),
        "--label": ("worker_labels", ",".join(labels) or None),
        "--executors": ("worker_executors", executors),
    }

    async def work(service: TaskService) -> None:
        said = f"Running what is submitted to {service.db.url}. SIGTERM or Ctrl-C ends this."
        await run_worker(service, lambda: click.echo(said, err=True), offered)

    perform_here(ctx, work, is_service=True)
