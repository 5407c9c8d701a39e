"""Executors that report through files, for tests of calls in other processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from apflow.core import BaseTask


class Marks(BaseTask):
    """Appends a line to the file of its task when it begins and when it ends, and waits between."""

    id = "marks"
    name = "Marks"
    description = "Writes down when it begins and when it ends."

    async def execute(self, inputs: dict[str, Any]) -> Any:
        file = Path(inputs["folder"]) / str(inputs["name"])
        _append(file, f"began {os.getpid()}")
        try:
            await asyncio.sleep(inputs.get("seconds", 0.0))
        except asyncio.CancelledError:
            _append(file, "cancelled")
            raise
        _append(file, "ended")
        return {"pid": os.getpid()}


class MarksOnce(Marks):
    """The same, with an effect that must not happen twice."""

    id = "marks_once"
    effect = "once"


def _append(file: Path, line: str) -> None:
    with file.open("a") as opened:
        opened.write(f"{line}\n")


def lines_of(folder: Path) -> dict[str, list[str]]:
    """Return the lines of each file."""
    return {file.name: file.read_text().splitlines() for file in folder.iterdir()}
