"""`apflow plan` shows what a file would do, and stores nothing."""

from __future__ import annotations

import json
from typing import Any

TREE = [
    {
        "id": "sum",
        "name": "sum",
        "schemas": {"method": "add"},
        "dependencies": ["first"],
        "inputs": {"a": {"$from": "first", "path": "sum"}},
    },
    {"id": "first", "name": "first", "parent_id": "sum", "schemas": {"method": "add"}, "inputs": {"a": 1}},
]


def test_a_plan_has_waves_at_first_and_durations_after_a_run(apflow: Any):
    (apflow.folder / "tree.json").write_text(json.dumps(TREE))
    command = ("plan", "tree.json", "--import", "works")
    found = apflow.json(*command)
    assert (found["waves"], found["problems"], found["without_history"]) == ([["first"], ["sum"]], [], 2)
    assert apflow.json("tasks", "list")["tasks"] == []
    apflow.run(*TREE)
    found = apflow.json(*command)
    assert (found["without_history"], [each["runs"] for each in found["tasks"]]) == (0, [1, 1])
    done = apflow(*command)
    assert done.returncode == 0
    assert "Critical path: first -> sum (" in done.stdout
    assert "Executors: add" in done.stdout


def test_what_would_fail_is_named_and_the_exit_code_says_so(apflow: Any):
    tree = [{"name": "a", "schemas": {"method": "nowhere"}, "inputs": {"key": {"$secret": "NOT_SET"}}}]
    (apflow.folder / "tree.json").write_text(json.dumps(tree))
    done = apflow("plan", "tree.json")
    assert done.returncode == 2
    assert "Problem: tasks[0] ('a'): " in done.stdout
    assert "Secret NOT_SET: missing" in done.stdout
    tree[0]["schemas"] = {"method": "add"}
    (apflow.folder / "tree.json").write_text(json.dumps(tree))
    apflow.json("plan", "tree.json", "--import", "works", code=2)
