"""`apflow db purge` deletes what ended long ago, and `apflow db vacuum` makes the file smaller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

# The program, with so few trees in each request that a purge needs several.
PROGRAM = """
import sys
from apflow.cli import main
from apflow.cli.commands import db_purge

db_purge.PER_CALL = 1
sys.exit(main(sys.argv[1:]))
"""


def test_ended_trees_are_counted_then_deleted_and_the_file_is_vacuumed(
    apflow: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    script = tmp_path / "few.py"
    script.write_text(PROGRAM)
    monkeypatch.setattr(apflow, "command", lambda *arguments: [sys.executable, str(script), *arguments])
    trees = [{"id": name, "name": "add", "inputs": {"a": 1}} for name in "abc"]
    apflow.run(trees[0] | {"tags": ["nightly"]}, *trees[1:])
    found = apflow.json("db", "purge", "--older-than", "0s", "--dry-run")
    assert (found["trees"], found["tasks"], found["dry_run"]) == (3, 3, True)
    assert apflow.json("db", "purge", "--older-than", "0s", "--tag", "nightly")["trees"] == 1
    assert apflow("db", "purge", "--older-than", "0s").stdout == "Deleted 2 trees with 2 tasks.\n"
    assert apflow.json("db", "vacuum")["size_bytes_after"] > 0
    assert apflow.json("tasks", "list")["tasks"] == []


def test_a_purge_needs_a_time(apflow: Any):
    for options in ((), ("--older-than", "soon")):
        done = apflow("db", "purge", *options)
        assert done.returncode == 2
        assert "--older-than" in done.stderr
