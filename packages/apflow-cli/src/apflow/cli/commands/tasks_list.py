"""`apflow tasks list`, `apflow tasks running` and `apflow ps`: lists of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import Session, session_of, with_list
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.task_filters import with_filters
from apflow.core.bounds import MAX_COUNT

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

PAGE_PARAMETERS = ("limit", "offset", "cursor", "order", "with_tree")  # which a count does not take
SHOWN_RUNS = 20  # trees that `apflow ps --all` shows


@click.command("list")
@with_filters(
    "tasks.list",
    parameter_option(
        "tasks.list",
        "root_only",
        "--root-only/--all",
        " /--all-tasks",
        default=True,
        more="This is the default; with --all, every task.",
    ),
)
@parameter_option("tasks.list", "limit", "-l", "--limit")
@parameter_option("tasks.list", "offset", "--offset")
@parameter_option("tasks.list", "cursor", "--cursor", metavar="ID")
@parameter_option("tasks.list", "order", "--order", "--sort")
@with_list
@click.pass_context
def list_tasks(ctx: click.Context, /, **options: Any) -> None:
    """List tasks, the newest first; by default the roots of trees, with the status of each tree."""
    show_list(ctx, options)


@click.command()
@parameter_option("tasks.list", "user_id", "-u", "--user-id", metavar="ID")
@parameter_option("tasks.list", "limit", "-l", "--limit")
@with_list
@click.pass_context
def running(ctx: click.Context, user_id: str | None, limit: int) -> None:
    """List the trees with an unfinished run, the oldest first. `apflow ps` is short for it."""
    show_list(ctx, {"user_id": user_id, "limit": limit, "is_running": True, "order": "created_at"})


@click.command()
@click.option("-a", "--all", "is_all", is_flag=True, help="Also the trees whose run has ended: the newest.")
@parameter_option("tasks.list", "user_id", "-u", "--user-id", metavar="ID")
@click.option(
    "-l",
    "--limit",
    type=click.IntRange(1, MAX_COUNT),
    default=SHOWN_RUNS,
    show_default=True,
    help="The maximum number of trees to show.",
)
@with_list
@click.pass_context
def ps(ctx: click.Context, is_all: bool, user_id: str | None, limit: int) -> None:
    """List the trees that run or wait to run; with --all, the newest trees."""
    filters: dict[str, Any] = {} if is_all else {"is_running": True}
    show_list(ctx, {"user_id": user_id, "limit": limit, **filters})


def show_list(ctx: click.Context, options: dict[str, Any]) -> None:
    """Find tasks and write them; for people, also say how many there are beyond those that are shown.

    Args:
        options: parameters of `tasks.list`.
    """
    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.display.task_list import write_task_list
    from apflow.cli.session.work import perform

    is_for_people = session_of(ctx).is_for_people

    async def work(service: TaskService) -> tuple[list[dict[str, Any]], int]:
        found = await service.list(**options, with_tree=True)
        is_first_page = not options.get("offset") and options.get("cursor") is None
        if not is_for_people or (len(found) < options["limit"] and is_first_page):
            return found, len(found)
        filters: dict[str, Any] = {"root_only": True}
        filters |= {name: value for name, value in options.items() if name not in PAGE_PARAMETERS}
        counted = await service.count(**filters)
        return found, int(counted["total"])

    found, total = perform(ctx, work)
    if not write_as_asked(ctx, {"tasks": found}, (task["id"] for task in found)):
        write_task_list(found, is_wide=session_of(ctx).format == "wide")
        _note(ctx, options, found, total)


def _note(ctx: click.Context, options: dict[str, Any], found: list[dict[str, Any]], total: int) -> None:
    from apflow.cli.display.output import write_note

    if not found:
        note_nothing(session_of(ctx), options)
    elif len(found) < total:
        next_page = "" if options.get("offset") else f"; --cursor {found[-1]['id']} continues"
        write_note(f"{len(found)} of {total}. --limit N shows more{next_page}.")


def note_nothing(session: Session, options: dict[str, Any]) -> None:
    """Say to people that a list with these parameters is empty, where the command looked, and what to try."""
    from apflow.cli.display.output import write_note
    from apflow.cli.session.place import place_of

    write_note(f"{_nothing(options)} in {place_of(session)}. {_advice(options)}")


def _nothing(options: dict[str, Any]) -> str:
    if options.get("is_running"):
        return "No tree is running or waiting to run"
    return "No task matches" if _filters(options) else "There are no tasks"


def _advice(options: dict[str, Any]) -> str:
    if options.get("is_running"):
        return "`apflow ps --all` shows the newest trees."
    if _filters(options):
        return "`apflow tasks list` without filters shows the newest trees."
    return "`apflow run flow --tasks-file FILE` creates and runs a tree."


def _filters(options: dict[str, Any]) -> list[str]:
    """Return the names of the filters that are used."""
    usual = {*PAGE_PARAMETERS, "root_only"}
    return [name for name, value in options.items() if value not in (None, []) and name not in usual]
