"""`apflow tasks export`: trees with their attempts and events, as JSON lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import session_of, with_service
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.times import Since, UtcTime

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

LINES = 500  # of one page


@click.command()
@click.argument("file")
@parameter_option(
    "tasks.export", "root_ids", "--root", metavar="ID", multiple=True, default=None, more="Repeatable."
)
@parameter_option("tasks.export", "user_id", "-u", "--user-id", metavar="ID")
@parameter_option("tasks.export", "status", "-s", "--status", multiple=True, more="Repeatable.")
@parameter_option("tasks.export", "name", "--name")
@parameter_option("tasks.export", "label", "--label", metavar="TEXT")
@parameter_option(
    "tasks.export", "tags", "--tag", metavar="TAG", multiple=True, default=None, more="Repeatable."
)
@parameter_option("tasks.export", "is_running", "--running/--not-running", default=None)
@parameter_option("tasks.export", "since", "--since", metavar="SPAN", type=Since())
@parameter_option("tasks.export", "created_after", "--created-after", type=UtcTime(), more="In UTC.")
@parameter_option("tasks.export", "created_before", "--created-before", type=UtcTime(), more="In UTC.")
@with_service
@click.pass_context
def export(
    ctx: click.Context,
    /,
    file: str,
    root_ids: tuple[str, ...],
    status: tuple[str, ...],
    tags: tuple[str, ...],
    **filters: Any,
) -> None:
    """Write trees with their tasks, attempts and events to FILE, as JSON lines.

    FILE must not exist, and appears when it is complete. With the suffix .gz it is compressed; - is standard
    output. Each line is an object with one member: task, attempt or event. The filters are those of the roots
    of trees; without any, all trees are written. Values of secret-like keys are masked, so this is for
    analysis and archives: `apflow db export` writes what `apflow db import` reads.
    """
    from apflow.cli.display.names import counted
    from apflow.cli.display.output import write_json, write_note
    from apflow.cli.session.export_file import STANDARD, written_file
    from apflow.cli.session.work import perform
    from apflow.core.model.status import TaskStatus

    counts = dict.fromkeys(("task", "attempt", "event"), 0)
    with written_file(file) as out:

        async def work(service: TaskService) -> None:
            cursor = None
            while True:
                page = await service.export(
                    **filters,
                    root_ids=list(root_ids),
                    status=[TaskStatus(each) for each in status] or None,
                    tags=list(tags),
                    cursor=cursor,
                    limit=LINES,
                )
                for line in page["lines"]:
                    counts[next(iter(line))] += 1
                    out.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                cursor = page["cursor"]
                if cursor is None:
                    return

        perform(ctx, work)
    if session_of(ctx).is_json and file != STANDARD:
        write_json({"file": file, "rows": counts})
    else:
        write_note(f"Exported {', '.join(counted(number, kind) for kind, number in counts.items())}.")
