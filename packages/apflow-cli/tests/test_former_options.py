"""Options and commands that scripts of the former system use."""

from __future__ import annotations

import json

import pytest

STEP = {"name": "add", "inputs": {"a": 1}}


def test_tasks_are_created_updated_and_watched(apflow):
    created = apflow.json("tasks", "create", "-t", json.dumps({"id": "made", **STEP}), "-u", "ann")["root"]
    assert (created["id"], created["status"], created["user_id"]) == ("made", "pending", "ann")
    changed = apflow.json("tasks", "update", "made", "-p", "0", "-s", "completed", "--result", '{"n": 1}')[
        "task"
    ]
    assert (changed["priority"], changed["status"], changed["result"]) == (0, "completed", {"n": 1})
    watched = apflow("tasks", "watch", "made")
    assert watched.returncode == 0 and "snapshot made" in watched.stdout
    assert apflow("tasks", "update", "made").returncode == 2


def test_short_options_and_several_roots_of_run_flow(apflow):
    tasks = json.dumps([{"id": "one", **STEP}, {"id": "two", **STEP}])
    done = apflow.json("run", "flow", "-t", tasks, "-u", "ann", "-w", "--import", "works")
    assert [tree["root_task_id"] for tree in done["trees"]] == ["one", "two"]
    assert done["status"] == "completed"
    listed = apflow.json("tasks", "list", "-u", "ann", "-s", "completed", "-l", "1", "--root-only")["tasks"]
    assert len(listed) == 1
    assert len(apflow.json("tasks", "list", "--all-tasks")["tasks"]) == 2
    assert apflow.json("tasks", "count", "--root-only")["total"] == 2
    copied = apflow.json(
        "tasks",
        "copy",
        "one",
        "--copy-mode",
        "custom",
        "--custom-task-ids",
        "one",
        "--reset-fields",
        "inputs",
    )
    assert copied["root"]["inputs"] == {}
    rows = apflow("tasks", "status", "one,unknown", "--json")
    assert rows.returncode == 3
    assert [row["status"] for row in json.loads(rows.stdout)["tasks"]] == ["completed", "not_found"]


def test_a_protocol_that_the_server_does_not_speak_is_refused(apflow):
    done = apflow("serve", "--protocol", "soap")
    assert done.returncode == 2
    assert "soap" in done.stderr and "jsonrpc" in done.stderr


@pytest.mark.parametrize("name", ["jsonrpc", "A2A", "mcp", "rest"])
def test_each_protocol_that_the_server_speaks_is_accepted(apflow, name: str):
    done = apflow("serve", "--protocol", name, "--host", "not an address")
    assert done.returncode != 0
    assert "protocol" not in done.stderr
    assert "not an address" in done.stderr
