from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from terminals import Terminal

from apflow.cli.display.live import shown
from apflow.core import MemoryStore
from apflow.core.service.task_service import TaskService

ADD = {"name": "sum", "schemas": {"method": "add"}, "inputs": {"a": 1}}


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


def test_a_list_on_a_terminal_is_a_table_with_short_ids_ages_and_executors(apflow):
    root_id = apflow.run(ADD)["root_task_id"]
    terminal = Terminal(apflow, "tasks", "list")
    assert terminal.read_to_end() == 0
    titles, row = terminal.plain.splitlines()
    assert titles.split() == ["ID", "NAME", "STATUS", "PROGRESS", "EXECUTOR", "AGE", "DURATION"]
    assert row.split()[:5] == [root_id[:8], "sum", "completed", "100%", "add"]
    assert "\x1b[1m" in terminal.seen, "the titles are bold"
    assert row.index("sum") == titles.index("NAME")


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
    assert "211 tasks; `apflow tasks tree all --all` shows them." in terminal.plain
    assert "… 210 completed" in terminal.plain
    assert "(the whole: apflow tasks get all)" in terminal.plain
    assert "--output FILE" in terminal.plain
    assert len(terminal.screen) < 40
    assert len(apflow("tasks", "tree", "all").stdout.splitlines()) == 211


class SlowToWatch(TaskService):
    """A service whose events come late, as on a busy machine."""

    is_watched = False

    async def watch(self, task_id: str, after: int | None = None) -> AsyncGenerator[dict[str, Any]]:
        await asyncio.sleep(0.05)
        async for event in super().watch(task_id, after):
            self.is_watched = True
            yield event


async def test_a_tree_runs_when_it_is_watched_so_that_no_message_is_missed():
    service = SlowToWatch(MemoryStore())
    root = await service.create([{"name": "a"}])

    async def work() -> bool:
        return service.is_watched

    assert await shown(service, await service.tree(root["id"]), work)
