"""Programs that list and describe executors import neither CrewAI nor LiteLLM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("crewai", "litellm", "openai", "chromadb", "lancedb")
SHOW = f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
COMMAND = f"""
import runpy, sys
sys.argv = ["apflow", *sys.argv[1:]]
try:
    runpy.run_module("apflow.cli", run_name="__main__")
except SystemExit as end:
    print(end.code, file=sys.stderr)
{SHOW}
"""


def stderr_of(program: str, folder: Path, *arguments: str) -> tuple[str, str]:
    environment = os.environ | {"APFLOW_DATABASE_URL": f"duckdb:///{folder / 'test.duckdb'}"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, check=True, env=environment, cwd=folder, timeout=120,
    )  # fmt: skip
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "program",
    [
        "import apflow.core",
        "import apflow.server; apflow.server.create_app()",
        "import apflow.cli",
        "import aipartnerupflow.extensions.crewai",
        "from apflow.executor.crewai import BatchManager, CrewManager; CrewManager().get_input_schema()",
        "from apflow.core.extensions.description import describe_executors; describe_executors()",
    ],
)
def test_importing_and_describing_loads_neither_library(program: str, tmp_path: Path):
    _, shown = stderr_of(f"import sys\n{program}\n{SHOW}", tmp_path)
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["executors", "list"], ["executors", "show", "crewai_executor"]]
)
def test_commands_load_neither_library(arguments: list[str], tmp_path: Path):
    printed, shown = stderr_of(COMMAND, tmp_path, *arguments)
    assert shown.splitlines()[-2:] == ["0", "[]"]
    if arguments[0] == "executors":
        assert "crewai_executor" in printed
