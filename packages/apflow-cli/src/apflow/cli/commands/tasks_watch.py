"""`apflow tasks watch`, also `apflow watch`: following a tree until its run ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

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

    Without ID, that is the newest tree that runs or waits to run. A terminal shows the tree live. In a pipe, each event is a line; with --json, a JSON document. The exit
    code is that of the run. Ctrl-C ends the command, and not the run.
    """
    from apflow.cli.session.work import perform

    session = session_of(ctx)

    async def work(service: TaskService) -> str | None:
        named = await _newest(service) if task_id is None else await service.find_id(task_id)
        if named is None:
            return None
        await _follow(service, named, session)
        [row] = await service.status([named])
        return str(row["status"])

    status = perform(ctx, work)
    if status is None:
        _note_nothing(session)
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


def _note_nothing(session: Session) -> None:
    from apflow.cli.display.output import write_note
    from apflow.cli.session.place import place_of

    write_note(
        f"No tree is running or waiting to run in {place_of(session)}. `apflow ps --all` shows the newest trees."
    )


async def _follow(service: TaskService, task_id: str, session: Session) -> None:
    """Show a tree until its run has ended."""
    import sys

    from apflow.cli.display import live

    if session.is_json or not (sys.stdout.isatty() and live.is_wanted()):
        await _write_events(service, task_id, is_json=session.is_json)
        return
    await live.shown(service, await service.tree(task_id), _end_of(service, task_id), stays=True)


async def _end_of(service: TaskService, task_id: str) -> None:
    async for event in service.watch(task_id):
        if _is_last(event):
            return


async def _write_events(service: TaskService, task_id: str, *, is_json: bool) -> None:
    import json
    import sys

    from apflow.cli.display.output import write_line
    from apflow.cli.session.running import event_lines

    async for event in service.watch(task_id):
        for line in [json.dumps(event)] if is_json else event_lines(event):
            write_line(line)
        sys.stdout.flush()
        if _is_last(event):
            return


def _is_last(event: dict[str, Any]) -> bool:
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
