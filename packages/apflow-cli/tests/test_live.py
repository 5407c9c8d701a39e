from __future__ import annotations

import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from fcntl import ioctl
from typing import IO, Any

import pytest

ADD = {"name": "sum", "schemas": {"method": "add"}, "inputs": {"a": 1}}
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal with the program in it."""

    def __init__(
        self, apflow, *arguments: str, env: dict[str, str] | None = None, stdout: IO[str] | None = None
    ) -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        variables = (
            apflow.variables | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "24"} | (env or {})
        )
        self.process = subprocess.Popen(
            apflow.command(*arguments),
            stdin=slave,
            stdout=stdout or slave,
            stderr=slave,
            cwd=apflow.folder,
            env=variables,
        )
        os.close(slave)
        self.seen = ""

    def read_until(self, text: str) -> None:
        """Read the display until it contains a string; fail if the program ends before."""
        while text not in self.plain:
            more = self._read()
            assert more, f"{text!r} was not shown: {self.seen!r}"
            self.seen += more

    def read_to_end(self) -> int:
        while more := self._read():
            self.seen += more
        os.close(self.master)
        return self.process.wait(timeout=60)

    @property
    def plain(self) -> str:
        return ESCAPES.sub("", self.seen)

    def _read(self) -> str:
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # Linux says so when the other side has closed
            return ""


def flow(*tasks: dict[str, Any]) -> list[str]:
    return ["run", "flow", "--tasks", json.dumps(tasks), "--import", "works"]


def test_a_terminal_shows_the_tree_live_with_progress(apflow, held):
    tasks = [
        {"id": "all", "name": "all of it"},
        {"id": "sum", "parent_id": "all"} | ADD,
        {"id": "hold", "name": "hold", "parent_id": "all", "inputs": held.inputs},
    ]
    terminal = Terminal(apflow, *flow(*tasks))
    held.wait_for_start()
    terminal.read_until("holding on")
    terminal.read_until("1/3")
    assert "25%" in terminal.plain
    assert "1 completed" in terminal.plain
    assert "\x1b[" in terminal.seen
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.read_to_end() == 130
    assert held.last_words() == "ended\n"
    assert "It was cancelled" in terminal.plain


def test_the_final_tree_and_result_stay_on_the_terminal(apflow):
    terminal = Terminal(apflow, *flow(ADD))
    assert terminal.read_to_end() == 0
    assert "completed    sum" in terminal.plain
    assert 'result        {"sum": 2}' in terminal.plain


def test_a_failure_is_shown_and_told_by_the_exit_code(apflow):
    terminal = Terminal(apflow, *flow({"name": "fail"}))
    assert terminal.read_to_end() == 1
    assert "as asked" in terminal.plain


def test_a_list_on_a_terminal_is_a_table(apflow):
    apflow.run(ADD)
    terminal = Terminal(apflow, "tasks", "list")
    assert terminal.read_to_end() == 0
    assert "┏" in terminal.seen
    assert "completed" in terminal.plain


@pytest.mark.parametrize(
    "command", [flow(ADD), ["tasks", "list"], ["tasks", "get", "x"]], ids=lambda c: " ".join(c[:2])
)
def test_no_color_means_no_colours(apflow, command: list[str]):
    apflow.run(ADD | {"id": "x"})
    terminal = Terminal(apflow, *command, env={"NO_COLOR": "1"})
    assert terminal.read_to_end() == 0
    assert not re.search(r"\x1b\[(3|9)\d", terminal.seen)


def test_a_terminal_that_cannot_move_its_cursor_shows_no_live_tree(apflow):
    terminal = Terminal(apflow, *flow(ADD), env={"TERM": "dumb"})
    assert terminal.read_to_end() == 0
    assert "\x1b" not in terminal.seen


def test_data_is_piped_while_the_tree_is_shown_on_the_terminal(apflow, tmp_path):
    with (tmp_path / "data.json").open("w") as data:
        terminal = Terminal(apflow, *flow(ADD), "--json", stdout=data)
        assert terminal.read_to_end() == 0
    assert json.loads((tmp_path / "data.json").read_text())["status"] == "completed"
    assert "1/1" in terminal.plain
    assert "schema_version" not in terminal.plain


def test_a_terminal_is_not_flooded(apflow):
    tasks = [{"id": "all", "name": "all"}]
    tasks += [{"id": f"t{at}", "name": "sum", "parent_id": "all"} | ADD for at in range(210)]
    terminal = Terminal(apflow, *flow(*tasks))
    assert terminal.read_to_end() == 0
    assert "211 tasks; `apflow tasks tree all` shows them." in terminal.plain
    assert "(the whole: apflow tasks get all)" in terminal.plain
    assert len(apflow("tasks", "tree", "all").stdout.splitlines()) == 211
