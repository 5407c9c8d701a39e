"""The program that answers one query in SQL: `python -m apflow.storage.duckdb.query_program FOLDER`.

It reads the copied tables of its folder into a database in memory. Before the text of the user is looked at,
access to all other files, to networks and to extensions is switched off for good, and memory is limited. The
process that started it limits the time.
"""

# ruff: noqa: S608  # only names of this package and paths of the folder are interpolated

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

import duckdb

from apflow.core.errors import InvalidInputError
from apflow.core.model.sql_query import MAX_RESULT_BYTES
from apflow.core.model.task import Json
from apflow.storage.duckdb.database import literal
from apflow.storage.duckdb.large_values import MARK
from apflow.storage.sql.pages import read_page
from apflow.storage.sql.query import JOB_FILE, PARQUET_FILE, RESULT_FILE
from apflow.storage.sql.query_views import EVENT_COLUMNS, MAX_TEXT, SOURCES, VIEWS

if sys.platform != "win32":
    import resource

MEMORY_MB: Final = 512  # that DuckDB may use; more goes to files in the folder
MAX_MEMORY_MB: Final = 1536  # of the process: functions of strings allocate beyond DuckDB's own limit
ROWS: Final = 1000  # that are fetched at once
PAGES: Final = 256  # of events that are decoded at once
LARGE_VALUES: Final = "large_values"  # the file with the parts of large pages, from DuckDB
ZONED: Final = "TIMESTAMP WITH TIME ZONE"  # of which duckdb makes values of Python only with pytz
READS: Final = frozenset({"SELECT", "EXPLAIN"})  # types of statements


def main(folder: Path) -> None:
    """Answer the query of a folder; an error in the query is a result, too."""
    job = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    _limit(job["seconds"])
    try:
        found = answer(job, folder)
    except (duckdb.Error, InvalidInputError, MemoryError) as error:
        found = {"error": _message(error)}
    (folder / RESULT_FILE).write_text(json.dumps(found), encoding="utf-8")


def _limit(seconds: float) -> None:
    """Limit memory, and the time if the process that waits ends; give way to other processes."""
    if sys.platform == "win32":
        return
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds) + 5, math.ceil(seconds) + 10))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere, this limit does not count what is mapped
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_MB << 20, MAX_MEMORY_MB << 20))


def answer(job: Mapping[str, Any], folder: Path) -> dict[str, Json]:
    """Return the result of the query of a job.

    Raises:
        duckdb.Error: the query is invalid, or reads what it may not.
        InvalidInputError: it is not one statement that reads, or its result is too large.
    """
    with duckdb.connect(":memory:", config=_config(folder)) as connection:
        files = {name: folder / file for name, file in job["files"].items()}
        if "events" in files:
            files["events"] = _decoded(connection, files, folder / "decoded.csv")
        _create_views(connection, job["views"], files)
        # Not the parts of large pages: they have data that the views leave out.
        _lock(connection, [*(files[name] for name in SOURCES if name in files), folder / PARQUET_FILE])
        statement = _only_statement(connection, job["text"])
        if job["is_parquet"]:
            return _to_parquet(connection, job["text"], job["limit"], folder / PARQUET_FILE)
        return _to_rows(connection, statement, job["text"], job["limit"])


def _config(folder: Path) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "threads": 1,
        "memory_limit": f"{MEMORY_MB}MB",
        "temp_directory": str(folder / "spilled"),
        "max_temp_directory_size": "4GB",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,  # names are never variables of this program
    }


def _lock(connection: duckdb.DuckDBPyConnection, files: Iterable[Path]) -> None:
    allowed = ", ".join(literal(str(each)) for each in files)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _create_views(
    connection: duckdb.DuckDBPyConnection, views: Sequence[str], files: Mapping[str, Path]
) -> None:
    connection.execute("CREATE SCHEMA stored")
    for name, file in files.items():
        if name in SOURCES:
            connection.execute(f"CREATE VIEW stored.{name} AS SELECT * FROM {_reader(name, file)}")
    for name in views:
        connection.execute(f"CREATE VIEW {name} AS {VIEWS[name].text}")


def _reader(name: str, file: Path) -> str:
    """Return the table function that reads a file of a source."""
    if file.suffix == ".parquet":
        return f"read_parquet({literal(str(file))})"
    columns = EVENT_COLUMNS if name == "events" else [each[:2] for each in SOURCES[name].columns]
    types = ", ".join(f"{literal(column)}: {literal(sql_type)}" for column, sql_type in columns)
    return (
        f"read_csv({literal(str(file))}, auto_detect = false, header = true, delim = ',', quote = '\"', "
        f"escape = '\"', nullstr = '\\N', allow_quoted_nulls = false, columns = {{{types}}})"
    )


def _decoded(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Path], path: Path) -> Path:
    """Write the events of copied pages to a file, and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(name for name, _ in EVENT_COLUMNS)
        for root_id, body in _pages(connection, files):
            for event in read_page(root_id, body):
                texts = (root_id, event.task_id, event.key, event.type, event.status)
                long = (None if each is None else each[:MAX_TEXT] for each in (event.message, event.error))
                at = event.timestamp.replace(tzinfo=None).isoformat(sep=" ")
                writer.writerow(map(_csv, (*texts, *long, event.sequence, event.progress, at)))
    return path


def _csv(value: Json) -> Json:
    return "\\N" if value is None else value


def _pages(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    source = files["events"]
    if source.suffix != ".parquet":
        csv.field_size_limit(sys.maxsize)
        with source.open(encoding="utf-8", newline="") as file:
            yield from ((row["root_id"], row["body"]) for row in csv.DictReader(file))
        return
    number = f"CASE WHEN e.body >= '{MARK}' THEN CAST(substr(e.body, {len(MARK) + 1}) AS BIGINT) END"
    found = connection.cursor().execute(
        f"SELECT e.root_id, coalesce(v.body, e.body) FROM read_parquet({literal(str(source))}) AS e "
        f"LEFT JOIN (SELECT number, string_agg(body, '' ORDER BY part) AS body FROM "
        f"read_parquet({literal(str(files[LARGE_VALUES]))}) GROUP BY number) AS v ON v.number = {number}"
    )
    while rows := found.fetchmany(PAGES):
        yield from cast("list[tuple[str, str]]", rows)


def _only_statement(connection: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    statements = connection.extract_statements(text)
    if len(statements) != 1:
        raise InvalidInputError(f"Give one statement, not {len(statements)}.")
    if statements[0].type.name not in READS:
        raise InvalidInputError(
            f"Only a query that reads is possible, such as SELECT; this is {statements[0].type.name}."
        )
    return statements[0]


def _to_rows(
    connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, text: str, limit: int
) -> dict[str, Json]:
    result = connection.execute(statement)
    columns = [[column[0], str(column[1])] for column in result.description or ()]
    types = [kind for _, kind in columns]
    if ZONED in types:
        plain = connection.cursor().sql(text).project(_without_zones(types))
        pages = iter([plain.limit(limit + 1).fetchall()])
    else:
        pages = iter(lambda: result.fetchmany(ROWS), [])
    rows: list[list[Json]] = []
    size = 0
    for page in pages:
        for row in page[: limit + 1 - len(rows)]:
            rows.append([_json(value) for value in row])
            size += len(json.dumps(rows[-1]))
            _check_size(size)
        if len(rows) > limit:
            break
    return _result(columns, rows[:limit], min(len(rows), limit), has_more=len(rows) > limit)


def _without_zones(types: Sequence[str]) -> str:
    """Return the columns of a projection that has times with a zone as text."""
    return ", ".join(
        f"CAST(#{at} AS VARCHAR)" if kind == ZONED else f"#{at}" for at, kind in enumerate(types, start=1)
    )


def _to_parquet(connection: duckdb.DuckDBPyConnection, text: str, limit: int, path: Path) -> dict[str, Json]:
    relation = connection.sql(text)
    columns = [[name, str(kind)] for name, kind in zip(relation.columns, relation.types, strict=True)]
    relation.limit(limit + 1).create("found_rows")
    [[count]] = connection.execute("SELECT count(*) FROM found_rows").fetchall()
    connection.execute(
        f"COPY (SELECT * FROM found_rows LIMIT {limit}) TO {literal(str(path))} "
        "(FORMAT parquet, COMPRESSION zstd)"
    )
    _check_size(path.stat().st_size)
    return _result(columns, [], min(count, limit), has_more=count > limit)


def _result(columns: Json, rows: Json, row_count: int, *, has_more: bool) -> dict[str, Json]:
    return {"columns": columns, "rows": rows, "row_count": row_count, "has_more": has_more}


def _check_size(size: int) -> None:
    if size > MAX_RESULT_BYTES:
        raise InvalidInputError(
            f"The result is larger than {MAX_RESULT_BYTES >> 20} MiB. Select less, or sum it up."
        )


def _json(value: Any) -> Json:
    """Return a value of DuckDB as JSON: a time in ISO 8601, and as text what JSON does not have."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return float(value) if value.is_finite() else str(value)
        case datetime() | date() | time_of_day():
            return value.isoformat()
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_json(each) for each in cast("list[Any]", value)]
        case dict():
            return {str(name): _json(each) for name, each in cast("dict[Any, Any]", value).items()}
        case _:
            return str(value)


def _message(error: BaseException) -> str:
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        return "The query needs more memory than it may use. Read less, or sum it up."
    text = str(error)
    if isinstance(error, duckdb.CatalogException) and "does not exist" in text:
        text += f"\nThe views are {', '.join(VIEWS)}."
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
