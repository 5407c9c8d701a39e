"""Exchanges messages over a WebSocket."""

from __future__ import annotations

from typing import Any

from apflow.core import BaseTask

__all__ = ["WebSocketExecutor"]


class WebSocketExecutor(BaseTask):
    """Exchanges messages over a WebSocket."""

    id = "websocket_executor"
    name = "WebSocketExecutor"
    description = "Exchanges messages over a WebSocket"
    inputs_schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "What comes back."}},
        "required": ["text"],
    }

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"text": inputs["text"]}
