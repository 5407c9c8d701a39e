"""`apflow tasks budget` and `apflow tasks usage`: what language models may use, and have used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import Number, session_of, with_service, with_task
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.times import UtcTime
from apflow.core.bounds import MAX_BUDGET

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

COLUMNS = ("calls", "input_tokens", "output_tokens", "cost_usd", "seconds")


@click.command()
@with_task
@parameter_option("tasks.budget", "usd", "--usd", type=Number(min=0, max=MAX_BUDGET))
@parameter_option("tasks.budget", "tokens", "--tokens")
@parameter_option("tasks.budget", "calls", "--calls")
@parameter_option("tasks.budget", "seconds", "--seconds", type=Number(min=0, max=MAX_BUDGET))
@parameter_option("tasks.budget", "on_exceed", "--on-exceed")
@with_service
@click.pass_context
def budget(ctx: click.Context, /, task_id: str, **limits: Any) -> None:
    """Show the budget of a task for calls of language models, and what is spent of it; change its limits.

    A new limit applies at once, also while the task runs.
    """
    from apflow.cli.display.output import write_json, write_line, write_table
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.budget(await service.find_id(task_id), **limits)

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"budget": found})
        return
    names = ("limits", "spent", "reserved", "lost", "left")
    write_table(
        ("amount", "limit", *names[1:]),
        [[amount, *(found[name].get(amount) for name in names)] for amount in found["spent"]],
    )
    write_line(
        f"A call without room {_DOES[found['on_exceed']]}. Calls that are being made: {found['open_calls']}."
    )


_DOES = {"fail": "fails", "wait": "waits until the budget is raised"}


@click.command()
@click.argument("task_id", metavar="[ID]", required=False)
@parameter_option("tasks.usage", "user_id", "-u", "--user-id", metavar="ID")
@parameter_option("tasks.usage", "since", "--since", type=UtcTime(), more="In UTC.")
@parameter_option("tasks.usage", "group_by", "--by")
@with_service
@click.pass_context
def usage(ctx: click.Context, /, task_id: str | None, since: Any, group_by: Any, **options: Any) -> None:
    """Show what the calls of language models used: of a task with everything below it, or of all tasks."""
    from apflow.cli.display.output import write_json, write_table
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.usage(
            None if task_id is None else await service.find_id(task_id),
            since=since,
            group_by=group_by,
            **options,
        )

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"usage": found})
        return
    name = "model" if group_by == "model" else f"{group_by}_id"
    rows = [[each[name], *_shown(each)] for each in found["groups"]]
    write_table((name, *COLUMNS), [*rows, ["total", *_shown(found["total"])]])


def _shown(totals: Mapping[str, Any]) -> list[Any]:
    cost = f"{totals['cost_usd']:.6f}" + (" +" if totals["unpriced_calls"] else "")
    return [totals["calls"], totals["input_tokens"], totals["output_tokens"], cost, totals["seconds"]]
