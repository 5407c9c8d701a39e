"""`apflow stats` shows figures of tasks that have ended."""

from __future__ import annotations

import csv
from typing import Any

TREE = [
    {"id": "sum", "name": "sum", "tags": ["a", "b"], "schemas": {"method": "add"}, "inputs": {"a": 1}},
    {
        "id": "first",
        "name": "first",
        "parent_id": "sum",
        "tags": ["a"],
        "schemas": {"method": "add"},
        "inputs": {"a": 2},
    },
]


def test_figures_are_shown_as_json_csv_and_a_table(apflow: Any):
    empty = apflow("stats")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "No task matches that has ended." in empty.stderr
    apflow.run(*TREE)
    found = apflow.json("stats", "--by", "tag", "--since", "1h")
    assert [(each["group"], each["tasks"]) for each in found["groups"]] == [("a", 2), ("b", 1)]
    assert found["total"]["tasks"] == 2
    lines = list(csv.DictReader(apflow("stats", "--by", "tag", "-o", "csv").stdout.splitlines()))
    assert [(each["tag"], each["tasks"], each["failure_rate"]) for each in lines] == [
        ("a", "2", lines[0]["failure_rate"]),
        ("b", "1", lines[1]["failure_rate"]),
    ]
    assert float(lines[0]["max_seconds"]) == found["groups"][0]["max_seconds"]
    shown = apflow("stats", "--tag", "b").stdout.splitlines()
    assert shown[0].split()[:4] == ["EXECUTOR", "TASKS", "FAILED", "RATE"]
    assert [each.split()[:2] for each in shown[1:3]] == [["add", "1"], ["total", "1"]]
    assert shown[-1].split()[0] == "sum"
