"""`apflow tasks export` writes trees as JSON lines."""

from __future__ import annotations

import gzip
import json
from typing import Any

ADD = {"schemas": {"method": "add"}, "inputs": {"a": 1}}
TREE = [
    {"id": "sum", "name": "sum", "tags": ["t"], **ADD},
    {"id": "one", "name": "one", "parent_id": "sum", **ADD},
]


def test_trees_are_written_with_attempts_and_events(apflow: Any):
    apflow.run(*TREE)
    done = apflow("tasks", "export", "-", "--status", "completed")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["task"]["id"] for each in lines if "task" in each] == ["sum", "one"]
    assert [each["attempt"]["outcome"] for each in lines if "attempt" in each] == ["completed", "completed"]
    numbers = [each["event"]["sequence"] for each in lines if "event" in each]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "Exported 2 tasks, 2 attempts, " in done.stderr
    found = apflow.json("tasks", "export", "kept.jsonl.gz", "--tag", "t")
    assert found["rows"] == {"task": 2, "attempt": 2, "event": len(numbers)}
    with gzip.open(apflow.folder / "kept.jsonl.gz", "rt") as file:
        assert [json.loads(line) for line in file] == lines
    assert apflow("tasks", "export", "kept.jsonl.gz").returncode == 2  # it exists
    assert apflow("tasks", "export", "-", "--tag", "other").stdout == ""
