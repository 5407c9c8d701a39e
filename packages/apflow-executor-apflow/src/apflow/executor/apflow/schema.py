"""The JSON Schema of the inputs that describe a call of another server."""

from __future__ import annotations

from typing import Any, Final

from apflow.core.bounds import MAX_CALL_SECONDS
from apflow.core.payload.schema import NAMED_ONLY
from apflow.core.service.operations import OPERATIONS

TIMEOUT: Final = 300
POLL_INTERVAL: Final = 1

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "base_url": {
            "type": "string",
            "minLength": 1,
            "description": "Where the server is: http:// or https://, without user name and password.",
            "examples": ["http://127.0.0.1:8000", "https://example.com/apflow"],
        },
        "method": {
            "type": "string",
            "enum": list(OPERATIONS),
            "description": "The operation to call there. tasks.execute and tasks.submit run a tree.",
            "examples": ["tasks.execute"],
        },
        "params": {
            "type": "object",
            "description": "The parameters of the operation.",
            "examples": [{"tasks": [{"name": "system_info_executor"}]}, {"task_id": "nightly"}],
        },
        "auth_token": {
            "type": ["string", "null"],
            "description": "The bearer token, where the server asks for one. Give it as a secret.",
            "examples": ["from a secret"],
        },
        "wait_for_completion": {
            "type": "boolean",
            "default": True,
            "description": "Wait until what runs there has ended, and return its result.",
            "examples": [False],
        },
        "use_streaming": {
            "type": "boolean",
            "default": True,
            "description": "Follow the events there while waiting; otherwise ask again and again.",
            "examples": [False],
        },
        "poll_interval": {
            "type": "number",
            "minimum": 0.01,
            "maximum": MAX_CALL_SECONDS,
            "default": POLL_INTERVAL,
            "description": "Seconds between two questions, without streaming.",
            "examples": [5],
        },
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": TIMEOUT,
            "description": "Seconds for all of it. What runs there is cancelled then.",
            "examples": [3600],
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Headers that go with every request.",
            "examples": [{"X-Team": "reports"}],
        },
    },
    "required": ["base_url", "method", "params"],
    # Only the task itself may say what is called where: no result of another fills in what it leaves out.
    NAMED_ONLY: True,
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}
