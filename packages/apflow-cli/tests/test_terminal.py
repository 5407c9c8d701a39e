"""Commands in pseudo-terminals of several sizes: what fits, what stays, and how they end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import Any

import pytest
from terminals import Terminal, screen_of

STUBBORN = """
import asyncio
from apflow.core import BaseTask, executor_register


@executor_register()
class Stubborn(BaseTask):
    id = "stubborn"

    async def execute(self, inputs):
        await self.report_progress(0.5, "does not want to end")
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
"""
NAMES = [
    "nightly import of the customer records",
    "add the sums of the day",
    "report to the heads of all teams",
]
TREE: list[dict[str, Any]] = [
    {"id": "nightly", "name": NAMES[0]},
    {
        "id": "sums",
        "name": NAMES[1],
        "parent_id": "nightly",
        "schemas": {"method": "add"},
        "inputs": {"a": 1},
    },
    {"id": "report", "name": NAMES[2], "parent_id": "nightly", "schemas": {"method": "fail"}},
    {"id": "then", "name": "fail", "parent_id": "nightly", "dependencies": ["report"]},
]
MANY = 10_000
WIDTHS = (60, 80)
CHANGING = re.compile(r"^[\d.smhd]+$")  # ages and durations


def flow(*tasks: dict[str, Any]) -> list[str]:
    return ["run", "flow", "--tasks", json.dumps(tasks), "--import", "works"]


def words_of(text: str) -> set[str]:
    return set(re.split(r"[\s…]+", text))


def test_no_line_is_longer_than_the_terminal_and_no_word_is_broken(apflow: Any):
    apflow.run(*TREE, code=1)
    for command in (
        ["tasks", "list"],
        ["tasks", "list", "--all", "--sort", "name"],
        ["ps", "-a"],
        ["tasks", "status", "nightly", "report"],
        ["tasks", "tree", "nightly"],
        ["tasks", "children", "nightly"],
        ["executors", "list", "--import", "works"],
    ):
        wide = Terminal(apflow, *command, width=500)
        assert wide.read_to_end() == 0
        assert len(wide.screen) > 1, command
        for width in WIDTHS:
            terminal = Terminal(apflow, *command, width=width)
            assert terminal.read_to_end() == 0
            assert max(map(len, terminal.screen)) <= width, (command, terminal.plain)
            broken = {
                each for each in words_of(terminal.plain) - words_of(wide.plain) if not CHANGING.match(each)
            }
            assert not broken, (command, terminal.plain)


@pytest.mark.parametrize("width", [60, 80])
def test_the_live_tree_fits_the_terminal_and_is_gone_when_the_final_tree_is_written(apflow: Any, width: int):
    terminal = Terminal(apflow, *flow(*TREE), width=width)
    assert terminal.read_to_end() == 1
    assert "\x1b[?25l" in terminal.seen, "there was a live view"
    screen = terminal.screen
    assert max(map(len, screen)) <= width
    # Each task once: the first words of its name are in one line only.
    for name in NAMES[:2]:
        assert sum(" ".join(name.split()[:3]) in line for line in screen) == 1, screen
    assert any(line.startswith("failed") for line in screen)
    assert any("apflow tasks why nightly" in line for line in screen), screen


def test_a_live_tree_follows_the_size_of_the_terminal(apflow: Any, held: Any):
    names = {"name": "hold", "inputs": held.inputs, "id": "hold"}
    terminal = Terminal(apflow, *flow({"id": "all", "name": " ".join(NAMES)}, names | {"parent_id": "all"}))
    held.wait_for_start()
    terminal.read_until("holding on")
    terminal.resize(40)
    terminal.read_more(2000)  # frames that were drawn before
    frames = terminal.read_more(2000)
    complete = frames[frames.index("\n") :].rpartition("\n")[0]
    assert max(map(len, screen_of(complete))) <= 40
    held.let_go()
    assert terminal.read_to_end() == 0


def test_an_interrupt_cancels_waits_and_shows_the_cursor_again(apflow: Any, held: Any):
    terminal = Terminal(apflow, *flow({"id": "hold", "name": "hold", "inputs": held.inputs}), width=80)
    held.wait_for_start()
    terminal.read_until("holding on")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.read_to_end() == 130
    assert held.last_words() == "ended\n"
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")
    assert not any("holding on" in line for line in terminal.screen), "the live view is gone"
    assert apflow.json("tasks", "get", "hold")["task"]["status"] == "cancelled"


def test_a_second_interrupt_ends_at_once_and_leaves_a_usable_terminal(apflow: Any):
    (apflow.folder / "stubborn.py").write_text(STUBBORN)
    apflow.environment |= {"APFLOW_CANCEL_GRACE": "60", "APFLOW_CANCEL_WAIT": "60", "PYTHONWARNINGS": ""}
    tasks = json.dumps([{"id": "never", "name": "stubborn"}])
    terminal = Terminal(apflow, "run", "flow", "--tasks", tasks, "--import", "stubborn")
    terminal.read_until("does not want to end")
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_more(1000)  # it continues, and shows that it does
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.read_to_end() == 130
    assert "Interrupted." in terminal.plain
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")


def test_watch_shows_the_newest_tree_live_and_ends_with_its_run(apflow: Any, held: Any):
    hold = {"id": "hold", "name": "hold", "inputs": held.inputs}
    running = apflow.start(*flow(hold))
    try:
        held.wait_for_start()
        watching = Terminal(apflow, "watch", width=80)
        watching.read_until("hold")
        listed = apflow("ps").stdout
        assert "hold  hold  in_progress" in listed
        assert [task["id"] for task in apflow.json("tasks", "running")["tasks"]] == ["hold"]
        held.let_go()
        assert watching.read_to_end() == 0
        assert any("hold" in line for line in watching.screen), "the last picture stays"
        assert any("1/1" in line for line in watching.screen)
    finally:
        running.communicate(timeout=60)
    done = apflow("watch")
    assert done.returncode == 3
    assert f"No tree is running or waiting to run in {apflow.url}" in done.stderr


def test_ten_thousand_tasks_are_reduced_to_what_matters(apflow: Any):
    tasks = [{"id": "big", "name": "big"}]
    tasks += [
        {"id": f"t{at}", "name": "add", "parent_id": "big", "inputs": {"a": at}} for at in range(MANY - 2)
    ]
    tasks += [{"id": "odd", "name": "fail", "parent_id": "big"}]
    (apflow.folder / "big.json").write_text(json.dumps(tasks))
    terminal = Terminal(apflow, "run", "flow", "--tasks-file", "big.json", "--import", "works", width=80)
    assert terminal.read_to_end() == 1
    screen = terminal.screen
    assert len(screen) < 60
    assert any(line.split()[:2] == ["failed", "fail"] for line in screen), screen
    assert any(f"… {MANY - 2} completed" in line for line in screen)
    assert any(f"{MANY} tasks; `apflow tasks tree big --all` shows them." in line for line in screen)

    listed = apflow("tasks", "list", "--all")
    assert len(listed.stdout.splitlines()) == 101
    assert listed.stderr.startswith(f"100 of {MANY}. --limit N shows more; --cursor ")
    assert apflow("ps", "-a").stdout.splitlines()[1].split()[:4] == ["big", "big", "failed", "100%"]

    command = apflow.command("tasks", "tree", "big")
    with subprocess.Popen(
        command, cwd=apflow.folder, env=apflow.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None and reading.stderr is not None
        assert b"big" in reading.stdout.readline()
        reading.stdout.close()  # as `head -1` does
        assert reading.stderr.read() == b""
        assert reading.wait(timeout=120) == 141


def test_lists_are_written_in_every_format(apflow: Any):
    apflow.run(*TREE, code=1)
    assert apflow("tasks", "list", "-o", "id").stdout == "nightly\n"
    assert apflow("tasks", "tree", "nightly", "-s", "failed", "-o", "id").stdout.split()[:2] == [
        "nightly",
        "report",
    ]
    assert json.loads(apflow("tasks", "list", "-o", "json").stdout)["tasks"][0]["tree"]["total"] == 4
    written = apflow("tasks", "get", "sums", "-o", "yaml").stdout
    assert written.startswith("schema_version: 1\ntask:\n  id: sums\n")
    wide = apflow("tasks", "list", "--all", "-o", "wide").stdout.splitlines()
    columns = ["TASKS", "EXECUTOR", "USER_ID", "LABEL", "TAGS", "STARTED_AT", "COMPLETED_AT", "ERROR"]
    assert wide[0].split()[-8:] == columns
    terminal = Terminal(apflow, "tasks", "list", "-o", "wide", width=80)
    assert terminal.read_to_end() == 0
    assert {"STARTED", "ENDED", "ERROR"} <= set(terminal.screen[0].split())


def test_lists_are_filtered_by_span_and_prefix_and_say_where_they_found_nothing(apflow: Any):
    apflow.run(*TREE, code=1)
    assert len(apflow.json("tasks", "list", "--since", "1h")["tasks"]) == 1
    assert apflow.json("tasks", "list", "--since", "2100-01-01")["tasks"] == []
    assert apflow.json("tasks", "count", "--id-prefix", "su")["total"] == 1
    names = [task["id"] for task in apflow.json("tasks", "list", "--all", "--sort", "-completed_at")["tasks"]]
    assert names[-1] != names[0]
    nothing = apflow("tasks", "list", "--status", "pending")
    assert nothing.returncode == 0
    assert nothing.stderr.startswith(f"No task matches in {apflow.url}. `apflow tasks list`")
    refused = apflow("tasks", "list", "--since", "yesterday")
    assert refused.returncode == 2
    assert "12h" in refused.stderr


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (["taks"], "Did you mean apflow tasks?"),
        (["list"], "Did you mean apflow tasks list?"),
        (["tasks", "lst"], "Did you mean"),
        (["tasks", "list", "--statuss", "failed"], "--status"),
    ],
    ids=" ".join,
)
def test_what_is_misspelled_is_answered_with_what_is_meant(bare: Any, command: list[str], advice: str):
    done = bare(*command)
    assert done.returncode == 2
    assert advice in done.stderr
