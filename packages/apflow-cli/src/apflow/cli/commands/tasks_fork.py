"""`apflow tasks fork`: a new tree that continues from chosen tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import with_service, with_task
from apflow.cli.inputs.parameter import parameter_option

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.command()
@with_task
@parameter_option(
    "tasks.fork", "from_task_ids", "--from", dest="chosen", metavar="TASK", multiple=True, more="Repeatable."
)
@click.option(
    "--set",
    "assignments",
    metavar="[TASK:]PATH=VALUE",
    multiple=True,
    help="Override one value, as in --set inputs.url=https://example.com or --set fetch:policy.timeout=60; "
    "VALUE is JSON, or else a string. TASK may be left out if one task runs again. Repeatable.",
)
@click.option("--edit", "is_edited", is_flag=True, help="Edit the fields of these tasks in $EDITOR, as JSON.")
@click.option("--dry-run", is_flag=True, help="Show the tasks that would be created, without creating them.")
@with_service
@click.pass_context
def fork(
    ctx: click.Context,
    task_id: str,
    chosen: tuple[str, ...],
    assignments: tuple[str, ...],
    is_edited: bool,
    dry_run: bool,
) -> None:
    """Copy the tree of a task, so that chosen tasks and what depends on them run again.

    Tasks that are not affected keep their results; tasks that have not completed run again. The original tree
    does not change. `apflow tasks execute ID` runs the new tree.
    """
    from apflow.cli.display.copied import write_copied
    from apflow.cli.inputs.overrides import edited, read_overrides
    from apflow.cli.session.work import perform
    from apflow.core.errors import NotFoundError

    async def work(service: TaskService) -> dict[str, Any]:
        task = await service.get(await service.find_id(task_id))
        root_id = str(task["root_id"])

        async def find(given: str) -> str:
            try:
                return await service.find_id(f"{root_id}/{given}")
            except NotFoundError:
                return await service.find_id(given)

        wanted = [await find(each) for each in chosen]
        again = wanted if task["parent_id"] is None else [str(task["id"]), *wanted]
        given = read_overrides(assignments, again[0] if len(again) == 1 else None)
        overrides = {await find(named): fields for named, fields in given.items()}
        if is_edited:
            named = list(dict.fromkeys([*again, *overrides]))
            overrides = edited([await service.get(each) for each in named], overrides)
        return await service.fork(task["id"], from_task_ids=wanted, overrides=overrides, save=not dry_run)

    write_copied(ctx, perform(ctx, work), dry_run=dry_run)
