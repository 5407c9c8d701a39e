"""`apflow db purge` and `apflow db vacuum`: keeping a database small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import session_of, with_service
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.times import Since

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

PER_CALL = 200  # trees that one request deletes, so that no request takes long


@click.command()
@parameter_option("tasks.purge", "older_than", "--older-than", metavar="SPAN", type=Since(), required=True)
@parameter_option("tasks.purge", "user_id", "-u", "--user-id", metavar="ID")
@parameter_option(
    "tasks.purge", "tags", "--tag", metavar="TAG", multiple=True, default=None, more="Repeatable."
)
@parameter_option("tasks.purge", "dry_run", "--dry-run", is_flag=True)
@with_service
@click.pass_context
def purge(
    ctx: click.Context, older_than: str, user_id: str | None, tags: tuple[str, ...], dry_run: bool
) -> None:
    """Delete trees that ended long ago, with everything that belongs to them.

    A tree has ended if each of its tasks has. The database may be in use: trees are deleted a few at a time.
    """
    from apflow.cli.display.names import counted
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        before = older_than
        total = {"trees": 0, "tasks": 0}
        while True:
            done = await service.purge(
                before, user_id=user_id, tags=list(tags), limit=PER_CALL, dry_run=dry_run
            )
            before = done["before"]  # the same for each request
            total = {name: number + done[name] for name, number in total.items()}
            if not done["has_more"]:
                return {**total, "dry_run": dry_run, "before": before}

    done = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json(done)
        return
    what = f"{counted(done['trees'], 'tree')} with {counted(done['tasks'], 'task')}"
    write_line(f"{what} would be deleted." if dry_run else f"Deleted {what}.")


@click.command()
@with_service
@click.pass_context
def vacuum(ctx: click.Context) -> None:
    """Return the space of deleted tasks to the system.

    A DuckDB file is replaced by a compact copy, and changes wait until that is done. PostgreSQL runs VACUUM,
    which makes the space available to new rows.
    """
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform

    done = perform(ctx, lambda service: service.vacuum())
    if session_of(ctx).is_json:
        write_json(done)
    else:
        write_line(f"{done['size_bytes_before']:,} bytes before, {done['size_bytes_after']:,} bytes after.")
