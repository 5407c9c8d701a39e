"""`apflow tasks logs`, also `apflow logs`: what tasks have logged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import session_of, with_service, with_task
from apflow.cli.inputs.parameter import parameter_option
from apflow.core.bounds import MAX_COUNT

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

PAGE = 1000


@click.command()
@with_task
@click.option("-f", "--follow", is_flag=True, help="Continue with new lines until the run has ended.")
@parameter_option("tasks.logs", "attempt", "--attempt", metavar="N")
@parameter_option(
    "tasks.logs",
    "level",
    "--level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], case_sensitive=False),
)
@parameter_option("tasks.logs", "after", "--after", metavar="N")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, MAX_COUNT),
    metavar="N",
    help="The maximum number of lines to show. By default, all.",
)
@with_service
@click.pass_context
def logs(
    ctx: click.Context,
    task_id: str,
    follow: bool,
    attempt: int | None,
    level: str | None,
    after: int,
    limit: int | None,
) -> None:
    """Show what tasks have logged, and follow it.

    The lines are those of the task and its descendants; for a root, those of the whole tree. With --json,
    they are in one document; with --follow as well, each line is a document.
    """
    import json
    import sys
    from contextlib import aclosing

    from apflow.cli.display.output import write_json, write_line, write_note
    from apflow.cli.session.work import perform

    if follow and limit is not None:
        raise click.UsageError("--limit cannot be used with --follow.")
    is_json = session_of(ctx).is_json
    chosen: dict[str, Any] = {"attempt": attempt, "level": level}

    async def work(service: TaskService) -> list[dict[str, Any]]:
        named = await service.find_id(task_id)
        is_tree = (await service.get(named))["has_children"]
        kept: list[dict[str, Any]] = []
        if follow:
            async with aclosing(service.follow_logs(named, after=after, **chosen)) as lines:
                async for line in lines:
                    write_line(json.dumps(line) if is_json else _shown(line, is_tree=is_tree))
                    sys.stdout.flush()
            return kept
        async for line in _stored(service, named, after, limit, chosen):
            if not is_json:
                write_line(_shown(line, is_tree=is_tree))
                kept.clear()  # only whether there is a line matters then
            kept.append(line)
        return kept

    found = perform(ctx, work)
    if follow:
        return
    if is_json:
        write_json({"lines": found})
    elif not found:
        write_note(
            f"No such lines of {task_id} are stored. `apflow tasks why {task_id}` explains its status."
        )


async def _stored(
    service: TaskService, task_id: str, after: int, limit: int | None, chosen: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """Yield stored lines, page by page."""
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = await service.logs(task_id, after=after, limit=size, **chosen)
        for line in page:
            yield line
        if len(page) < size:
            return
        after = page[-1]["number"]
        left = None if left is None else left - len(page)


def _shown(line: dict[str, Any], *, is_tree: bool) -> str:
    """Return a line for people: local time, level, the task if there are several, and the message."""
    from apflow.cli.display.times import clock

    key = line["key"] if line["key"] != line["task_id"] else line["name"]
    name = f" {key}:" if is_tree else ""
    # Further lines of a message are indented, so that they cannot be taken for lines of other tasks.
    message = line["message"].replace("\n", "\n  ")
    return f"{clock(line['timestamp'])} {line['level']:<7}{name} {message}"
