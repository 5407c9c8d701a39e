"""The MCP inspector, which others wrote, as a client of both transports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from peers.apflowserver import apflow_server
from peers.mcpservers import mcp_servers

CALL_SECONDS = 120.0  # of one call: it starts a program of Node and, over stdio, apflow
INSTALL_SECONDS = 600.0
TREE = [{"id": "seen", "name": "seen by the inspector"}]


def inspect(folder: Path, target: Sequence[str], *options: str) -> dict[str, Any]:
    """Return what the inspector prints of one request to a server."""
    done = subprocess.run(
        [*mcp_servers().inspector, "--cli", *target, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=CALL_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def check(folder: Path, target: Sequence[str], *options: str) -> None:
    """List the tools, and call one that finds the tree."""
    listed = inspect(folder, target, *options, "--method", "tools/list")
    tools = {each["name"]: each for each in listed["tools"]}
    assert {"tasks_list", "tasks_execute", "tasks_get"} <= set(tools)
    assert tools["tasks_list"]["inputSchema"]["type"] == "object"
    call = ("--method", "tools/call", "--tool-name", "tasks_list", "--tool-arg", "limit=5")
    found = inspect(folder, target, *options, *call)
    assert not found.get("isError")
    assert "seen by the inspector" in json.dumps(found["structuredContent"])


@pytest.mark.timeout(INSTALL_SECONDS)
def test_the_inspector_lists_and_calls_tools_of_a_server_over_http(tmp_path: Path):
    with apflow_server(tmp_path) as server:
        created = httpx.post(f"{server.url}/call/tasks.create", json={"tasks": TREE}, timeout=60)
        assert created.status_code == 200, created.text
        check(tmp_path, [f"{server.url}/mcp"], "--transport", "http")


@pytest.mark.timeout(INSTALL_SECONDS)
def test_the_inspector_lists_and_calls_tools_over_stdio(tmp_path: Path):
    command = [sys.executable, "-m", "apflow.cli"]
    database = f"duckdb:///{tmp_path / 'flow.duckdb'}"
    subprocess.run(
        [*command, "tasks", "create", "--tasks", json.dumps(TREE)],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "APFLOW_DATABASE_URL": database},
        capture_output=True,
        timeout=CALL_SECONDS,
    )
    # It gives a server few variables of its environment.
    check(tmp_path, ["-e", f"APFLOW_DATABASE_URL={database}", *command, "mcp", "serve"])
