"""A command of `apflow` that runs beside a test, on the database of a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(folder: Path, *arguments: str, **settings: str) -> Generator[subprocess.Popen[str]]:
    """Run a command of `apflow` on the database of the folder, and kill it at the end if it still runs."""
    environment = {"APFLOW_DATABASE_URL": f"duckdb:///{folder}/t.duckdb", "PYTHONPATH": str(folder)}
    named = {f"APFLOW_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "apflow.cli", *arguments],
        cwd=folder,
        env={**os.environ, **environment, **named},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
