"""`apflow db query` answers SQL, and writes the rows in several formats."""

from __future__ import annotations

import json
from typing import Any

ADD = {"schemas": {"method": "add"}, "inputs": {"a": 1}}
TREE = [{"id": "sum", "name": "sum", **ADD}, {"id": "one", "name": "one", "parent_id": "sum", **ADD}]
PATIENTLY = ("--timeout", "300")
SQL = "SELECT key, status, executor AS e FROM tasks ORDER BY key"


def test_rows_are_written_as_a_table_json_csv_and_parquet(apflow: Any):
    apflow.run(*TREE)
    shown = apflow("db", "query", SQL, *PATIENTLY)
    assert shown.stdout == "KEY  STATUS     E\none  completed  add\nsum  completed  add\n", shown.stderr
    found = apflow.json("db", "query", SQL, *PATIENTLY, "--limit", "1")
    assert (found["rows"], found["row_count"], found["has_more"]) == ([["one", "completed", "add"]], 1, True)
    limited = apflow("db", "query", SQL, *PATIENTLY, "--limit", "1", "-o", "csv")
    assert limited.stdout == "key,status,e\none,completed,add\n"
    assert "--limit N gives more" in limited.stderr
    for name, start in (("t.parquet", b"PAR1"), ("t.csv", b"key,status,e\none"), ("t.json", b'{"schema')):
        done = apflow("db", "query", SQL, *PATIENTLY, "--output", name)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert (apflow.folder / name).read_bytes().startswith(start)
    assert json.loads((apflow.folder / "t.json").read_text())["row_count"] == 2
    assert apflow("db", "query", SQL, *PATIENTLY, "--output", "t.csv").returncode == 2  # it exists


def test_what_cannot_be_written_or_asked_is_refused(apflow: Any):
    for arguments, expected in (
        (("SELECT 1", "-o", "parquet"), "Name a file for it"),
        (("SELECT 1", "--output", "rows.txt"), "Choose one of them with --format"),
        (("SELECT 1", "--timeout", "0"), "0"),
        (("DELETE FROM tasks", *PATIENTLY), "Only a query that reads"),
        (("SELECT * FROM apflow_tasks", *PATIENTLY), "The views are tasks, runs, attempts, events, usage."),
    ):
        done = apflow("db", "query", *arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert expected in done.stderr
