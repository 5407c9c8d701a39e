"""How commands that run trees end when a signal, or the code of a task, ends the process."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest

# Executors that ignore cancellation, or end the process.
MODULE = '''
import asyncio, os, time
from apflow.core import BaseTask, executor_register


@executor_register()
class Stubborn(BaseTask):
    """Returns the line that it reads from a socket. Reports each cancellation and continues to wait."""

    id = "stubborn"

    async def execute(self, inputs):
        orders, test = await asyncio.open_connection("127.0.0.1", inputs["port"])
        test.write(b"started\\n")
        while True:
            try:
                return {"order": (await orders.readline()).decode().strip()}
            except asyncio.CancelledError:
                test.write(b"cancelled\\n")


@executor_register()
class Leave(BaseTask):
    id = "leave"

    async def execute(self, inputs):
        with open(inputs["file"], "a") as file:
            file.write("started\\n")
        os._exit(9)
'''


@pytest.fixture
def ends(apflow: Any) -> Any:
    (apflow.folder / "ends.py").write_text(MODULE)
    apflow.environment |= {"APFLOW_CANCEL_GRACE": "60", "APFLOW_CANCEL_WAIT": "60", "PYTHONWARNINGS": ""}
    return apflow


def start_stubborn(apflow: Any, held: Any) -> subprocess.Popen[str]:
    process = apflow.start("run", "flow", "stubborn", "--inputs", json.dumps(held.inputs), "--import", "ends")
    held.wait_for_start()
    return process


@pytest.mark.parametrize("command", ["run", "resume"])
def test_a_second_ctrl_c_ends_the_process_and_the_task_stays_cancelled(ends: Any, held: Any, command: str):
    process = start_stubborn(ends, held)
    if command == "resume":
        process.kill()
        process.communicate()
        process = ends.start("tasks", "resume", "--all", "--import", "ends")
        held.wait_for_start()
    process.send_signal(signal.SIGINT)
    assert held.last_words() == "cancelled\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""
    (task,) = ends.json("tasks", "list")["tasks"]
    assert task["status"] == "in_progress"  # its process has ended before its code has
    ends.json("tasks", "resume", "--all", "--import", "ends", code=7)
    (task,) = ends.json("tasks", "list")["tasks"]
    assert task["status"] == "cancelled"  # the first Ctrl-C requested it: the task does not run again


def test_a_task_that_ends_its_process_twice_is_not_started_a_third_time(ends: Any):
    log = ends.folder / "starts"
    arguments = ("--import", "ends", "--json")
    first = ends("run", "flow", "leave", "--inputs", json.dumps({"file": str(log)}), *arguments)
    assert first.returncode == 9
    (task,) = ends.json("tasks", "list")["tasks"]
    assert task["status"] == "in_progress"
    assert ends("tasks", "resume", "--all", *arguments).returncode == 9
    third = ends("tasks", "resume", "--all", *arguments)
    assert third.returncode == 1, third.stderr
    assert log.read_text() == "started\n" * 2
    task = ends.json("tasks", "get", task["id"])["task"]
    assert task["status"] == "failed"
    assert task["result"]["error_type"] == "Interrupted"
    assert "died during the call 2 times" in task["error"]
    assert ends("tasks", "resume", "--all", *arguments).returncode == 0  # nothing is left to resume
    assert log.read_text() == "started\n" * 2
