"""`--no-cache`, and what the commands say of cached results and of limits."""

from __future__ import annotations

import json
from typing import Any

LIMIT = {"key": "sums", "rate": "60/min", "concurrency": 2}
ADD = {
    "name": "sum",
    "schemas": {"method": "add"},
    "inputs": {"a": 1},
    "policy": {"cache": {"ttl": "1d"}, "limit": LIMIT},
}


def test_a_run_takes_a_cached_result_unless_it_is_told_not_to(apflow: Any):
    (apflow.folder / "tree.json").write_text(json.dumps([ADD]))
    command = ("tree.json", "--import", "works")
    first = apflow.json("run", "flow", *command)["root_task_id"]
    planned = apflow("plan", *command).stdout
    assert "Cached: sum" in planned
    assert "Limit 'sums' (60/min, 2 at once)" in planned

    second = apflow.json("run", "flow", *command)["root"]
    assert second["cached_from"] == first
    assert f"task {first} had done the same" in apflow("tasks", "why", second["id"]).stdout
    assert apflow.json("run", "flow", *command, "--no-cache")["root"]["cached_from"] is None
