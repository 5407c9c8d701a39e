"""The results of tool calls, as they are on the wire. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.server.http.response import as_json
from apflow.server.mcp.profiles import RUN_PREFIX


def structured(result: Json, *, is_error: bool = False) -> dict[str, Json]:
    """Return the result of a tool: an object, also as text for clients that read only that."""
    plain = as_json(result)
    text = {"type": "text", "text": dumps(plain).decode()}
    return {"content": [text], "structuredContent": plain, "isError": is_error}


def failure(text: str) -> dict[str, Json]:
    """Return the result of a tool call that has failed."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def result_of(tool: str, outcome: Mapping[str, Json]) -> dict[str, Json]:
    """Return the result of a tool whose run has ended."""
    if not tool.startswith(RUN_PREFIX):
        return structured(outcome, is_error=not outcome["success"])
    if outcome["status"] != TaskStatus.COMPLETED:
        return failure(f"{outcome['error'] or outcome['message']}\n(task {outcome['task_id']})")
    return structured({name: outcome[name] for name in ("task_id", "status", "result")})
