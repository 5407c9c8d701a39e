from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ADD = {"name": "sum", "schemas": {"method": "add"}, "inputs": {"a": 1, "b": 2}}


def submit(apflow: Any, *tasks: dict[str, Any], **options: str) -> dict[str, Any]:
    named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    return apflow.json(
        "run", "flow", "--tasks", json.dumps(tasks), "--import", "works", "--background", *named
    )


@contextmanager
def worker(apflow: Any) -> Iterator[subprocess.Popen[str]]:
    process = apflow.start("worker", "--import", "works")
    try:
        assert process.stderr.readline().startswith("Running what is submitted to ")
        yield process
    finally:
        process.kill()
        process.communicate()


def run_the_rest(apflow: Any, held: Any) -> None:
    """Let another worker run the task that holds on, to its end."""
    with worker(apflow) as process:
        held.wait_for_start()
        held.let_go()
        assert held.last_words() == "ended\n"
        process.send_signal(signal.SIGTERM)
        assert ended(process) == 0


def ended(process: subprocess.Popen[str]) -> int:
    return process.wait(timeout=30)


def test_what_is_submitted_waits_for_a_worker(apflow: Any, held: Any):
    hold = {"name": "hold", "schemas": {"method": "hold"}, "inputs": held.inputs}
    submitted = submit(apflow, hold)
    assert submitted["status"] == "pending"
    assert apflow.json("tasks", "status", submitted["root_task_id"])["tasks"][0]["status"] == "pending"
    with worker(apflow) as process:
        held.wait_for_start()
        process.send_signal(signal.SIGTERM)
        assert "SIGTERM" in process.stderr.readline()
        held.let_go()  # it may end its work
        assert ended(process) == 0
    shown = apflow.json("tasks", "get", submitted["root_task_id"])["task"]
    assert (shown["status"], shown["result"]) == ("completed", {"order": "go"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_takes_too_long_goes_back_and_another_worker_goes_on(
    apflow: Any, held: Any, number: signal.Signals
):
    apflow.environment["APFLOW_SHUTDOWN_TIMEOUT"] = "0"
    submitted = submit(apflow, {"name": "hold", "schemas": {"method": "hold"}, "inputs": held.inputs})
    with worker(apflow) as process:
        held.wait_for_start()
        process.send_signal(number)
        assert ended(process) == 0
    assert held.last_words() == "ended\n"
    assert apflow.json("tasks", "get", submitted["root_task_id"])["task"]["status"] == "pending"
    run_the_rest(apflow, held)
    shown = apflow.json("tasks", "get", submitted["root_task_id"])["task"]
    assert (shown["status"], shown["attempts"]) == ("completed", 1)


def test_a_second_signal_ends_it_at_once_and_nothing_is_lost(apflow: Any, held: Any):
    submitted = submit(apflow, {"name": "hold", "schemas": {"method": "hold"}, "inputs": held.inputs})
    with worker(apflow) as process:
        held.wait_for_start()
        process.send_signal(signal.SIGTERM)
        assert "SIGTERM" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert ended(process) == -signal.SIGTERM
    run_the_rest(apflow, held)
    assert apflow.json("tasks", "get", submitted["root_task_id"])["task"]["status"] == "completed"


def test_the_same_key_submits_once(apflow: Any):
    first, again = (submit(apflow, ADD, idempotency_key="k") for _ in range(2))
    assert first["root_task_id"] == again["root_task_id"]
    assert apflow.json("tasks", "count")["total"] == 1


def test_a_key_without_background_is_a_fault_of_usage(apflow: Any):
    done = apflow("run", "flow", "add", "--inputs", '{"a": 1}', "--idempotency-key", "k")
    assert done.returncode == 2
    assert "--background" in done.stderr


@pytest.mark.parametrize("limit", ["1"])
def test_too_much_submitted_work_is_refused(apflow: Any, limit: str):
    apflow.environment["APFLOW_MAX_REQUESTED"] = limit
    submit(apflow, ADD)
    done = apflow("run", "flow", "add", "--inputs", '{"a": 1}', "--import", "works", "--background")
    assert done.returncode == 4
    assert "max_requested" in done.stderr
    assert apflow.json("tasks", "count")["total"] == 1


def test_an_idle_worker_ends_when_it_is_told(apflow: Any, tmp_path: Path):
    with worker(apflow) as process:
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert ended(process) == 0
    assert not list(tmp_path.glob("*.wal"))


def test_workers_are_listed_while_they_work(apflow: Any):
    with worker(apflow) as process:
        [listed] = apflow.json("workers")["workers"]
        assert (listed["pid"], listed["status"], listed["trees"]) == (process.pid, "running", 0)
        titles, row = apflow("workers").stdout.splitlines()
        heads = ["HOST", "PID", "STATUS", "TREES", "CALLS", "OFFERS", "STARTED_AT", "VERSION"]
        assert titles.split() == heads
        assert str(process.pid) in row.split()
    nothing = apflow("workers")
    assert nothing.returncode == 0
    assert f"No worker runs what is submitted to {apflow.url}." in nothing.stderr
