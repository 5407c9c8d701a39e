"""`apflow logs`, and standard output that holds data only, whatever tasks print."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import Any

import pytest

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
