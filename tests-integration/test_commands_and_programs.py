"""Programs that `apflow run flow` starts: they do not outlive it, and resuming starts no second copy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers.processes import is_alive

PROGRAM = "sh -c 'sh -c \"echo $$ >> {0}/pids; exec sleep 60\" & echo $$ >> {0}/pids; wait'"


def until(claim: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := claim()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


class Apflow:
    """The program, with a database in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = {
            "APFLOW_DATABASE_URL": f"duckdb:///{folder}/tasks.duckdb",
            "APFLOW_COMMAND_ALLOW": "*",
            "APFLOW_SHUTDOWN_TIMEOUT": "0",
            "HOME": str(folder),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        self.environment = kept | own

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "apflow.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.folder,
        )

    def json(self, *arguments: str) -> Any:
        out, err = self.start(*arguments, "--json").communicate(timeout=60)
        assert out, err
        return json.loads(out)

    def pids(self, number: int) -> list[int]:
        """Wait until so many processes have said that they run, and return them."""
        file = self.folder / "pids"
        until(lambda: file.exists() and len(file.read_text().split()) >= number)
        return [int(word) for word in file.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_programs_end_with_the_run_and_resuming_runs_one_copy(tmp_path: Path, number: int):
    apflow = Apflow(tmp_path)
    inputs = json.dumps({"command": PROGRAM.format(tmp_path), "timeout": 100})
    process = apflow.start("run", "flow", "command_executor", "--inputs", inputs)
    first = apflow.pids(2)
    process.send_signal(number)
    process.communicate(timeout=60)
    until(lambda: not any(is_alive(each) for each in first))
    (task,) = apflow.json("tasks", "list")["tasks"]
    assert task["status"] == ("in_progress" if number == signal.SIGKILL else "pending")
    resumed = apflow.start("tasks", "resume", task["id"])
    second = apflow.pids(4)[2:]
    assert [is_alive(each) for each in [*first, *second]] == [False, False, True, True]
    resumed.send_signal(signal.SIGTERM)
    resumed.communicate(timeout=60)
    until(lambda: not any(is_alive(each) for each in second))
    assert len(apflow.pids(4)) == 4
