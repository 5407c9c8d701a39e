"""Rows about starting up: every figure is a whole process, beside what Python itself costs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.line import Line

PYTHON = [sys.executable, "-c"]


def program() -> list[str]:
    """Return how the command line is called in this environment."""
    script = shutil.which("apflow", path=str(Path(sys.executable).parent))
    return [script] if script else [sys.executable, "-m", "apflow.cli"]


def seconds(command: list[str]) -> float:
    """Return how long a process takes from its start to its end."""
    begin = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - begin


def compared(name: str, command: list[str], floor: list[str], about: str, repeats: int) -> Line:
    """Measure two commands in turn, so that both meet the same machine; the first call of each warms up."""
    times = [(seconds(command), seconds(floor)) for _ in range(repeats + 1)][1:]
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
    """Measure the two commands that people wait for most often."""
    floor = [*PYTHON, "import click"]
    return [
        compared(
            "cli_version",
            [*program(), "--version"],
            floor,
            "apflow --version; floor: python and click",
            repeats,
        ),
        compared(
            "cli_help", [*program(), "--help"], floor, "apflow --help; floor: python and click", repeats
        ),
    ]
