"""Runs a command on another machine."""

from __future__ import annotations

from typing import Any

from apflow.core import BaseTask

__all__ = ["SshExecutor"]


class SshExecutor(BaseTask):
    """Runs a command on another machine."""

    id = "ssh_executor"
    name = "SshExecutor"
    description = "Runs a command on another machine"
    inputs_schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "What comes back."}},
        "required": ["text"],
    }

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"text": inputs["text"]}
