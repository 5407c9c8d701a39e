"""`apflow tasks`: the commands that show and run stored tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.commands.tasks_change import CHANGES
from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.options import finish, session_of, with_outcome, with_service, with_task, with_tasks
from apflow.core.bounds import MAX_COUNT

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
ORDERS = ("-created_at", "created_at", "priority", "name")


@click.group()
def tasks() -> None:
    """List, inspect, run, cancel, copy and delete stored tasks.

    An ID may be shortened to its first 8 or more characters, while no other id begins with them.
    """


for _change in CHANGES:
    tasks.add_command(_change)


@tasks.command("list")
@click.option(
    "-s", "--status", type=click.Choice(STATUSES), multiple=True, help="Only tasks in this state; repeatable."
)
@click.option("-u", "--user-id", metavar="ID", help="Only tasks of this user.")
@click.option("--name", help="Only tasks with this name.")
@click.option(
    "--all/--root-only",
    "--all-tasks/ ",
    "is_all",
    default=False,
    help="List every task, not only the roots of trees.",
)
@click.option("--original", metavar="ID", help="Only copies of this task.")
@click.option("--created-after", type=click.DateTime(), help="In UTC.")
@click.option("--created-before", type=click.DateTime(), help="In UTC.")
@click.option("-l", "--limit", type=click.IntRange(1, MAX_COUNT), default=100, show_default=True)
@click.option("--offset", type=click.IntRange(0, MAX_COUNT), default=0)
@click.option("--cursor", metavar="ID", help="Start after this task, the last one of the previous page.")
@click.option("--order", type=click.Choice(ORDERS), default=ORDERS[0], show_default=True)
@with_service
@click.pass_context
def list_tasks(
    ctx: click.Context, /, status: tuple[str, ...], is_all: bool, original: str | None, **options: Any
) -> None:
    """List tasks, the newest first."""
    from datetime import UTC

    from apflow.cli.display.output import write_json, write_table
    from apflow.cli.session.work import perform
    from apflow.core.model.status import TaskStatus

    for name in ("created_after", "created_before"):
        options[name] = options[name] and options[name].replace(tzinfo=UTC)

    async def work(service: TaskService) -> list[dict[str, Any]]:
        return await service.list(
            status=[TaskStatus(each) for each in status] or None,
            root_only=not is_all,
            original_task_id=original,
            **options,
        )

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"tasks": found})
    else:
        columns = ("id", "name", "status", "progress", "created_at")
        write_table(columns, [[_shown(task, column) for column in columns] for task in found])


def _shown(task: dict[str, Any], column: str) -> Any:
    if column == "progress":
        return f"{task['progress']:.0%}"
    return task[column][:19] if column == "created_at" and task[column] else task[column]


@tasks.command()
@with_task
@with_service
@click.pass_context
def get(ctx: click.Context, task_id: str) -> None:
    """Show one task, every field of it."""
    from apflow.cli.display.output import write_fields, write_json
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.get(await service.find_id(task_id))

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"task": found})
    else:
        write_fields(found)


@tasks.command()
@with_tasks
@with_service
@click.pass_context
def status(ctx: click.Context, task_ids: tuple[str, ...]) -> None:
    """Show how tasks are doing; for a root, how its tree is."""
    from apflow.cli.display.output import write_json, write_table
    from apflow.cli.session.work import check_found, ids_as_given, perform

    async def work(service: TaskService) -> list[dict[str, Any]]:
        return await service.status(await ids_as_given(service, task_ids))

    found = perform(ctx, work)
    check_found(found)
    if session_of(ctx).is_json:
        write_json({"tasks": found})
    else:
        rows = [
            [each["task_id"], each["name"], each["status"], _percent(each["progress"]), each["error"]]
            for each in found
        ]
        write_table(("task_id", "name", "status", "progress", "error"), rows)
    if any(each["status"] == "not_found" for each in found):
        finish(ExitCode.NOT_FOUND)


def _percent(progress: float | None) -> str | None:
    return None if progress is None else f"{progress:.0%}"


@tasks.command()
@with_task
@with_service
@click.pass_context
def tree(ctx: click.Context, task_id: str) -> None:
    """Show the whole tree that a task is in."""
    from apflow.cli.display.output import write_json, write_tree
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.tree(await service.find_id(task_id))

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"root": found})
    else:
        write_tree(found)


@tasks.command()
@with_task
@with_service
@click.pass_context
def children(ctx: click.Context, task_id: str) -> None:
    """Show the tasks directly below a task."""
    from apflow.cli.display.output import write_json, write_table
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> list[dict[str, Any]]:
        return await service.children(await service.find_id(task_id))

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"tasks": found})
    else:
        columns = ("id", "name", "status", "progress")
        write_table(columns, [[_shown(task, column) for column in columns] for task in found])


@tasks.command()
@click.option("-u", "--user-id", metavar="ID", help="Only tasks of this user.")
@click.option(
    "-s", "--status", type=click.Choice(STATUSES), multiple=True, help="Only tasks in this state; repeatable."
)
@click.option("--name", help="Only tasks with this name.")
@click.option("--roots/--all-tasks", "--root-only/ ", "roots", default=False, help="Only the roots of trees.")
@with_service
@click.pass_context
def count(
    ctx: click.Context, user_id: str | None, status: tuple[str, ...], name: str | None, roots: bool
) -> None:
    """Count tasks, in all and by status."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform
    from apflow.core.model.status import TaskStatus

    async def work(service: TaskService) -> dict[str, Any]:
        chosen = [TaskStatus(each) for each in status] or None
        return await service.count(user_id=user_id, status=chosen, name=name, root_only=roots)

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json(found)
    else:
        for label, number in [*found["by_status"].items(), ("total", found["total"])]:
            write_line(f"{label:<11}  {number}")


@tasks.command()
@with_task
@with_service
@click.pass_context
def why(ctx: click.Context, task_id: str) -> None:
    """Explain the status of a task, and what would change it."""
    from apflow.cli.display.output import one_line, write_json, write_line
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.why(await service.find_id(task_id))

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json(found)
        return
    write_line(one_line(f"{found['name']} is {found['status']}."))
    for reason in found["reasons"]:
        write_line(f"- {one_line(reason)}")
    for command in found["advice"]:
        write_line(f"Try: {one_line(command)}")


@tasks.command()
@with_task
@click.option("-f", "--force", is_flag=True, help="Run completed tasks again.")
@click.option("--copy", "is_copy", is_flag=True, help="Run a copy, and leave the task unchanged.")
@click.option("--copy-children", is_flag=True, help="Also copy the tasks below it; implies --copy.")
@with_outcome
@click.pass_context
def execute(
    ctx: click.Context,
    task_id: str,
    force: bool,
    is_copy: bool,
    copy_children: bool,
    output: Path | None,
    timeout: float | None,
) -> None:
    """Run a stored tree; or a task, with what it needs. What has completed is kept."""
    from apflow.cli.session.running import Outcome, run_tree, tell
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> Outcome:
        named = await service.find_id(task_id)
        if not is_copy and not copy_children:
            return await run_tree(service, named, force=force, seconds=timeout)
        copied = await service.copy(named, children=copy_children)
        outcome = await run_tree(service, copied["id"], seconds=timeout)
        return outcome | {"original_task_id": named}

    tell(perform(ctx, work), is_json=session_of(ctx).is_json, output=output)
