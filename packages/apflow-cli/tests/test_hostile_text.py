"""Text of tasks that would control a terminal, through every command that prints tasks."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from contextlib import suppress

import pytest

HOSTILE = "n\x1b[2J\x1b]0;title\x07\r\nError: forged\x9b31m\x7f\u202egnp\u2066\u2028e"
ID = "id-\x1b[31m\x9b-\u202e-\r-hostile"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
MODULE = f"""
from apflow.core import BaseTask, executor_register

TEXT = {HOSTILE!r}


@executor_register()
class Hostile(BaseTask):
    id = "hostile"
    name = TEXT
    description = TEXT

    async def execute(self, inputs):
        await self.report_progress(0.5, TEXT)
        raise type("E" + TEXT, (RuntimeError,), {{}})(TEXT)
"""
TREE = [
    {"id": ID, "name": HOSTILE, "schemas": {"method": "hostile"}, "inputs": {HOSTILE: [HOSTILE]}},
    {"id": "child", "name": HOSTILE, "parent_id": ID, "dependencies": [ID], "schemas": {"method": "hostile"}},
]
# Every command that prints what is in tasks, and how it is asked.
COMMANDS: list[list[str]] = [
    ["tasks", "list"],
    ["tasks", "get", ID],
    ["tasks", "tree", ID],
    ["tasks", "why", ID],
    ["tasks", "why", "child"],
    ["tasks", "status", ID],
    ["tasks", "children", ID],
    ["tasks", "execute", ID, "--import", "hostile"],
    ["tasks", "copy", ID, "--children", "--dry-run"],
    ["tasks", "update", ID, "--name", HOSTILE],
    ["tasks", "cancel", ID],
    ["tasks", "resume", ID],
    ["tasks", "get", HOSTILE],
    ["executors", "list", "--import", "hostile"],
    ["executors", "show", "hostile", "--import", "hostile"],
    ["executors", "show", HOSTILE],
    ["config", "get", HOSTILE],
    ["run", "flow", "--tasks", json.dumps(TREE), "--import", "hostile"],
    ["run", "flow", "--tasks", "{" + HOSTILE],
    ["run", "flow", "--tasks", json.dumps([{"name": HOSTILE, HOSTILE: 1}])],
    [HOSTILE],
    ["tasks", "delete", ID, "--force"],
]


@pytest.fixture
def hostile(apflow):
    (apflow.folder / "hostile.py").write_text(MODULE)
    ran = apflow("run", "flow", "--tasks", json.dumps(TREE), "--import", "hostile", "--json")
    assert ran.returncode == 1, ran.stderr
    assert json.loads(ran.stdout)["root"]["name"] == HOSTILE, "JSON keeps the characters"
    return apflow


def test_no_command_prints_them_raw(hostile):
    """One database for all: each command is a process."""
    shown = []
    for command in COMMANDS:
        done = hostile(*command)
        printed = done.stdout + done.stderr
        assert UNSAFE.search(printed) is None, (command, printed)
        assert not re.search("^Error: forged", printed, re.MULTILINE), (command, printed)
        shown += command[1:2] if r"\x1b[2J" in printed else []
    assert {"list", "get", "tree", "why", "execute", "flow"} <= set(shown), "they were printed, escaped"


def test_no_command_prints_them_raw_at_a_terminal(hostile):
    """Colours come from the program alone; JSON is escaped where a terminal shows it."""
    commands = [["tasks", "tree", ID], ["tasks", "list"], ["tasks", "get", ID, "--json"]]
    for command in commands:
        printed = at_terminal(hostile, command)
        for raw in ("\x1b[2J", "\x1b]0;", "\x07", "\x9b", "\x7f", "\u202e", "\u2066"):
            assert raw not in printed, (command, printed)
        if "--json" in command:
            assert json.loads(printed)["task"]["name"] == HOSTILE


def at_terminal(program, command: list[str]) -> str:
    """Run a command with a terminal as its standard output."""
    mine, theirs = pty.openpty()
    try:
        running = subprocess.Popen(
            program.command(*command), stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL,
            cwd=program.folder, env=program.variables | {"TERM": "xterm", "COLUMNS": "4000"},
        )  # fmt: skip
        os.close(theirs)
        read = b""
        with suppress(OSError):  # the end of the other side
            while part := os.read(mine, 1 << 16):
                read += part
        running.wait(60)
    finally:
        os.close(mine)
    return read.decode()
