"""Rows about starting up: every figure is a whole process, beside what Python itself costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import perf_counter

import httpx

from benchmarks.line import Line
from benchmarks.serving import server

PYTHON = [sys.executable, "-c"]
TREES = 20


def program() -> list[str]:
    """Return how the command line is called in this environment."""
    script = shutil.which("apflow", path=str(Path(sys.executable).parent))
    return [script] if script else [sys.executable, "-m", "apflow.cli"]


def seconds(command: list[str], environment: Mapping[str, str] | None = None) -> float:
    """Return how long a process takes from its start to its end."""
    begin = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | dict(environment or {}))
    return perf_counter() - begin


def compared(
    name: str,
    command: list[str],
    floor: list[str],
    about: str,
    repeats: int,
    environment: Mapping[str, str] | None = None,
) -> Line:
    """Measure two commands in turn, so that both meet the same machine; the first call of each warms up.

    Args:
        environment: variables that the first command gets in addition.
    """
    times = [(seconds(command, environment), seconds(floor)) for _ in range(repeats + 1)][1:]
    return Line(
        name, median(time for time, _ in times) * 1000, median(time for _, time in times) * 1000, "ms", about
    )


def imports(repeats: int) -> list[Line]:
    """Measure importing the core, alone and with what runs a tree."""
    bare = [*PYTHON, "pass"]
    used = [*PYTHON, "from apflow.core import TaskManager, TaskTreeNode, create_session"]
    return [
        compared(
            "import_core", [*PYTHON, "import apflow.core"], bare, "import apflow.core; floor: python", repeats
        ),
        compared(
            "import_manager", used, bare, "import TaskManager and create_session; floor: python", repeats
        ),
    ]


def commands(repeats: int) -> list[Line]:
    """Measure the commands that people wait for most often, and the completion of the ID of a task."""
    floor = [*PYTHON, "import click"]
    asked = "floor: python and click; asked for: at most {} ms above it"
    return [
        compared(
            "cli_version",
            [*program(), "--version"],
            floor,
            f"apflow --version; {asked.format(20)}",
            repeats,
        ),
        compared("cli_help", [*program(), "--help"], floor, f"apflow --help; {asked.format(30)}", repeats),
        completing(floor, f"apflow tasks get TAB, by a server; {asked.format(150)}", repeats),
    ]


def completing(floor: list[str], about: str, repeats: int) -> Line:
    """Measure what a shell calls to complete the ID of a task, with a server that has some trees."""
    with server() as (url, _, _):
        for _ in range(TREES):
            create_tree(url)
        asking = {
            "_APFLOW_COMPLETE": "bash_complete",
            "COMP_WORDS": "apflow tasks get ",
            "COMP_CWORD": "3",
            "APFLOW_API_URL": url,
        }
        completed = subprocess.run(
            program(), check=True, capture_output=True, text=True, env=os.environ | asking
        )
        assert completed.stdout.count("plain,") == TREES, completed
        return compared("cli_complete", program(), floor, about, repeats, asking)


def create_tree(url: str) -> None:
    """Create a tree of one task at a server."""
    given = {"jsonrpc": "2.0", "id": 1, "method": "tasks.create", "params": [{"name": "nothing"}]}
    with httpx.Client(trust_env=False) as client:
        assert "result" in client.post(f"{url}/tasks", json=given).json()
