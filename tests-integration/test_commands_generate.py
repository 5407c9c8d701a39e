"""`apflow generate task-tree`, with a scripted model and a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apflow.testing.modelserver import ModelServer, Reply, model_server

TASKS: list[dict[str, Any]] = [
    {"id": "all", "name": "Everything"},
    {
        "id": "cpu",
        "name": "Look at the CPU",
        "parent_id": "all",
        "schemas": {"method": "system_info_executor"},
        "inputs": {"resource": "cpu"},
    },
    {
        "id": "sum",
        "name": "Put together",
        "parent_id": "all",
        "schemas": {"method": "aggregate_results_executor"},
        "dependencies": [{"id": "cpu"}],
    },
]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        running.default = Reply(json.dumps({"tasks": TASKS}))
        yield running


def apflow(server: ModelServer, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "APFLOW_DATABASE_URL": f"duckdb:///{folder / 'tasks.duckdb'}",
        "OPENAI_API_BASE": server.openai_url,
        "OPENAI_API_KEY": "key-of-environment",
    }
    return subprocess.run(
        [sys.executable, "-m", "apflow.cli", *arguments],
        env=os.environ | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_tasks_go_to_standard_output_and_a_preview_to_standard_error(server: ModelServer, tmp_path: Path):
    options = ("--temperature", "0.9", "--max-tokens", "6000", "--provider", "openai", "--model", "gpt-4o")
    run = apflow(server, tmp_path, "generate", "task-tree", "Look at the CPU.", *options)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == TASKS
    assert "  Put together  [sum: aggregate_results_executor, after cpu]" in run.stderr
    body = server.requests[0].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("gpt-4o", 0.9, 6000)


def test_a_saved_file_runs_and_a_saved_tree_waits(server: ModelServer, tmp_path: Path):
    kept = ("--output", "tasks.json", "--save", "--user-id", "user123", "--json")
    run = apflow(server, tmp_path, "generate", "task-tree", "Look at the CPU.", *kept)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["count"] == 3
    shown = apflow(server, tmp_path, "tasks", "get", found["root_task_id"], "--json")
    task = json.loads(shown.stdout)["task"]
    assert (task["status"], task["user_id"]) == ("pending", "user123")
    done = apflow(server, tmp_path, "run", "flow", "--tasks-file", "tasks.json")
    assert done.returncode == 0, done.stderr


def test_a_hopeless_model_is_one_error(server: ModelServer, tmp_path: Path):
    server.default = Reply("I would rather not.")
    run = apflow(server, tmp_path, "generate", "task-tree", "Look at the CPU.")
    assert (run.returncode, run.stdout) == (1, "")
    assert "Error: No tree was generated: openai/gpt-4o: no valid answer after 3 calls" in run.stderr
