"""`apflow stats`: durations, failure rates, retries, spend, and the slowest tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import session_of, with_service
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.times import Since

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

FIGURES = (
    "tasks", "completed", "failed", "cancelled", "skipped", "failure_rate", "retries", "seconds",
    "p50_seconds", "p95_seconds", "max_seconds", "calls", "input_tokens", "output_tokens", "cost_usd",
)  # fmt: skip


@click.command()
@parameter_option("tasks.stats", "group_by", "--by")
@parameter_option("tasks.stats", "since", "--since", metavar="SPAN", type=Since())
@parameter_option("tasks.stats", "until", "--until", metavar="SPAN", type=Since())
@parameter_option("tasks.stats", "user_id", "-u", "--user-id", metavar="ID")
@parameter_option("tasks.stats", "name", "--name")
@parameter_option("tasks.stats", "executor", "--executor", metavar="ID")
@parameter_option("tasks.stats", "label", "--label", metavar="TEXT")
@parameter_option(
    "tasks.stats", "tags", "--tag", metavar="TAG", multiple=True, default=None, more="Repeatable."
)
@parameter_option("tasks.stats", "limit", "-l", "--limit")
@parameter_option("tasks.stats", "slowest", "--slowest")
@click.option(
    "-o",
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How to show the figures; csv has the groups with all figures, without the slowest tasks.",
)
@with_service
@click.pass_context
def stats(ctx: click.Context, /, form: str, tags: tuple[str, ...], **options: Any) -> None:
    """Sum up tasks that have ended: durations, failures, retries, what models used, and the slowest tasks.

    A duration is the time from the start of the first attempt to the end. Groups of tasks run nothing and are
    left out.
    """
    from apflow.cli.display.output import write_json
    from apflow.cli.display.statistics import write_statistics
    from apflow.cli.display.tabular import write_csv
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> Mapping[str, Any]:
        return await service.stats(**options, tags=list(tags))

    found = perform(ctx, work)
    match "json" if session_of(ctx).is_json else form:
        case "json":
            write_json(found)
        case "csv":
            rows = ([each["group"], *(each[name] for name in FIGURES)] for each in found["groups"])
            write_csv((found["group_by"], *FIGURES), rows)
        case _:
            write_statistics(found)
