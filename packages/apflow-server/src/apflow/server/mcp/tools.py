"""Tools, as a client sees them: one for each operation of the core's table, and one for each executor. Pure.

A tool has the name of its operation with underscores, because providers of language models allow no dots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

from pydantic import TypeAdapter

from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS, Operation
from apflow.server.mcp.profiles import RUN_PREFIX

RESULT: Final = "result"  # the key of a result that is not an object
MAX_NAME: Final = 64  # characters, as providers of models allow
_UNUSUAL: Final = re.compile(r"[^A-Za-z0-9_-]")
_RUN_RESULT: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "task_id": {"type": "string", "description": "ID of the task, which is kept."},
        "status": {"type": "string"},
        "result": {"description": "What the executor returned."},
    },
    "required": ["task_id", "status", "result"],
}


@dataclass(frozen=True)
class OperationTool:
    """An operation as a tool."""

    operation: Operation
    definition: dict[str, Json]  # as on the wire
    is_wrapped: bool  # the result of the operation is not an object: the tool returns one with it


@cache
def operation_tools() -> dict[str, OperationTool]:
    """Return the tools of operations by name. Streams are left out, and a method is one tool only."""
    found: dict[str, OperationTool] = {}
    seen: set[str] = set()
    for operation in OPERATIONS.values():
        if operation.is_stream or operation.method in seen:
            continue
        seen.add(operation.method)
        found[tool_name(operation.name)] = _operation_tool(operation)
    return found


def read_only_tools() -> dict[str, bool]:
    """Return the names of the tools of operations, each with whether the operation changes nothing.

    Names only, because schemas take long to make.
    """
    methods: dict[str, Operation] = {}
    for operation in OPERATIONS.values():
        if not operation.is_stream:
            methods.setdefault(operation.method, operation)
    return {tool_name(each.name): each.is_read_only for each in methods.values()}


def tool_name(name: str) -> str:
    """Return the name of the tool of an operation."""
    return name.replace(".", "_")


def executor_tool_name(executor_id: str) -> str:
    """Return the name of the tool that runs an executor."""
    return (RUN_PREFIX + _UNUSUAL.sub("_", executor_id))[:MAX_NAME]


def executor_tools(executors: list[Mapping[str, Json]]) -> dict[str, dict[str, Json]]:
    """Return the definitions of the tools that run executors, by name.

    Executors that cannot be used have no tool, and those that describe their inputs only with params. Of
    two whose names differ in unusual characters only, the first has one.
    """
    found: dict[str, dict[str, Json]] = {}
    for executor in executors:
        if executor["is_usable"] and isinstance(executor["input_schema"], dict):
            found.setdefault(executor_tool_name(executor["id"]), _executor_tool(executor))
    return found


def _operation_tool(operation: Operation) -> OperationTool:
    adapter = TypeAdapter[Any](operation.result)
    output = without_titles(adapter.json_schema(mode="serialization", by_alias=False))
    is_wrapped = not _is_object(output)
    if is_wrapped:
        shared = output.pop("$defs", None)
        output = {"type": "object", "properties": {RESULT: output}, "required": [RESULT]}
        if shared:
            output["$defs"] = shared
    definition: dict[str, Json] = {
        "name": tool_name(operation.name),
        "title": operation.name,
        "description": _description(operation),
        "inputSchema": _input_schema(operation),
        "outputSchema": {"type": "object"} | output,
        "annotations": {
            "readOnlyHint": operation.is_read_only,
            "destructiveHint": operation.is_destructive,
            "idempotentHint": operation.is_read_only or operation.is_idempotent,
            "openWorldHint": operation.starts_run,
        },
    }
    return OperationTool(operation, definition, is_wrapped)


def _description(operation: Operation) -> str:
    if operation.wait_parameter is None:
        return operation.description
    return (
        f"{operation.description}\n\nWith `{operation.wait_parameter}`, the call reports progress and "
        "returns when the run has ended; cancelling the call cancels the run. Without it, the call returns "
        "at once."
    )


def _input_schema(operation: Operation) -> dict[str, Json]:
    """Return the schema of the parameters, without the one that asks for a stream as the answer."""
    schema: dict[str, Json] = without_titles(operation.parameters_schema())
    properties: dict[str, Json] = dict(schema.get("properties", {}))
    properties.pop(operation.stream_parameter or "", None)
    return schema | {"type": "object", "properties": properties}


def _is_object(schema: Mapping[str, Json]) -> bool:
    """Return whether all values of a schema are objects."""
    if schema.get("type") == "object":
        return True
    parts: list[dict[str, Json]] = schema.get("anyOf", [schema] if "$ref" in schema else [])
    shared: dict[str, dict[str, Json]] = schema.get("$defs", {})
    named = [shared.get(str(each.get("$ref", "")).rpartition("/")[2], each) for each in parts]
    return bool(named) and all(each.get("type") == "object" for each in named)


def _executor_tool(executor: Mapping[str, Json]) -> dict[str, Json]:
    effect = executor.get("effect")
    return {
        "name": executor_tool_name(executor["id"]),
        "title": executor["name"] or executor["id"],
        "description": executor["description"] or f"Run the executor {executor['id']}.",
        "inputSchema": {"type": "object"} | cast("dict[str, Json]", executor["input_schema"]),
        "outputSchema": _RUN_RESULT,
        "annotations": {
            "readOnlyHint": effect == "pure",
            "destructiveHint": effect == "once",
            "idempotentHint": effect in ("pure", "idempotent"),
            "openWorldHint": effect != "pure",
        },
    }


def without_titles(schema: Json) -> Json:
    """Return a JSON Schema without the titles that pydantic derives from names: a model reads all of it."""
    if isinstance(schema, list):
        return [without_titles(each) for each in cast("list[Json]", schema)]
    if not isinstance(schema, dict):
        return schema
    given = cast("dict[str, Json]", schema)
    return {
        name: _named(value) if name in ("properties", "$defs") else without_titles(value)
        for name, value in given.items()
        if not (name == "title" and isinstance(value, str))
    }


def _named(schemas: Mapping[str, Json]) -> dict[str, Json]:
    return {name: without_titles(each) for name, each in schemas.items()}
