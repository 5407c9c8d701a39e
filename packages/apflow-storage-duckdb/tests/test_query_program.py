"""The program that answers a query reads only the copied tables."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from apflow.core.errors import InvalidInputError
from apflow.core.model.sql_query import SqlQuery
from apflow.storage.duckdb import DuckDBStore
from apflow.storage.duckdb.query_program import answer
from apflow.storage.sql.pages import pages
from apflow.storage.sql.query_views import SOURCES, views_in
from apflow.testing.building import a_tree, an_event

# A statement, and a word of the error that it gets.
REFUSED = (
    ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
    ("SELECT * FROM read_text('job.json')", "disabled by configuration"),
    ("SELECT * FROM glob('/*')", "disabled by configuration"),
    ("SELECT * FROM 'job.json'", "disabled by configuration"),
    ("SELECT * FROM apflow_tasks", "apflow_tasks does not exist"),
    ("ATTACH '/tmp/other.duckdb'", "Only a query that reads"),
    ("COPY (SELECT 1) TO '/tmp/apflow-query-copy'", "Only a query that reads"),
    ("INSTALL httpfs", "Only a query that reads"),
    ("SET enable_external_access = true", "Only a query that reads"),
    ("DELETE FROM tasks", "Only a query that reads"),
    ("CREATE TABLE t AS SELECT 1", "Only a query that reads"),
    ("SELECT 1; DROP VIEW tasks", "one statement, not 2"),
    ("SELECT files FROM tasks", "files"),
    ("SELEC 1", "syntax error"),
    ("", "one statement, not 0"),
)


def result_of(folder: Path, text: str, **more: Any) -> dict[str, Any]:
    """Answer a query over an empty table of tasks, in this process."""
    columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind, _ in SOURCES["tasks"].columns)
    duckdb.sql(f"SELECT {columns} LIMIT 0").write_parquet(str(folder / "tasks.parquet"))
    job = {"views": ["tasks"], "files": {"tasks": "tasks.parquet"}, "limit": 10, "is_parquet": False}
    return answer({**job, "text": text, **more}, folder)


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_nothing_but_the_views_can_be_read_and_nothing_changed(tmp_path: Path, text: str, expected: str):
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises((duckdb.Error, InvalidInputError)) as caught:
        result_of(tmp_path, text)
    assert expected in str(caught.value)


def test_parts_of_large_pages_cannot_be_read(tmp_path: Path):
    page = pages("r", [an_event("r", "r")])
    body = next(page).body.replace("'", "''")
    duckdb.sql("SELECT 'r' AS root_id, '~1' AS body, 1 AS first_sequence").write_parquet(
        str(tmp_path / "events.parquet")
    )
    large = duckdb.sql(f"SELECT 1 AS number, 0 AS part, '{body}' AS body")
    large.write_parquet(str(tmp_path / "large.parquet"))
    job = {"views": ["events"], "files": {"events": "events.parquet", "large_values": "large.parquet"}}
    assert result_of(tmp_path, "SELECT type FROM events", **job)["rows"] == [["task_started"]]
    with pytest.raises(duckdb.Error, match="disabled by configuration"):
        result_of(tmp_path, f"SELECT * FROM read_parquet('{tmp_path}/large.parquet')", **job)


def test_values_that_json_does_not_have_are_text(tmp_path: Path):
    found = result_of(
        tmp_path,
        "SELECT 1.5::DECIMAL(4,2), DATE '2026-01-02', TIMESTAMP '2026-01-02 03:04:05', 'nan'::DOUBLE, "
        "'ab'::BLOB, [1, NULL], {'a': true}, INTERVAL 1 DAY, TIMESTAMPTZ '2026-01-02 03:04:05+02', NULL",
    )
    assert found["rows"] == [
        [
            1.5, "2026-01-02", "2026-01-02T03:04:05", "nan", "6162", [1, None], {"a": True}, "1 day, 0:00:00",
            "2026-01-02 01:04:05+00", None,
        ]
    ]  # fmt: skip
    assert [kind for _, kind in found["columns"]][:3] == ["DECIMAL(4,2)", "DATE", "TIMESTAMP"]


@pytest.mark.parametrize("text", ["SHOW TABLES", "DESCRIBE tasks", "SUMMARIZE tasks", "EXPLAIN FROM tasks"])
def test_what_describes_the_views_is_possible(tmp_path: Path, text: str):
    assert result_of(tmp_path, text)["row_count"] > 0


def test_views_are_found_by_their_names_as_words():
    assert views_in('select * from "Tasks" t, RUNS') == ["tasks", "runs"]
    assert views_in("SELECT my_tasks, eventsx, usage2") == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_cancelled_query_ends_its_process_and_removes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with DuckDBStore(f"duckdb:///{tmp_path}/tasks.duckdb") as store:
        await store.add(a_tree("r", "a"))
        endless = (
            "SELECT count(*) FROM range(9999999) AS a, range(9999999) AS b WHERE a.range * b.range % 7 = 3"
        )
        query = asyncio.create_task(store.query(SqlQuery(text=endless, timeout=500)))
        until = time.monotonic() + 30
        while not processes_in(tmp_path) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert processes_in(tmp_path)
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        assert (processes_in(tmp_path), folders_in(tmp_path)) == ([], [])
        assert [task.id for task in await store.tree("r")] == ["r", "a"]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders of queries."""
    return list(folder.glob("apflow-query-*"))


def processes_in(folder: Path) -> list[str]:
    """Return the processes that have a folder of a query among their arguments."""
    found: list[str] = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{folder}/apflow-query-".encode() in each.read_bytes():
                found.append(each.parent.name)
        except OSError:  # it has ended
            continue
    return found
