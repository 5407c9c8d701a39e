"""The description of the server in OpenAPI, made from the table of operations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from fastapi import FastAPI
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from apflow.core.model.task import Json
from apflow.core.service.error_json import NAMES
from apflow.core.service.operations import Operation
from apflow.server.api.dispatch import SERVED
from apflow.server.http.api_error import Code
from apflow.server.http.limits import BATCH
from apflow.server.http.protection import PROBES, has_auth
from apflow.server.http.response import RPC_PATHS

REFERENCE: Final = "#/components/schemas/{model}"
ERROR: Final = {"$ref": "#/components/schemas/Error"}
REASONS: Final[Mapping[int, str]] = {
    400: "The request, or its parameters, are not what they should be.",
    401: "A token is needed, or the one given is not a good one.",
    403: "The caller may not do this.",
    404: "There is no such task or executor, or the caller may not see it.",
    408: "The request took too long to arrive.",
    409: "The state of a task forbids it now.",
    413: "There is too much in the request.",
    415: "The request is not declared as JSON.",
    422: "The parameters are in order, and what they describe cannot be used.",
    429: "More than is taken at this moment: try again later.",
    503: "What is needed for an answer cannot be had now: try again later.",
}
ERROR_SCHEMA: Final[dict[str, Json]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "integer", "enum": sorted(int(each) for each in Code)},
                "message": {"type": "string"},
                "data": {
                    "type": "object",
                    "description": "What kind of error it is, with its facts",
                    "properties": {
                        "type": {"type": "string", "description": "Its class", "examples": sorted(NAMES)},
                        "violations": {"type": "array", "items": {"type": "string"}},
                        "incident": {"type": "string", "description": "Look for it in the log"},
                    },
                },
            },
        }
    },
}
RPC_REQUEST: Final[dict[str, Json]] = {
    "type": "object",
    "required": ["jsonrpc", "method"],
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "method": {"type": "string", "description": "The name of an operation", "examples": ["tasks.list"]},
        "params": {"type": ["object", "array"]},
        "id": {"type": ["string", "number", "null"], "description": "Without one there is no answer"},
    },
}
RPC_ANSWER: Final[dict[str, Json]] = {
    "type": "object",
    "required": ["jsonrpc", "id"],
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {"type": ["string", "number", "null"]},
        "result": {},
        "error": ERROR_SCHEMA["properties"]["error"],
    },
}
SCHEME: Final = "bearer"
PREFIX: Final = "/call/"  # of the paths of operations


def described(operation: Operation) -> dict[str, Json]:
    """Return what OpenAPI says of the path of one operation."""
    requests, answers, _ = _schemas()
    media = "text/event-stream" if operation.is_stream else "application/json"
    success: dict[str, Json] = {"description": "The result", "content": {media: {}}}
    if not operation.is_stream:
        success["content"][media]["schema"] = answers[operation.name]
    if operation.name == "tasks.execute":
        success["content"]["text/event-stream"] = {}
    body = {"required": True, "content": {"application/json": {"schema": requests[operation.name]}}}
    more: dict[str, Json] = {"204": {"description": "Its run has ended."}} if operation.is_stream else {}
    return {"requestBody": body, "responses": {"200": success} | more | refusals()}


def described_rpc() -> dict[str, Json]:
    """Return what OpenAPI says of the paths of JSON-RPC."""
    request = {"$ref": REFERENCE.format(model="RpcRequest")}
    answer = {"$ref": REFERENCE.format(model="RpcAnswer")}
    # In a batch each request is judged for itself: one that is none is told so among the answers.
    batch = {"type": "array", "minItems": 1, "maxItems": BATCH, "items": {"description": "A request"}}
    answers: dict[str, Json] = {"anyOf": [answer, {"type": "array", "items": answer}]}
    content = {"application/json": {"schema": answers}, "text/event-stream": {}}
    body = {"application/json": {"schema": {"anyOf": [request, batch]}}}
    return {
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "The answer, also where the call has failed", "content": content},
            "204": {"description": "Nothing was to be answered."},
        }
        | refusals(answers),
    }


def refusals(schema: Mapping[str, Json] | None = None) -> dict[str, Json]:
    """Return what OpenAPI says of answers that tell why there is no result."""
    content = {"application/json": {"schema": schema or ERROR}}
    return {str(status): {"description": why, "content": content} for status, why in REASONS.items()}


def make_document(app: FastAPI) -> dict[str, Json]:
    """Return the document: what FastAPI finds, with the schemas of the operations and the way to be known."""
    document = FastAPI.openapi(app)
    for path, methods in document["paths"].items():
        if path.startswith(PREFIX):
            methods["post"] |= described(SERVED[path.removeprefix(PREFIX)])
        elif path in RPC_PATHS:
            methods["post"] |= described_rpc()
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas |= _schemas()[2] | {"Error": ERROR_SCHEMA, "RpcRequest": RPC_REQUEST, "RpcAnswer": RPC_ANSWER}
    if has_auth(app.state.settings):
        components["securitySchemes"] = {
            SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        }
        for path, methods in document["paths"].items():
            for operation in methods.values():
                operation["security"] = [] if path in PROBES else [{SCHEME: []}]
    return document


@cache
def _schemas() -> tuple[dict[str, Json], dict[str, Json], dict[str, Json]]:
    """Return the schemas of what operations take and give, by name, and what those refer to."""
    every: list[tuple[tuple[str, str], JsonSchemaMode, TypeAdapter[Any]]] = []
    for each in SERVED.values():
        every.append(((each.name, "request"), "validation", TypeAdapter(each.parameters)))
        every.append(((each.name, "answer"), "serialization", TypeAdapter(each.result)))
    found, shared = TypeAdapter.json_schemas(every, by_alias=False, ref_template=REFERENCE)
    requests = {name: found[(name, "request"), "validation"] for name in SERVED}
    answers = {name: found[(name, "answer"), "serialization"] for name in SERVED}
    return requests, answers, shared.get("$defs", {})
