"""Calls a gRPC service."""

from __future__ import annotations

from typing import Any

from apflow.core import BaseTask

__all__ = ["GrpcExecutor"]


class GrpcExecutor(BaseTask):
    """Calls a gRPC service."""

    id = "grpc_executor"
    name = "GrpcExecutor"
    description = "Calls a gRPC service"
    inputs_schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "What comes back."}},
        "required": ["text"],
    }

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"text": inputs["text"]}
