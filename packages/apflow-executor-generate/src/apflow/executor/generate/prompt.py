"""The prompt: the rules of a valid array, and the executors that its tasks may use. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

Json = Any
Executor = Mapping[str, Json]  # as `describe_executors` returns it

RULES = """\
You plan workflows. Turn the requirement of the user into a tree of tasks for apflow.

Answer with one JSON object only: {"tasks": [...]}. Each task is an object:

- "id": a short unique string, such as "fetch_orders". Give every task an id.
- "name": a short description for people.
- "parent_id": the id of another task. Exactly one task, the root, has no parent_id. It only organizes the
  tasks: it does not decide their order.
- "schemas": {"method": ID}, where ID is the id of one of the executors below. A task without it is a group:
  it must have children, and it completes when they have completed.
- "inputs": the inputs of the executor. They must satisfy its input_schema: every required input is there,
  and no other inputs than those of the schema.
- "dependencies": [{"id": ID}]: the task starts when these tasks have completed. Tasks without dependencies
  between them run in parallel. Dependencies must not form a cycle, and a task must not depend on its own
  parent if the parent is a group.
- "priority": optional, 0 (urgent) to 3 (low); 2 by default.

To use the result of a task as an input, declare a dependency on it and write {"$from": ID} in place of the
input or of a part of it, or {"$from": ID, "path": PATH} for a part of the result, with PATH in JMESPath.
Write {"$secret": NAME} in place of passwords, tokens and keys. Invent no executors and no inputs.

The executors:
"""

# Parts of schemas that tell a model nothing.
_LEFT_OUT = frozenset({"examples", "patternProperties", "x-named-only", "title", "additionalProperties"})


def messages_for(requirement: str, executors: Sequence[Executor]) -> list[dict[str, Json]]:
    """Return the conversation that asks for a tree."""
    described = "\n".join(json.dumps(_described(each), ensure_ascii=False) for each in executors)
    return [
        {"role": "system", "content": f"{RULES}{described}"},
        {"role": "user", "content": f"The requirement:\n\n{requirement}"},
    ]


def _described(executor: Executor) -> dict[str, Json]:
    return {
        "id": executor["id"],
        "description": executor["description"] or executor["name"],
        "input_schema": _compact(executor["input_schema"]),
    }


def _compact(schema: Json, *, is_properties: bool = False) -> Json:
    """Return a schema without what a model does not need. Names of properties are kept, whatever they are."""
    if isinstance(schema, list):
        return [_compact(each) for each in cast("list[Json]", schema)]
    if not isinstance(schema, dict):
        return schema
    parts = cast("dict[str, Json]", schema)
    return {
        name: _compact(value, is_properties=name == "properties" and not is_properties)
        for name, value in parts.items()
        if is_properties or name not in _LEFT_OUT
    }
