"""`apflow logs`, and standard output that holds data only, whatever tasks print."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import Any

import pytest

from apflow.cli.session.running import event_lines

NOISY = """
import asyncio, logging, os, subprocess, sys, threading
from apflow.core import BaseTask, executor_register


@executor_register()
class Noisy(BaseTask):
    id = "noisy"

    async def execute(self, inputs):
        print("printed")
        print("to stderr", file=sys.stderr)
        logging.getLogger("noisy").info("recorded")
        sys.stdout.buffer.write(b"bytes\\n")
        self.log("own line", level="ERROR")
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
        subprocess.run([sys.executable, "-c", "print('from a program')"], check=True)
        os.write(1, b"from the descriptor\\n")
        return {"done": True}
"""
TASK = {"id": "noisy-task", "name": "noisy"}
CAPTURED = ["printed", "to stderr", "recorded", "bytes", "own line"]
DIRECT = ["from a thread", "from a program", "from the descriptor"]


@pytest.fixture
def noisy(apflow: Any) -> Any:
    (apflow.folder / "noisy.py").write_text(NOISY)
    return apflow


def run(apflow: Any, *more: str, **options: Any) -> subprocess.CompletedProcess[str]:
    done = apflow("run", "flow", "--tasks", json.dumps(TASK), "--import", "noisy", *more, **options)
    assert done.returncode == 0, done.stderr
    return done


def test_standard_output_holds_data_only(noisy: Any):
    done = run(noisy, "--json")
    assert json.loads(done.stdout)["result"] == {"done": True}
    assert done.stderr.splitlines() == DIRECT
    lines = noisy.json("logs", "noisy-task")["lines"]
    assert [line["message"] for line in lines] == CAPTURED


def test_what_tasks_print_is_shown_on_a_terminal(noisy: Any):
    master, slave = pty.openpty()
    variables = noisy.variables | {"TERM": "dumb"}
    arguments = ("run", "flow", "--tasks", json.dumps(TASK), "--import", "noisy", "--json")
    process = subprocess.Popen(
        noisy.command(*arguments), cwd=noisy.folder, env=variables, stdout=subprocess.PIPE, stderr=slave
    )
    os.close(slave)
    output, _ = process.communicate(timeout=120)
    shown = os.read(master, 65536).decode().splitlines()
    os.close(master)
    assert json.loads(output)["status"] == "completed"
    assert [line for line in shown if line in CAPTURED] == ["printed", "to stderr", "bytes"]


def test_logs_are_shown_for_people_and_filtered(noisy: Any):
    run(noisy)
    shown = noisy("tasks", "logs", "noisy-task").stdout.splitlines()
    assert [line.split(maxsplit=2)[2] for line in shown] == CAPTURED
    assert noisy("logs", "noisy-ta", "--level", "error").stdout.split()[1:] == ["ERROR", "own", "line"]
    assert len(noisy.json("logs", "noisy-task", "-n", "2")["lines"]) == 2
    [*_, third, _, _] = noisy.json("logs", "noisy-task")["lines"]
    rest = noisy.json("logs", "noisy-task", "--after", str(third["number"]), "--attempt", "1")["lines"]
    assert [line["message"] for line in rest] == CAPTURED[3:]
    followed = noisy("logs", "noisy-task", "-f", "--json").stdout.splitlines()
    assert [json.loads(line)["message"] for line in followed] == CAPTURED
    assert noisy("logs", "noisy-task", "-f", "-n", "1").returncode == 2
    assert noisy("logs", "nothing-like-it").returncode == 3


def test_the_lines_of_a_tree_name_their_tasks(noisy: Any):
    tree = [{"id": "the-root", "name": "root"}, TASK | {"parent_id": "the-root"}]
    assert noisy("run", "flow", "--tasks", json.dumps(tree), "--import", "noisy").returncode == 0
    first, *_ = noisy("logs", "the-root").stdout.splitlines()
    assert first.endswith("INFO    noisy: printed")


def test_watching_a_run_shows_each_line(noisy: Any):
    done = run(noisy, "--watch", "--json")
    shown = [line.split(": ", 1)[1] for line in done.stderr.splitlines() if " log noisy-task: " in line]
    assert shown == CAPTURED


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, ["last"]),
        ({"lines": []}, ["last"]),
        ({"lines": ["own data"], "count": 1}, ["last"]),
        ({"lines": [], "count": "many"}, ["last"]),
        ({"lines": [{"timestamp": "2026-01-01T00:00:00", "message": "a"}], "count": 1}, ["a"]),
        (
            {"lines": [{"timestamp": "2026-01-01T00:00:00", "message": "a"}], "count": 3},
            ["2 lines before these: see `apflow logs`", "a"],
        ),
    ],
)
def test_a_log_event_has_a_line_for_each_logged_line(data: Any, shown: list[str]):
    event = {
        "type": "log",
        "task_id": "t",
        "timestamp": "2026-01-01T00:00:00",
        "message": "last",
        "data": data,
    }
    assert [line.split(": ", 1)[1] for line in event_lines(event)] == shown
