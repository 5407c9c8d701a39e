"""`apflow tasks export`: trees with their attempts and events, as JSON lines; or one run as a page."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

import click

from apflow.cli.inputs.options import session_of, with_service
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.times import Since, UtcTime

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

LINES = 500  # of one page


@click.command()
@click.argument("file", metavar="FILE|ID")
@click.option(
    "--html", is_flag=True, help="Write the run of the task ID as one HTML file that opens without a server."
)
@click.option(
    "--output",
    metavar="FILE",
    help="With --html: the file to write; - is standard output. Default: apflow-run-ID.html.",
)
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
@parameter_option("tasks.export", "with_logs", "--with-logs", is_flag=True)
@with_service
@click.pass_context
def export(
    ctx: click.Context,
    /,
    file: str,
    html: bool,
    output: str | None,
    root_ids: tuple[str, ...],
    status: tuple[str, ...],
    tags: tuple[str, ...],
    with_logs: bool,
    **filters: Any,
) -> None:
    """Write trees with their tasks, attempts and events to FILE, as JSON lines; or one run as a page.

    FILE must not exist, and appears when it is complete. With the suffix .gz it is compressed; - is standard
    output. Each line is an object with one member: task, attempt or event. The filters are those of the roots
    of trees; without any, all trees are written. Values of secret-like keys are masked, so this is for
    analysis and archives: `apflow db export` writes what `apflow db import` reads.

    With --html, the page of one run is written: its tree, times, results, errors, attempts and logs. It is
    one file without references to others, to attach to a report. Large values and long logs are cut.
    """
    if html:
        _check_alone(root_ids, status, tags, with_logs, filters)
        _write_page(ctx, file, output)
        return
    if output is not None:
        raise click.UsageError("--output belongs to --html. Without it, name the file as the argument.")
    from apflow.cli.display.names import counted
    from apflow.cli.display.output import write_json, write_note
    from apflow.cli.session.export_file import STANDARD, written_file
    from apflow.cli.session.work import perform
    from apflow.core.model.status import TaskStatus

    counts = dict.fromkeys(("task", "attempt", "event", *(("log",) if with_logs else ())), 0)
    with written_file(file) as out:

        async def work(service: TaskService) -> None:
            cursor = None
            while True:
                page = await service.export(
                    **filters,
                    root_ids=list(root_ids),
                    status=[TaskStatus(each) for each in status] or None,
                    tags=list(tags),
                    with_logs=with_logs,
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


def _check_alone(*given: object) -> None:
    """Refuse filters, which would be ignored."""
    *many, filters = given
    if any(many) or any(value is not None for value in cast("dict[str, Any]", filters).values()):
        raise click.UsageError("--html writes the run of one task: leave the filters out.")


def _write_page(ctx: click.Context, task_id: str, output: str | None) -> None:
    from apflow.cli.display.names import counted
    from apflow.cli.display.output import write_json, write_note
    from apflow.cli.session.export_file import STANDARD, written_file
    from apflow.cli.session.run_page import collect, new_document, split_page, write_page
    from apflow.cli.session.work import perform

    parts = split_page()

    async def work(service: TaskService) -> tuple[str, int]:
        with await new_document(service, task_id) as document:
            await collect(service, document)
            name = output or f"apflow-run-{safe_name(document.root_id)}.html"
            with written_file(name) as out:
                write_page(document, parts, out)
            return name, document.count

    name, count = perform(ctx, work)
    if session_of(ctx).is_json and name != STANDARD:
        write_json({"file": name, "rows": {"task": count}})
    elif name != STANDARD:
        write_note(f"Wrote the run with {counted(count, 'task')} to {name}.")


def safe_name(task_id: str) -> str:
    """Return an ID as a part of the name of a file."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", task_id)[:100]
