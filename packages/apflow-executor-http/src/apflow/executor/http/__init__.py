"""Calls a web service."""

from __future__ import annotations

from typing import Any

from apflow.core import BaseTask

__all__ = ["RestExecutor"]


class RestExecutor(BaseTask):
    """Calls a web service."""

    id = "rest_executor"
    name = "RestExecutor"
    description = "Calls a web service"
    inputs_schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "What comes back."}},
        "required": ["text"],
    }

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"text": inputs["text"]}
