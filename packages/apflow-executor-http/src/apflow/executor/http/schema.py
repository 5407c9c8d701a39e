"""The JSON Schema of the inputs that describe a request."""

from __future__ import annotations

from typing import Any, Final

from apflow.core.bounds import MAX_CALL_SECONDS
from apflow.core.payload.schema import NAMED_ONLY

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
RETRIED: Final = (429, 502, 503, 504)
REFUSALS: Final = (429, 503)  # by which a server says that it has not acted
MAX_BYTES: Final = 4 << 20
ONCE: Final[dict[str, Any]] = {"max_attempts": 1}

_VALUE: Final = {"type": ["string", "number", "boolean"]}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {
            "type": "string",
            "minLength": 1,
            "description": "Where to: http:// or https://, without user name and password.",
            "examples": ["https://api.example.com/v1/orders"],
        },
        "method": {"enum": [*METHODS, *map(str.lower, METHODS)], "default": "GET",
                   "description": "What to do there.", "examples": ["POST"]},
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Headers of the request.",
            "examples": [{"Accept": "application/json"}],
        },
        "params": {
            "type": "object",
            "additionalProperties": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE}]},
            "description": "Parameters that are added to the query of the URL; a list repeats its name.",
            "examples": [{"page": 2, "tag": ["a", "b"]}],
        },
        "json": {"description": "The body, as JSON.", "examples": [{"name": "Ada"}]},
        "data": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"base64": {"type": "string"}},
                    "required": ["base64"],
                    "additionalProperties": False,
                },
            ],
            "description": "The body, sent unchanged: a string, or bytes in base64.",
            "examples": ["one line\n", {"base64": "AAEC"}],
        },
        "form": {
            "type": "object",
            "additionalProperties": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE}]},
            "description": "Fields of a form: the body, or what goes with files.",
            "examples": [{"name": "Ada"}],
        },
        "files": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "filename": {"type": "string"},
                    "content": {"type": "string"},
                    "content_base64": {"type": "string"},
                    "content_type": {"type": "string"},
                },
                "required": ["filename"],
                "additionalProperties": False,
            },
            "description": "Files of a form, by field: `filename`, and `content` or `content_base64`.",
            "examples": [{"report": {"filename": "a.csv", "content": "a,b\n", "content_type": "text/csv"}}],
        },
        "auth": {
            "type": "object",
            "properties": {
                "type": {"enum": ["bearer", "basic", "apikey"]},
                "token": {"type": "string"},
                "username": {"type": "string"},
                "password": {"type": "string"},
                "api_key": {"type": "string"},
                "name": {"type": "string"},
                "in": {"enum": ["header", "query"]},
                "key": {"type": "string"},
                "value": {"type": "string"},
                "location": {"enum": ["header", "query"]},
            },
            "required": ["type"],
            "additionalProperties": False,
            "description": "The credential: bearer (`token`), basic (`username`, `password`), or apikey "
            "(`api_key`, `name`, by default X-API-Key, `in` header or query; or `value`, `key`, `location`).",
            "examples": [{"type": "bearer", "token": "from a secret"}],
        },
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": 30,
            "description": "Seconds for all of it, repetitions and redirects included.",
            "examples": [5],
        },
        "verify": {
            "type": ["boolean", "string"],
            "default": True,
            "description": "The trusted certificates: true for the system's CAs, a path for those in that "
            "file, false to accept any certificate.",
            "examples": ["/etc/ssl/company-ca.pem"],
        },
        "follow_redirects": {
            "type": "boolean",
            "default": True,
            "description": "Go where the answer points to. Credentials do not leave the origin of the URL.",
            "examples": [False],
        },
        "retry": {
            "type": "object",
            "properties": {
                "max_attempts": {"type": "integer", "minimum": 1, "maximum": 100},
                "delay": {"type": "number", "minimum": 0, "maximum": MAX_CALL_SECONDS},
                "backoff": {"type": "number", "minimum": 1, "maximum": 100},
                "max_delay": {"type": "number", "minimum": 0, "maximum": MAX_CALL_SECONDS},
                "on_status": {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}},
            },
            "additionalProperties": False,
            "default": ONCE,
            "description": "Repeat what is safe to send twice after lost connections, and any request after "
            "`on_status` (429, 502, 503, 504; 429, 503 for POST and PATCH without an own Idempotency-Key): "
            "`max_attempts` (3) in all, after `delay` (0.5) seconds, each `backoff` (2) times the one "
            "before, at most `max_delay` (30); `Retry-After` is respected up to that. With policy effect "
            "`once`, only what was never sent is repeated.",
            "examples": [{"max_attempts": 4, "delay": 0.2}],
        },
        "expect_status": {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 100, "maximum": 599},
                    "minItems": 1,
                },
            ],
            "description": "The status codes that are a success; 200 to 299, where nothing is named.",
            "examples": [404, [200, 404]],
        },
        "max_response_bytes": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_BYTES,
            "default": 1 << 20,
            "description": "How much of the body is kept, unpacked. The rest is not read; the cut is marked.",
            "examples": [65536],
        },
    },
    "required": ["url"],
    # Only the task itself may say what is sent where: no result of another task fills in what it leaves out.
    NAMED_ONLY: True,
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}  # fmt: skip
