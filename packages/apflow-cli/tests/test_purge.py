"""`apflow db purge` deletes what ended long ago, and `apflow db vacuum` makes the file smaller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest


def test_ended_trees_are_counted_then_deleted_and_the_file_is_vacuumed(apflow: Any):
    for tags in (["nightly"], []):
        apflow.run({"name": "add", "inputs": {"a": 1}, "tags": tags})
    apflow.json("tasks", "create", "--tasks", '[{"name": "pending"}]')

    def purged(*options: str) -> tuple[int, int]:
        found = apflow.json("db", "purge", *options)
        return found["trees"], found["tasks"]

    assert purged("--older-than", "1d") == (0, 0)
    assert purged("--older-than", "0s", "--dry-run") == (2, 2)
    assert len(apflow.json("tasks", "list")["tasks"]) == 3
    assert purged("--older-than", "0s", "--tag", "nightly") == (1, 1)
    done = apflow("db", "purge", "--older-than", "0s")
    assert done.stdout == "Deleted 1 tree with 1 task.\n"
    assert [each["name"] for each in apflow.json("tasks", "list")["tasks"]] == ["pending"]
    found = apflow.json("db", "vacuum")
    assert 0 < found["size_bytes_after"] <= found["size_bytes_before"]
    assert [each["name"] for each in apflow.json("tasks", "list")["tasks"]] == ["pending"]


def test_a_purge_needs_a_time(apflow: Any):
    for options in ((), ("--older-than", "soon")):
        done = apflow("db", "purge", *options)
        assert done.returncode == 2
        assert "--older-than" in done.stderr


def test_a_purge_takes_as_many_requests_as_it_needs(
    apflow: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    script = tmp_path / "few.py"
    script.write_text(
        "import sys\nfrom apflow.cli import main\nfrom apflow.cli.commands import db_purge\n"
        "db_purge.PER_CALL = 1\nsys.exit(main(sys.argv[1:]))\n"
    )
    for _ in range(3):
        apflow.run({"name": "add", "inputs": {"a": 1}})
    monkeypatch.setattr(apflow, "command", lambda *arguments: [sys.executable, str(script), *arguments])
    assert apflow.json("db", "purge", "--older-than", "0s")["trees"] == 3
