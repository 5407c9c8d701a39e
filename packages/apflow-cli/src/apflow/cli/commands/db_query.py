"""`apflow db query`: SQL over the history of tasks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import Seconds, session_of, with_service
from apflow.cli.inputs.parameter import parameter_option
from apflow.core.model.sql_query import MAX_QUERY_SECONDS

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.command()
@click.argument("sql")
@parameter_option("system.query", "limit", "-l", "--limit")
@parameter_option(
    "system.query",
    "timeout",
    "--timeout",
    metavar="SECONDS",
    type=Seconds(min=0, max=MAX_QUERY_SECONDS, min_open=True),
)
@click.option(
    "-o",
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "parquet"]),
    help="How to write the rows: by default a table, or what the suffix of the file says.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the rows to this file, which must not exist, instead of standard output.",
)
@with_service
@click.pass_context
def query(
    ctx: click.Context, /, sql: str, form: str | None, output: Path | None, limit: int, timeout: float
) -> None:
    """Answer SQL, one statement that reads, over the history of tasks; - reads it from standard input.

    The views are tasks, runs, attempts, events and usage. `DESCRIBE tasks` shows the columns of one. The SQL
    is that of DuckDB. Times are in UTC.
    """
    from apflow.cli.display.output import write_note
    from apflow.cli.session.work import perform

    form = "json" if session_of(ctx).is_json else _format(form, output)
    if output is not None:
        from apflow.core.process.new_file import check_absent

        check_absent(output.expanduser().absolute())
    text = sys.stdin.read() if sql == "-" else sql

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.query(text, limit=limit, timeout=timeout, parquet=form == "parquet")

    found = perform(ctx, work)
    _write(found, form, output)
    if found["has_more"]:
        write_note(f"These are the first {found['row_count']} rows. --limit N gives more.")


def _format(form: str | None, output: Path | None) -> str:
    if output is None:
        if form == "parquet":
            raise click.UsageError("A Parquet file is not text. Name a file for it: --output FILE.")
        return form or "table"
    form = form or output.suffix.removeprefix(".").lower()
    if form not in ("json", "csv", "parquet"):
        raise click.UsageError("--output writes json, csv or parquet. Choose one of them with --format.")
    return form


def _write(found: dict[str, Any], form: str, output: Path | None) -> None:
    from apflow.cli.display.output import encode, write_json, write_table
    from apflow.cli.display.tabular import write_csv

    names = [each["name"] for each in found["columns"]]
    document = {name: found[name] for name in ("columns", "rows", "row_count", "has_more")}
    if output is not None:
        from base64 import b64decode

        from apflow.core.process.new_file import new_file

        with new_file(output.expanduser().absolute()) as partial:
            if form == "parquet":
                partial.write_bytes(b64decode(found["parquet"]))
                return
            with partial.open("w", encoding="utf-8", newline="") as file:
                if form == "csv":
                    write_csv(names, found["rows"], file)
                else:
                    file.writelines(encode(document))
                    file.write("\n")
        return
    match form:
        case "json":
            write_json(document)
        case "csv":
            write_csv(names, found["rows"])
        case _:
            write_table(names, found["rows"])
