"""Agents that a setting names, on the command line: listed, described and run under their names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peers.a2aagent import a2a_agent


def apflow(folder: Path, agents: str, *arguments: str, code: int = 0) -> Any:
    """Run the program, and return what it prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "apflow.cli", *arguments, "--json"],
        cwd=folder,
        env=os.environ | {"APFLOW_A2A_AGENTS": agents, "APFLOW_DATABASE_URL": "duckdb:///known.duckdb"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_known_agent_is_an_executor_of_the_command_line(tmp_path: Path):
    with a2a_agent() as agent:
        known = f"oracle={agent.url}"
        listed = {each["id"]: each for each in apflow(tmp_path, known, "executors", "list")["executors"]}
        assert listed["oracle"]["is_usable"]
        assert listed["oracle"]["distribution"] == "apflow-executor-a2a"
        shown = apflow(tmp_path, known, "executors", "show", "oracle")["executor"]
        assert "message" in shown["input_schema"]["properties"]
        tasks = json.dumps([{"name": "oracle", "inputs": {"message": "hello you"}}])
        done = apflow(tmp_path, known, "run", "flow", "--tasks", tasks)
    assert "Hello you" in json.dumps(done)


@pytest.mark.parametrize("name", ["a2a_executor", "command_executor"])
def test_an_agent_with_the_name_of_an_executor_is_listed_as_not_usable(name: str, tmp_path: Path):
    listed = apflow(tmp_path, f"{name}=http://127.0.0.1:1", "executors", "list")["executors"]
    [shown] = [each for each in listed if each["id"] == name]
    assert not shown["is_usable"]
    assert "APFLOW_A2A_AGENTS" in shown["problem"]
