"""Several processes of one server, and one that restarts when a file changes: both on PostgreSQL."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Process, serve_process, wait_for

from apflow.core.process.identity import has_ended
from apflow.core.process.identity import started as process_started

MODULE = """
from apflow.core import BaseTask, executor_register

@executor_register(override=True)
class Says(BaseTask):
    id = "says"
    async def execute(self, inputs):
        return {"text": "TEXT"}
"""


def run(process: Process) -> Any:
    """Run a tree that says something, and return what."""
    tree = {"tasks": [{"name": "says"}], "wait": True}
    try:
        answer = httpx.post(f"{process.url}/call/tasks.execute", json=tree, timeout=20)
    except httpx.TransportError:
        return None
    return answer.json().get("result", {}).get("text")


def children(process: Process) -> set[int]:
    """The processes that the server has started."""
    pid = process.popen.pid
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_several_processes_serve_at_one_place_and_one_that_dies_is_replaced(
    tmp_path: Path, postgres_url: str
):
    (tmp_path / "says.py").write_text(MODULE)
    environment = {"APFLOW_DATABASE_URL": postgres_url}
    with serve_process(tmp_path, "--workers", "2", "--import", "says", environment=environment) as process:
        wait_for(lambda: len(children(process)) == 2)
        assert {run(process) for _ in range(4)} == {"TEXT"}
        first, second = sorted(children(process))
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(children(process) - {first}) == 2)
        assert second in children(process)
        wait_for(lambda: run(process) == "TEXT")
        assert process.end() == 0
    assert "Traceback" not in process.log.read_text()


HOLDS = """
import asyncio
from pathlib import Path
from apflow.core import BaseTask, executor_register

@executor_register(override=True)
class Holds(BaseTask):
    id = "holds"
    async def execute(self, inputs):
        Path("begun").touch()
        try:
            await asyncio.sleep(60)
        finally:
            Path("ended").touch()
"""


def hold(folder: Path, process: Process) -> str:
    """Start a task that holds one process, and return its id."""
    url = f"{process.url}/call/tasks.execute"
    task_id = httpx.post(url, json={"tasks": [{"name": "holds"}]}, timeout=20).json()["task_id"]
    wait_for((folder / "begun").exists)
    return str(task_id)


@pytest.mark.parametrize(
    ("option", "number"),
    [("--workers=2", signal.SIGKILL), ("--workers=2", signal.SIGHUP), ("--reload", signal.SIGKILL)],
)
def test_processes_drain_when_the_process_that_started_them_ends(
    tmp_path: Path, postgres_url: str, option: str, number: signal.Signals
):
    (tmp_path / "holds.py").write_text(HOLDS)
    environment = {"APFLOW_DATABASE_URL": postgres_url, "APFLOW_SHUTDOWN_TIMEOUT": "0"}
    with serve_process(tmp_path, option, "--import", "holds", environment=environment) as process:
        task_id = hold(tmp_path, process)
        started = {pid: process_started(pid) for pid in children(process)}
        process.end(number)
        wait_for(lambda: all(has_ended(pid, when or "") for pid, when in started.items()), 40)
    assert (tmp_path / "ended").exists()
    with serve_process(tmp_path, environment=environment) as process:  # it lacks the executor
        task = httpx.post(f"{process.url}/call/tasks.get", json={"id": task_id}, timeout=20).json()
        assert (task["status"], task["attempts"]) == ("pending", 0)


def test_a_terminal_that_closes_may_hang_up_several_times(tmp_path: Path, postgres_url: str):
    (tmp_path / "holds.py").write_text(HOLDS)
    environment = {"APFLOW_DATABASE_URL": postgres_url, "APFLOW_SHUTDOWN_TIMEOUT": "1"}
    with serve_process(tmp_path, "--workers=2", "--import", "holds", environment=environment) as process:
        hold(tmp_path, process)
        process.popen.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert process.end(signal.SIGHUP) == 0
    assert (tmp_path / "ended").exists()


def test_what_cannot_start_ends_all_of_them(tmp_path: Path, postgres_url: str):
    nobody = postgres_url.replace("postgresql://", "postgresql://nobody-of-this-name@", 1)
    (tmp_path / "says.py").write_text(MODULE)
    environment = {"APFLOW_DATABASE_URL": nobody if "@" not in postgres_url else postgres_url + "x"}
    with (
        pytest.raises(AssertionError, match="ended with"),
        serve_process(tmp_path, "--workers", "2", environment=environment),
    ):
        pass


def test_it_starts_anew_when_a_file_changes(tmp_path: Path, postgres_url: str):
    module = tmp_path / "says.py"
    module.write_text(MODULE)
    environment = {"APFLOW_DATABASE_URL": postgres_url}
    with serve_process(tmp_path, "--reload", "--import", "says", environment=environment) as process:
        assert run(process) == "TEXT"
        module.write_text(MODULE.replace("TEXT", "NEWS"))
        wait_for(lambda: run(process) == "NEWS", 40)
        assert process.end() == 0
