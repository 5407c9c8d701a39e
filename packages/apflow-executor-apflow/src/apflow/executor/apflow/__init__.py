"""Runs a tree on another apflow server."""

from __future__ import annotations

from typing import Any

from apflow.core import BaseTask

__all__ = ["ApFlowApiExecutor"]


class ApFlowApiExecutor(BaseTask):
    """Runs a tree on another apflow server."""

    id = "apflow_api_executor"
    name = "ApFlowApiExecutor"
    description = "Runs a tree on another apflow server"
    inputs_schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "What comes back."}},
        "required": ["text"],
    }

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"text": inputs["text"]}
