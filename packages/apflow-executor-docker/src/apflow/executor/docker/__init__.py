"""Runs a command in a container."""

from __future__ import annotations

from typing import Any

from apflow.core import BaseTask

__all__ = ["DockerExecutor"]


class DockerExecutor(BaseTask):
    """Runs a command in a container."""

    id = "docker_executor"
    name = "DockerExecutor"
    description = "Runs a command in a container"
    inputs_schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "What comes back."}},
        "required": ["text"],
    }

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"text": inputs["text"]}
