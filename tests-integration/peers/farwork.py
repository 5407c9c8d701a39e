"""What servers of tests run: executors that a test can tell what to do, and can watch."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from apflow.core import BaseTask, executor_register
from apflow.core.errors import ExecutorError


class FarFault(ExecutorError):  # noqa: N818 - a fault, as tests name it
    """What a far task fails with."""


def is_there(path: str) -> bool:
    """Return whether there is a file."""
    return Path(path).exists()


def make(path: str | None) -> None:
    """Make an empty file, where one is named."""
    if path is not None:
        Path(path).touch()


@executor_register(override=True)
class Say(BaseTask):
    """Returns what it is given; a large text, where it is given a size."""

    id = "far_say"
    name = "say"
    description = "Returns what it is given."

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs."""
        return {"said": "x" * inputs["size"] if "size" in inputs else inputs.get("text")}


@executor_register(override=True)
class Print(BaseTask):
    """Prints numbered lines."""

    id = "far_print"

    async def execute(self, inputs: dict[str, Any]) -> None:
        """Print the lines."""
        for at in range(inputs["lines"]):
            print("line", at)


@executor_register(override=True)
class Fail(BaseTask):
    """Fails with a message; only the first time if `once` names a file."""

    id = "far_fail"
    name = "fail"
    description = "Fails."

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Fail."""
        if "once" in inputs:
            if is_there(inputs["once"]):
                return {"said": "now it works"}
            make(inputs["once"])
        raise FarFault(inputs.get("text", "it failed"))


@executor_register(override=True)
class Hold(BaseTask):
    """Reports progress in steps until a file says to end; records in another that it was cancelled."""

    id = "far_hold"
    name = "hold"
    description = "Works until a file says to end."

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Work until the file `until` is there."""
        until = inputs.get("until")
        make(inputs.get("begun"))
        try:
            step = 0
            while until is None or not is_there(until):
                step += 1
                await self.report_progress(min(0.9, step / 100), f"step {step}")
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            make(inputs.get("gone"))
            raise
        return {"said": "it ended"}
