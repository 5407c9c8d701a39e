"""`apflow tasks`: the commands that show and run stored tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.commands.tasks_budget import budget, usage
from apflow.cli.commands.tasks_change import CHANGES
from apflow.cli.commands.tasks_export import export
from apflow.cli.commands.tasks_list import list_tasks, running
from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.options import (
    finish,
    session_of,
    with_list,
    with_outcome,
    with_service,
    with_task,
    with_tasks,
)
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.task_filters import with_filters
from apflow.core.bounds import MAX_COUNT

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.group()
def tasks() -> None:
    """List, inspect, run, cancel, copy and delete stored tasks.

    A task is named by its ID or by a path: ROOT/KEY, as in bill/apples, the ID or key of a root and the key
    of the task. A root is also named by its key. An ID may be shortened to its first 8 or more characters, if
    no other ID starts with them.
    """


for _command in (list_tasks, running, *CHANGES, budget, usage, export):
    tasks.add_command(_command)


@tasks.command()
@with_task
@with_list
@click.pass_context
def get(ctx: click.Context, task_id: str) -> None:
    """Show all fields of a task, and the traceback of its last error."""
    from apflow.cli.display.attempts import write_traceback
    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.display.task_fields import write_task
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.get(await service.find_id(task_id), history=True)

    found = perform(ctx, work)
    if write_as_asked(ctx, {"task": found}, [found["id"]]):
        return
    attempts = found.pop("history")
    write_task(found)
    for last in attempts[-1:]:
        write_traceback(last)


@tasks.command()
@with_task
@click.option("-v", "--verbose", is_flag=True, help="Also show the traceback of each error.")
@with_service
@click.pass_context
def attempts(ctx: click.Context, task_id: str, verbose: bool) -> None:
    """List the attempts of a task, with those of earlier executions."""
    from apflow.cli.display.attempts import write_attempts
    from apflow.cli.display.output import write_json
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> list[dict[str, Any]]:
        return await service.attempts(await service.find_id(task_id))

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"attempts": found})
    else:
        write_attempts(found, with_tracebacks=verbose)


@tasks.command()
@with_tasks
@with_list
@click.pass_context
def status(ctx: click.Context, task_ids: tuple[str, ...]) -> None:
    """Show the status of tasks; for a root, of its tree."""
    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.display.status_list import write_statuses
    from apflow.cli.session.work import check_found, ids_as_given, perform

    async def work(service: TaskService) -> list[dict[str, Any]]:
        return await service.status(await ids_as_given(service, task_ids))

    found = perform(ctx, work)
    check_found(found)
    if not write_as_asked(ctx, {"tasks": found}, (each["task_id"] for each in found)):
        write_statuses(found)
    if any(each["status"] == "not_found" for each in found):
        finish(ExitCode.NOT_FOUND)


@tasks.command()
@with_task
@click.option(
    "-s",
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(["pending", "in_progress", "completed", "failed", "cancelled", "skipped"]),
    help="Show only tasks with this status and the tasks above them, and count the others. Repeatable.",
)
@click.option(
    "--depth",
    type=click.IntRange(0, MAX_COUNT),
    metavar="N",
    help="Show so many levels below the root, and count the tasks below these.",
)
@click.option(
    "-a",
    "--all",
    "is_all",
    is_flag=True,
    help="Show every task of a large tree on a terminal. By default, those that failed or run, and counts.",
)
@with_list
@click.pass_context
def tree(
    ctx: click.Context, task_id: str, statuses: tuple[str, ...], depth: int | None, is_all: bool
) -> None:
    """Show the whole tree that a task belongs to. Its JSON and YAML always have every task."""
    import sys

    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.display.outcome import MAX_TASKS
    from apflow.cli.display.output import write_tree
    from apflow.cli.display.tree_lines import ids_of
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.tree(await service.find_id(task_id))

    found = perform(ctx, work)
    if not write_as_asked(ctx, {"root": found}, ids_of(found, statuses, depth)):
        is_long = sys.stdout.isatty() and not (is_all or statuses or depth is not None)
        write_tree(found, statuses=statuses, depth=depth, limit=MAX_TASKS if is_long else None)


@tasks.command()
@with_task
@with_list
@click.pass_context
def children(ctx: click.Context, task_id: str) -> None:
    """Show the direct children of a task."""
    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.display.output import write_note
    from apflow.cli.display.task_list import write_task_list
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> list[dict[str, Any]]:
        return await service.children(await service.find_id(task_id))

    found = perform(ctx, work)
    if not write_as_asked(ctx, {"tasks": found}, (task["id"] for task in found)):
        write_task_list(found, is_wide=session_of(ctx).format == "wide")
        if not found:
            write_note(f"Task {task_id} has no children. `apflow tasks tree {task_id}` shows its tree.")


@tasks.command()
@with_filters(
    "tasks.count",
    parameter_option("tasks.count", "root_only", "--roots/--all-tasks", "--root-only/ ", default=False),
)
@with_service
@click.pass_context
def count(ctx: click.Context, /, **options: Any) -> None:
    """Count tasks, in total and by status."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform

    found = perform(ctx, lambda service: service.count(**options))
    if session_of(ctx).is_json:
        write_json(found)
    else:
        for label, number in [*found["by_status"].items(), ("total", found["total"])]:
            write_line(f"{label:<11}  {number}")


@tasks.command()
@with_task
@click.option("-v", "--verbose", is_flag=True, help="Also show the attempts and the traceback of each error.")
@with_service
@click.pass_context
def why(ctx: click.Context, task_id: str, verbose: bool) -> None:
    """Explain the status of a task, and what would change it."""
    from apflow.cli.display.attempts import write_attempts
    from apflow.cli.display.output import label, one_line, write_json, write_line
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        named = await service.find_id(task_id)
        found = await service.why(named)
        return found | {"attempts": await service.attempts(named)} if verbose else found

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json(found)
        return
    write_line(f"{label({**found, 'id': found['task_id']})} is {found['status']}.")
    for reason in found["reasons"]:
        write_line(f"- {one_line(reason)}")
    for command in found["advice"]:
        write_line(f"Try: {one_line(command)}")
    if verbose:
        write_line()
        write_attempts(found["attempts"], with_tracebacks=True)


@tasks.command()
@with_task
@parameter_option("tasks.execute", "force", "-f", "--force", is_flag=True)
@parameter_option("tasks.execute", "no_cache", "--no-cache", is_flag=True)
@parameter_option("tasks.execute", "copy_execution", "--copy", dest="is_copy", is_flag=True)
@click.option("--copy-children", is_flag=True, help="Also copy the descendants of the task; implies --copy.")
@with_outcome
@click.pass_context
def execute(
    ctx: click.Context,
    task_id: str,
    force: bool,
    no_cache: bool,
    is_copy: bool,
    copy_children: bool,
    output: Path | None,
    timeout: float | None,
) -> None:
    """Run a stored tree, or a task with what it needs. Completed tasks are not run again."""
    from apflow.cli.session.running import RunResult, run_tree, with_traces, write_and_exit
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> RunResult:
        named = await service.find_id(task_id)
        if not is_copy and not copy_children:
            return await run_tree(service, named, force=force, no_cache=no_cache, seconds=timeout)
        copied = await service.copy(named, children=copy_children)
        outcome = await run_tree(service, copied["id"], no_cache=no_cache, seconds=timeout)
        return outcome | {"original_task_id": named}

    write_and_exit(perform(ctx, with_traces(work)), is_json=session_of(ctx).is_json, output=output)
