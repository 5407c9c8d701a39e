"""The OpenAPI document of the server, made from the table of operations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from fastapi import FastAPI
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from apflow.core.model.task import Json
from apflow.core.service.error_json import NAMES
from apflow.core.service.operations import OPERATIONS, Operation
from apflow.server.http.api_error import Code
from apflow.server.http.limits import BATCH
from apflow.server.http.protection import PROBES, has_auth
from apflow.server.http.response import RPC_PATHS

REFERENCE: Final = "#/components/schemas/{model}"
ERROR: Final = {"$ref": "#/components/schemas/Error"}
REASONS: Final[Mapping[int, str]] = {
    400: "The request or its parameters are invalid.",
    401: "The token is missing or invalid.",
    403: "The caller is not allowed to do this.",
    404: "The task or executor does not exist, or the caller may not see it.",
    408: "The request took too long to arrive.",
    409: "The present state of a task forbids the operation.",
    413: "The request is too large.",
    415: "The content type of the request is not JSON.",
    422: "The parameters are valid, but what they describe cannot be used.",
    429: "The caller has exceeded a limit. Try again later.",
    502: "A language model that the operation calls failed, or gave no valid answer.",
    503: "The server or its database is unavailable. Try again later.",
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
                    "description": "The type of the error, with its attributes",
                    "properties": {
                        "type": {
                            "type": "string",
                            "description": "Name of the class",
                            "examples": sorted(NAMES),
                        },
                        "violations": {"type": "array", "items": {"type": "string"}},
                        "incident": {"type": "string", "description": "ID of the entry in the server log"},
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
        "method": {"type": "string", "description": "Name of an operation", "examples": ["tasks.list"]},
        "params": {"type": ["object", "array"]},
        "id": {"type": ["string", "number", "null"], "description": "A request without an ID gets no answer"},
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
    """Return the OpenAPI description of the path of one operation."""
    requests, answers, _ = _schemas()
    media = "text/event-stream" if operation.is_stream else "application/json"
    success: dict[str, Json] = {"description": "The result", "content": {media: {}}}
    if not operation.is_stream:
        success["content"][media]["schema"] = answers[operation.name]
    if operation.stream_parameter is not None:
        success["content"]["text/event-stream"] = {}
    body = {"required": True, "content": {"application/json": {"schema": requests[operation.name]}}}
    more: dict[str, Json] = (
        {"204": {"description": "The run has ended; no events follow."}} if operation.is_stream else {}
    )
    return {"requestBody": body, "responses": {"200": success} | more | refusals()}


def described_rpc() -> dict[str, Json]:
    """Return the OpenAPI description of the JSON-RPC paths."""
    request = {"$ref": REFERENCE.format(model="RpcRequest")}
    answer = {"$ref": REFERENCE.format(model="RpcAnswer")}
    # The server validates each request of a batch separately: an invalid request has an error as its answer.
    batch = {"type": "array", "minItems": 1, "maxItems": BATCH, "items": {"description": "A request"}}
    answers: dict[str, Json] = {"anyOf": [answer, {"type": "array", "items": answer}]}
    content = {"application/json": {"schema": answers}, "text/event-stream": {}}
    body = {"application/json": {"schema": {"anyOf": [request, batch]}}}
    return {
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "The answer, even if the call failed", "content": content},
            "204": {"description": "The request contains notifications only."},
        }
        | refusals(answers),
    }


def refusals(schema: Mapping[str, Json] | None = None) -> dict[str, Json]:
    """Return the OpenAPI descriptions of error responses."""
    content = {"application/json": {"schema": schema or ERROR}}
    return {str(status): {"description": why, "content": content} for status, why in REASONS.items()}


def make_document(app: FastAPI) -> dict[str, Json]:
    """Return the document: FastAPI's, with the schemas of the operations and the security scheme."""
    document = FastAPI.openapi(app)
    for path, methods in document["paths"].items():
        if path.startswith(PREFIX):
            methods["post"] |= described(OPERATIONS[path.removeprefix(PREFIX)])
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
    """Return the schemas of requests and of results, by operation, and the definitions they refer to."""
    every: list[tuple[tuple[str, str], JsonSchemaMode, TypeAdapter[Any]]] = []
    for each in OPERATIONS.values():
        every.append(((each.name, "request"), "validation", TypeAdapter(each.parameters)))
        every.append(((each.name, "answer"), "serialization", TypeAdapter(each.result)))
    found, shared = TypeAdapter.json_schemas(every, by_alias=False, ref_template=REFERENCE)
    requests = {name: found[(name, "request"), "validation"] for name in OPERATIONS}
    answers = {name: found[(name, "answer"), "serialization"] for name in OPERATIONS}
    return requests, answers, shared.get("$defs", {})
