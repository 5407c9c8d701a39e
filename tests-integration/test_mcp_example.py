"""The example in which MCP servers and a program work together, against servers that others wrote."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from peers.mcpservers import mcp_servers
from peers.stores import OpenStore

from apflow.core import TaskCreator, TaskManager
from apflow.core.settings import reset_settings

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "mcp" / "tree.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_runner: str) -> Iterator[Path]:
    """Give a folder with a repository of three commits, an empty folder, and the programs of the example."""
    servers = mcp_servers()
    code, reports, programs = tmp_path / "code", tmp_path / "reports", tmp_path / "bin"
    for each in (code, reports, programs):
        each.mkdir()
    who = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    subprocess.run(["git", "init"], cwd=code, check=True, capture_output=True)
    for number in range(3):
        commit = [*who, "commit", "--allow-empty", "-m", f"number {number}"]
        subprocess.run(commit, cwd=code, check=True, capture_output=True)
    commands = {
        "mcp-server-git": servers.pypi("mcp-server-git"),
        "mcp-server-filesystem": servers.npm("server-filesystem"),
    }
    for name, command in commands.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "mcp-server-git,mcp-server-filesystem,grep")
    reset_settings()
    yield tmp_path
    reset_settings()


async def test_the_commits_of_a_repository_are_counted_and_written(folder: Path, example_store: OpenStore):
    text = EXAMPLE.read_text()
    for written in ("/srv/code", "/srv/reports"):
        assert written in text
        text = text.replace(written, str(folder / Path(written).name))
    async with example_store() as db:
        tree = await TaskCreator(db).create_task_tree_from_array(yaml.safe_load(text))
        await TaskManager(db).distribute_task_tree(tree)
        results = {task.id: task.result for task in await db.tree("written")}
    assert (tree["status"], tree["error"]) == ("completed", None)
    assert results["counted"]["stdout"] == "3\n"
    assert (folder / "reports" / "commits.txt").read_text() == "3\n"
