"""One task ends its process twice: it fails, and the tasks that shared the process with it complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BYSTANDERS = 4
MODULE = '''
import asyncio, os
from pathlib import Path
from apflow.core import BaseTask, executor_register

starts = Path("starts")


def note(line):
    with starts.open("a") as file:
        file.write(line + "\\n")


@executor_register()
class Crash(BaseTask):
    """Ends its process when the others have started."""

    id = "crash"

    async def execute(self, inputs):
        note("crash")
        while sum(line.startswith("by") for line in starts.read_text().splitlines()) < inputs["others"]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.7)
        os._exit(9)


@executor_register()
class Bystander(BaseTask):
    id = "bystander"

    async def execute(self, inputs):
        note(f"by {inputs['n']}")
        await asyncio.sleep(2)
        note(f"end {inputs['n']}")
        return {}
'''


class Workers:
    """Workers of one database; each that ends is replaced."""

    def __init__(self, folder: Path, database: str, count: int) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        given = {
            "APFLOW_DATABASE_URL": database,
            "APFLOW_BACKGROUND_DAEMON": "false",
            "APFLOW_LEASE_SECONDS": "2",
            "PYTHONPATH": str(folder),
        }
        self.environment = {**kept, **given}
        self.count = count
        self.exits: list[int] = []
        self.running: list[subprocess.Popen[bytes]] = []
        (folder / "crashes.py").write_text(MODULE)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "apflow.cli", *arguments]

    def __call__(self, *arguments: str) -> Any:
        done = subprocess.run(
            self.command(*arguments, "--json"),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def replace(self) -> None:
        """Start a worker for each that has ended."""
        ended = [each for each in self.running if each.poll() is not None]
        self.exits += [each.returncode for each in ended]
        self.running = [each for each in self.running if each.poll() is None]
        with (self.folder / "log").open("ab") as log:
            while len(self.running) < self.count:
                command = self.command("worker", "--import", "crashes")
                self.running.append(
                    subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
                )

    def end(self) -> None:
        for each in self.running:
            each.terminate()
        for each in self.running:
            each.wait(60)
        self.running = []


@contextmanager
def workers(folder: Path, database: str, count: int) -> Generator[Workers]:
    started = Workers(folder, database, count)
    try:
        yield started
    finally:
        for each in started.running:
            each.kill()
            each.wait()


@pytest.fixture(params=["duckdb", "postgres"])
def crashing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workers]:
    is_shared = request.param == "postgres"
    database = (
        request.getfixturevalue("postgres_url") if is_shared else f"duckdb:///{tmp_path / 'tasks.duckdb'}"
    )
    with workers(tmp_path, database, 2 if is_shared else 1) as found:
        yield found


def submit(crashing: Workers) -> None:
    crash = {"id": "crash", "name": "crash", "inputs": {"others": BYSTANDERS}}
    others = [{"id": f"by{n}", "name": "bystander", "inputs": {"n": n}} for n in range(BYSTANDERS)]
    for task in (crash, *others):
        crashing("run", "flow", "--background", "--tasks", json.dumps([task]), "--import", "crashes")


def count_starts(crashing: Workers) -> dict[str, int]:
    file = crashing.folder / "starts"
    lines = file.read_text().splitlines() if file.exists() else []
    return {line: lines.count(line) for line in lines}


def has_ended(crashing: Workers) -> bool:
    starts = count_starts(crashing)
    return all(f"end {n}" in starts for n in range(BYSTANDERS))


def read_tasks(crashing: Workers) -> dict[str, dict[str, Any]]:
    return {task["id"]: task for task in crashing("tasks", "list")["tasks"]}


def test_tasks_that_share_the_process_with_a_crashing_task_complete(crashing: Workers):
    submit(crashing)
    deadline = time.monotonic() + 150
    while len(crashing.exits) < 2 or not has_ended(crashing):
        assert time.monotonic() < deadline, (count_starts(crashing), (crashing.folder / "log").read_text())
        crashing.replace()
        time.sleep(0.05)
    crashing.end()
    tasks = read_tasks(crashing)
    while tasks["crash"]["status"] == "in_progress":  # the last worker ended before it took the tree over
        assert time.monotonic() < deadline, (crashing.folder / "log").read_text()
        crashing.replace()
        time.sleep(1)
        crashing.end()
        tasks = read_tasks(crashing)
    assert {each: task["status"] for each, task in tasks.items()} == {
        "crash": "failed",
        **{f"by{n}": "completed" for n in range(BYSTANDERS)},
    }
    assert tasks["crash"]["result"]["error_type"] == "Interrupted"
    assert crashing.exits == [9, 9]
    starts = count_starts(crashing)
    assert starts["crash"] == 2
    assert max(starts[f"by {n}"] for n in range(BYSTANDERS)) <= 3
