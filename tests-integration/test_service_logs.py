"""The log of `apflow worker`: as text and as JSON, with the time, the tree and the task of what failed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from serving import wait_for

TASKS = json.dumps([
    {"id": "r", "name": "nightly"},
    {"id": "a", "name": "load", "parent_id": "r", "schemas": {"method": "nothing_executor"}},
    {"id": "b", "name": "report", "parent_id": "r", "dependencies": ["a"], "schemas": {"method": "nothing"}},
])  # fmt: skip
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


def environment(folder: Path, log_format: str) -> dict[str, str]:
    ours = {"APFLOW_DATABASE_URL": f"duckdb:///{folder}/t.duckdb", "APFLOW_LOG_FORMAT": log_format}
    return {**os.environ, **ours, "APFLOW_BACKGROUND_DAEMON": "false"}


def log_of_a_failed_run(folder: Path, log_format: str) -> str:
    """Return what a worker logs that runs a tree with an unknown executor."""
    command = [sys.executable, "-m", "apflow.cli"]
    given = environment(folder, log_format)
    subprocess.run(
        [*command, "run", "flow", "--background", "--tasks", TASKS],
        env=given,
        check=True,
        capture_output=True,
    )
    log = folder / "worker.log"
    with log.open("w") as output:
        worker = subprocess.Popen([*command, "worker"], env=given, stdout=output, stderr=output)
    try:
        wait_for(lambda: "nightly" in log.read_text(), 60)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    finally:
        worker.kill()
        worker.wait()
    return log.read_text()


def test_text_has_the_time_the_tree_and_the_task(tmp_path: Path):
    logged = log_of_a_failed_run(tmp_path, "text")
    about_runs = [line for line in logged.splitlines() if " apflow.runs " in line]
    of_task, of_tree = about_runs
    assert re.match(rf"{TIME} WARNING apflow\.runs \[tree r task a\]: Task 'load' failed: ", of_task)
    assert re.match(rf"{TIME} WARNING apflow\.runs \[tree r\]: Tree 'nightly' failed: ", of_tree)


def test_json_has_the_same_as_fields(tmp_path: Path):
    logged = log_of_a_failed_run(tmp_path, "json")
    records = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    of_task, of_tree = [each for each in records if each["logger"] == "apflow.runs"]
    assert (of_task["task_id"], of_task["root_task_id"]) == ("a", "r")
    assert (of_task["level"], of_task["error_type"]) == ("warning", "ExecutorNotFound")
    assert of_tree["task_id"] == "r"


@pytest.mark.parametrize("log_format", ["xml", "TEXT"])
def test_an_unknown_format_is_refused(tmp_path: Path, log_format: str):
    done = subprocess.run(
        [sys.executable, "-m", "apflow.cli", "worker"],
        env=environment(tmp_path, log_format),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "APFLOW_LOG_FORMAT" in done.stderr
