"""The daemon: one process for a database, which survives the shell and leaves no stale state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from peers.processes import is_alive

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="daemons need POSIX locks")

EXECUTORS = """
import asyncio, os, sys
from apflow.core import BaseTask, executor_register

@executor_register(override=True)
class Add(BaseTask):
    id = "add"
    async def execute(self, inputs):
        return {"sum": inputs["a"] + 1, "pid": os.getpid()}

@executor_register(override=True)
class Hold(BaseTask):
    id = "hold"
    async def execute(self, inputs):
        await asyncio.sleep(120)

@executor_register(override=True)
class Shout(BaseTask):
    id = "shout"
    async def execute(self, inputs):
        for n in range(inputs["lines"]):
            os.write(2, b"shouted %d\\n" % n)
            if n % 100 == 0:
                await asyncio.sleep(0.02)
"""


class Place:
    """A folder with a database, executors and a folder for states, in which commands run."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        self.environment = {
            **kept,
            "APFLOW_DATABASE_URL": url,
            "APFLOW_SHUTDOWN_TIMEOUT": "1",
            "APFLOW_LEASE_SECONDS": "2",
            "PYTHONPATH": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "HOME": str(folder),
        }
        (folder / "executors.py").write_text(EXECUTORS)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "apflow.cli", *arguments]

    def __call__(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment | more, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: str, code: int = 0, **more: str) -> Any:
        done, out, said = self(*arguments, "--json", **more)
        assert done == code, (done, out, said)
        return json.loads(out)

    def status(self) -> dict[str, Any] | None:
        done, out, _ = self("daemon", "status", "--json")
        found = json.loads(out)
        assert (done, found["running"]) in ((0, True), (3, False))
        return found["daemon"]

    def states(self) -> list[Path]:
        return list(self.folder.glob("state/apflow/daemons/*/state.json"))

    def task(self, task_id: str) -> dict[str, Any]:
        return self.json("tasks", "get", task_id)["task"]

    def submit(self, executor: str, inputs: dict[str, Any], *more: str, **environment: str) -> str:
        given = ["--inputs", json.dumps(inputs), "--background", *more]
        return str(self.json("run", "flow", executor, *given, **environment)["root_task_id"])


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def processes_of(place: Place) -> list[int]:
    """Return the processes that run for the database of a place."""
    found = psutil.process_iter(["environ"])  # None of a process that is of another user, or that has ended
    url = place.environment["APFLOW_DATABASE_URL"]
    return [each.pid for each in found if (each.info["environ"] or {}).get("APFLOW_DATABASE_URL") == url]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, f"duckdb:///{tmp_path / 'tasks.duckdb'}")
    yield place
    end(place)


@pytest.fixture
def shared(tmp_path: Path, postgres_url: str) -> Iterator[Place]:
    place = Place(tmp_path, postgres_url)
    yield place
    end(place)


def end(place: Place) -> None:
    """End the daemon of a place, whatever state it is in."""
    for state in place.states():
        pid = json.loads(state.read_text())["pid"]
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not is_alive(pid))  # noqa: B023 - called at once


def test_a_daemon_runs_what_is_submitted_until_it_is_stopped(place: Place):
    assert place.status() is None
    started = place.json("daemon", "start", "--import", "executors")
    pid = started["daemon"]["pid"]
    assert started["started"]
    assert os.getsid(pid) == pid  # in another session than the terminal
    assert place.status() == started["daemon"] | {"state": "running", "modules": ["executors"]}
    root = place.submit("add", {"a": 1})
    wait_for(lambda: place.task(root)["status"] == "completed")
    assert place.task(root)["result"] == {"sum": 2, "pid": pid}
    again = place.json("daemon", "start")
    assert (again["started"], again["daemon"]["pid"]) == (False, pid)
    assert f"process {pid}" in place("daemon", "logs")[1]
    assert place.json("daemon", "stop") == {"schema_version": 1, "stopped": True, "pid": pid}
    assert not is_alive(pid)
    assert place.status() is None
    assert place.states() == []
    assert place.json("daemon", "stop")["stopped"] is False
    assert place("tasks", "count")[0] == 0


def test_a_restart_keeps_the_modules_and_running_trees_continue(place: Place):
    first = place.json("daemon", "start", "--import", "executors")["daemon"]["pid"]
    root = place.submit("hold", {})
    wait_for(lambda: place.task(root)["status"] == "in_progress")
    second = place.json("daemon", "restart")["daemon"]
    assert second["pid"] != first
    assert second["modules"] == ["executors"]
    assert not is_alive(first)
    wait_for(lambda: place.task(root)["status"] == "in_progress")


def test_starts_at_the_same_time_give_one_daemon(place: Place):
    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(lambda _: place.json("daemon", "start"), range(6)))
    assert len({each["daemon"]["pid"] for each in done}) == 1
    assert sum(each["started"] for each in done) == 1
    # The processes that lost wait two seconds for the lock, and must not get it from `end`.
    wait_for(lambda: processes_of(place) == [done[0]["daemon"]["pid"]])


def test_after_a_kill_no_daemon_is_shown_and_a_start_works(place: Place):
    for _ in range(3):
        pid = place.json("daemon", "start")["daemon"]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(pid))  # noqa: B023 - called at once
        assert len(place.states()) == 1
        assert place.status() is None
        assert place.states() == []
    assert place.json("daemon", "stop")["stopped"] is False


def test_a_daemon_that_cannot_start_says_why(place: Place):
    (place.folder / "tasks.duckdb").write_text("no database")
    code, out, said = place("daemon", "start")
    assert (code, out) == (5, "")
    assert "tasks.duckdb" in said
    assert "Its log" in said
    assert place.status() is None
    code, _, said = place("daemon", "start", APFLOW_DATABASE_URL="memory://")
    assert code == 2
    assert "memory://" in said


def test_the_log_is_rotated_and_no_line_is_lost(place: Place):
    place.environment["APFLOW_DAEMON_LOG_MAX_BYTES"] = "20000"
    log = Path(place.json("daemon", "start", "--import", "executors")["daemon"]["log"])
    seen = place.folder / "seen"
    with seen.open("w") as output:
        following = subprocess.Popen(
            place.command("daemon", "logs", "--follow"),
            cwd=place.folder,
            env=place.environment,
            stdout=output,
        )
    wait_for(lambda: "The daemon runs" in seen.read_text())
    count = 12_000  # a few seconds: several rotations
    root = place.submit("shout", {"lines": count})
    wait_for(lambda: place.task(root)["status"] == "completed")
    place("daemon", "stop")
    kept = [log.with_name(f"{log.name}.{n}") for n in range(9, 0, -1)] + [log]
    lines = [line for each in kept if each.exists() for line in each.read_text().splitlines()]
    assert log.with_name("daemon.log.1").exists()
    assert not log.with_name("daemon.log.6").exists()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("shouted ")]
    assert numbers == list(range(numbers[0], count))
    try:
        wait_for(lambda: f"shouted {count - 1}\n" in seen.read_text())
    finally:
        following.kill()
        following.wait()


def test_a_submission_starts_the_daemon_where_no_process_would_run_it(place: Place):
    root = place.submit("add", {"a": 1}, "--import", "executors")
    wait_for(lambda: place.task(root)["status"] == "completed")
    daemon = place.status()
    assert daemon is not None
    assert place.task(root)["result"]["pid"] == daemon["pid"]
    other = place.submit("add", {"a": 2})
    wait_for(lambda: place.task(other)["status"] == "completed")
    assert place.task(other)["result"]["pid"] == daemon["pid"]


def test_a_submission_starts_no_daemon_where_that_is_switched_off_or_a_worker_runs(place: Place):
    place.submit("add", {"a": 1}, APFLOW_BACKGROUND_DAEMON="false")
    assert place.status() is None
    worker = subprocess.Popen(
        place.command("worker", "--import", "executors"), cwd=place.folder, env=place.environment,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert worker.stderr is not None
        assert "Running what is submitted" in worker.stderr.readline()
        root = place.submit("add", {"a": 2})
        assert place.status() is None
        wait_for(lambda: place.task(root)["status"] == "completed")
    finally:
        worker.kill()
        worker.communicate()


def test_a_daemon_waits_for_a_run_that_holds_the_database(place: Place):
    run = subprocess.Popen(
        place.command("run", "flow", "hold", "--inputs", "{}", "--import", "executors"), cwd=place.folder,
        env=place.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: place("tasks", "list", "--status", "in_progress")[1].count("hold"))
        root = place.submit("add", {"a": 1}, "--import", "executors")
        daemon = place.status()
        assert daemon is not None
        assert daemon["state"] == "waiting"
        run.send_signal(signal.SIGINT)
        run.wait(60)
        wait_for(lambda: place.task(root)["status"] == "completed")
        assert place.task(root)["result"]["pid"] == daemon["pid"]
    finally:
        run.kill()
        run.wait()


def test_a_submission_to_postgresql_starts_the_daemon_once(shared: Place):
    root = shared.submit("add", {"a": 1}, "--import", "executors")
    wait_for(lambda: shared.task(root)["status"] == "completed")
    daemon = shared.status()
    assert daemon is not None
    assert "@" not in daemon["database"] or "***" in daemon["database"] or ":" not in daemon["database"][13:]
    other = shared.submit("add", {"a": 2})
    wait_for(lambda: shared.task(other)["status"] == "completed")
    assert shared.status() == daemon
