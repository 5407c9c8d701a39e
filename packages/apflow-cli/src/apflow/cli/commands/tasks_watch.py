"""`apflow tasks watch`, also `apflow watch`: following a tree until its run ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.commands.tasks_list import note_nothing
from apflow.cli.errors.exit_code import OF_STATUS, ExitCode
from apflow.cli.inputs.options import Session, finish, session_of, with_service

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.command()
@click.argument("task_id", metavar="[ID]", required=False)
@with_service
@click.pass_context
def watch(ctx: click.Context, task_id: str | None) -> None:
    """Follow a task's tree until its run ends.

    Without ID, that is the newest tree that runs or waits to run. A terminal shows the tree live. In a pipe,
    each event is a line; with --json, a JSON document. The exit code is that of the run. Ctrl-C ends the
    command, and not the run.
    """
    from apflow.cli.session.work import perform

    session = session_of(ctx)
    chosen: list[str] = []  # kept where the work is repeated: the process that did it for us has ended

    async def work(service: TaskService) -> str | None:
        if not chosen:
            named = await _newest(service) if task_id is None else await service.find_id(task_id)
            if named is None:
                return None
            chosen.append(named)
        return await _follow(service, chosen[0], session)

    status = perform(ctx, work)
    if status is None:
        note_nothing(session, {"is_running": True})
        finish(ExitCode.NOT_FOUND)
    finish(OF_STATUS.get(status, ExitCode.FAILED))


async def _newest(service: TaskService) -> str | None:
    """Return the root of the newest tree with an unfinished run, and say which it is if there are several."""
    from apflow.cli.display.output import label, write_note

    found = await service.list(is_running=True, limit=2)
    if not found:
        return None
    if len(found) > 1:
        total = (await service.count(is_running=True, root_only=True))["total"]
        write_note(f"Watching the newest of {total} trees: {label(found[0])}. `apflow ps` lists them.")
    return str(found[0]["id"])


async def _follow(service: TaskService, task_id: str, session: Session) -> str:
    """Show a tree until its run has ended, and return its status."""
    from contextlib import aclosing

    async with aclosing(service.watch(task_id)) as events:
        shown = _shown(events, is_json=session.is_json)
        async with aclosing(shown):
            async for event in shown:
                if _is_last(event):
                    break
                status = str(event["type"]).removeprefix("tree_")
                if event.get("final") and event["task_id"] == task_id and status in OF_STATUS:
                    return status  # a process that ends with the run answers nothing more
    [row] = await service.status([task_id])
    return str(row["status"])


def _shown(
    events: AsyncGenerator[dict[str, Any], None], *, is_json: bool
) -> AsyncGenerator[Mapping[str, Any], None]:
    """Return the events, which are shown as they are taken: live on a terminal, else as lines."""
    import sys

    if not is_json and sys.stdout.isatty():
        from apflow.cli.display import live  # here: rich is slow to import

        if live.is_wanted():
            return live.followed(events)
    return _written(events, is_json=is_json)


async def _written(
    events: AsyncIterator[Mapping[str, Any]], *, is_json: bool
) -> AsyncGenerator[Mapping[str, Any], None]:
    """Write events to standard output, and pass them on."""
    import json
    import sys

    from apflow.cli.display.output import write_line
    from apflow.cli.session.running import event_lines

    async for event in events:
        for line in [json.dumps(event)] if is_json else event_lines(event):
            write_line(line)
        sys.stdout.flush()
        yield event


def _is_last(event: Mapping[str, Any]) -> bool:
    """Return whether an event shows a tree of which no run is active: nothing follows."""
    return event["type"] == "snapshot" and _has_ended(event["data"])


def _has_ended(tree: dict[str, Any]) -> bool:
    """Return whether every task of a nested tree has ended."""
    waiting = [tree]
    while waiting:
        task = waiting.pop()
        if task["status"] in ("pending", "in_progress"):
            return False
        waiting.extend(task["children"])
    return True
