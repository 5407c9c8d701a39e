"""The commands of `apflow tasks` that change what is stored: cancel, copy, delete, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.commands.tasks_fork import fork
from apflow.cli.commands.tasks_logs import logs
from apflow.cli.commands.tasks_watch import watch
from apflow.cli.commands.tasks_write import create, update
from apflow.cli.errors.exit_code import OF_STATUS, ExitCode
from apflow.cli.inputs.options import (
    finish,
    server_option,
    session_of,
    with_runs,
    with_service,
    with_task,
    with_tasks,
)
from apflow.cli.inputs.parameter import parameter_option

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.command()
@with_tasks
@parameter_option("tasks.cancel", "force", "-f", "--force", is_flag=True)
@parameter_option("tasks.cancel", "error_message", "--message", metavar="TEXT")
@with_service
@click.pass_context
def cancel(ctx: click.Context, task_ids: tuple[str, ...], force: bool, error_message: str | None) -> None:
    """Cancel tasks, with their descendants and the tasks that need them."""
    from apflow.cli.display.output import write_json, write_table
    from apflow.cli.session.work import check_found, ids_as_given, perform

    async def work(service: TaskService) -> list[dict[str, Any]]:
        named = await ids_as_given(service, task_ids)
        return await service.cancel(named, force=force, error_message=error_message)

    found = perform(ctx, work)
    check_found(found)
    if session_of(ctx).is_json:
        write_json({"tasks": found})
    else:
        write_table(
            ("task_id", "status", "message"),
            [[each["task_id"], each["status"], each.get("message")] for each in found],
        )
    statuses = {each["status"] for each in found}
    if "not_found" in statuses:
        finish(ExitCode.NOT_FOUND)
    if "failed" in statuses:
        finish(ExitCode.REFUSED)


@click.command()
@with_task
@parameter_option("tasks.delete", "force", "-f", "--force", is_flag=True)
@with_service
@click.pass_context
def delete(ctx: click.Context, task_id: str, force: bool) -> None:
    """Delete a task and its descendants. Without --force, all of them must be pending."""
    from apflow.cli.display.names import counted
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.delete(await service.find_id(task_id), force=force)

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json(found)
    else:
        write_line(f"Deleted {counted(found['deleted_count'], 'task')}.")


@click.command()
@with_task
@parameter_option("tasks.copy", "children", "--children/--no-children", default=None)
@parameter_option("tasks.copy", "copy_mode", "--mode", "--copy-mode")
@parameter_option(
    "tasks.copy", "custom_task_ids", "--task", dest="chosen", metavar="ID", multiple=True, more="Repeatable."
)
@parameter_option("tasks.copy", "reset_fields", "--reset", metavar="FIELD", multiple=True, more="Repeatable.")
@click.option("--custom-task-ids", metavar="IDS", help="Like --task: several IDs, separated by commas.")
@parameter_option("tasks.copy", "custom_include_children", "--custom-include-children", is_flag=True)
@click.option(
    "--reset-fields",
    "reset_list",
    metavar="FIELDS",
    help="Like --reset: several fields, separated by commas.",
)
@click.option("--dry-run", is_flag=True, help="Show the tasks that would be created, without creating them.")
@with_service
@click.pass_context
def copy(
    ctx: click.Context,
    task_id: str,
    children: bool | None,
    copy_mode: Any,
    chosen: tuple[str, ...],
    reset_fields: tuple[str, ...],
    custom_task_ids: str | None,
    custom_include_children: bool,
    reset_list: str | None,
    dry_run: bool,
) -> None:
    """Copy a task into a new tree, ready to run."""
    from apflow.cli.display.copied import write_copied
    from apflow.cli.session.work import ids, perform
    from apflow.core.service.runs import split_ids

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.copy(
            await service.find_id(task_id),
            children=children,
            copy_mode=copy_mode,
            custom_task_ids=await ids(service, [*chosen, *split_ids(custom_task_ids or "")]),
            custom_include_children=custom_include_children,
            reset_fields=[*reset_fields, *split_ids(reset_list or "")],
            save=not dry_run,
        )

    write_copied(ctx, perform(ctx, work), dry_run=dry_run)


@click.command()
@click.argument("task_ids", metavar="[ID...]", nargs=-1)
@click.option(
    "--all",
    "is_all",
    is_flag=True,
    help="All interrupted trees whose executors are available in this process.",
)
@server_option
@with_runs
@click.pass_context
def resume(ctx: click.Context, task_ids: tuple[str, ...], is_all: bool) -> None:
    """Continue the runs of processes that have died."""
    from apflow.cli.display.output import write_json, write_note, write_table
    from apflow.cli.session.place import place_of
    from apflow.cli.session.running import drained_on_signal, with_traces
    from apflow.cli.session.work import ids, perform
    from apflow.core.capture.clean_output import clean_output

    if bool(task_ids) == is_all:
        raise click.UsageError("Name the trees to resume, or give --all.")

    async def work(service: TaskService) -> list[dict[str, Any]]:
        with drained_on_signal(service) as draining, clean_output():
            resumed = await service.resume(None if is_all else await ids(service, task_ids))
        interrupted.append(draining.exit_code)
        return resumed

    interrupted: list[int] = []
    found = perform(ctx, with_traces(work))
    if session_of(ctx).is_json:
        write_json({"tasks": found})
    else:
        write_table(
            ("task_id", "name", "status", "error"),
            [[each[k] for k in ("task_id", "name", "status", "error")] for each in found],
        )
        if not found:
            write_note(f"No tree can be resumed in {place_of(session_of(ctx))}. `apflow ps` lists what runs.")
    codes = [OF_STATUS.get(each["status"], interrupted[0] or ExitCode.FAILED) for each in found]
    finish(max(codes, default=ExitCode.DONE))


CHANGES = (cancel, copy, create, delete, fork, logs, resume, update, watch)
