"""The JSON Schema of the inputs that describe a call of an agent."""

from __future__ import annotations

from typing import Any, Final

from apflow.core.bounds import MAX_CALL_SECONDS
from apflow.core.payload.schema import NAMED_ONLY

TIMEOUT: Final = 300
POLL_INTERVAL: Final = 1
MAX_OUTPUT_BYTES: Final = 1 << 20
TRANSPORTS: Final = ("jsonrpc", "http+json", "grpc")

AGENT: Final[dict[str, Any]] = {
    "type": "string",
    "minLength": 1,
    "description": "The agent: its URL (http:// or https://; a URL that ends in .json is that of the agent "
    "card), or a name in the setting APFLOW_A2A_AGENTS.",
    "examples": ["https://agents.example.com/weather", "weather"],
}

PART: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "data": {},
        "url": {"type": "string"},
        "raw": {"type": "string"},
        "media_type": {"type": "string"},
        "filename": {"type": "string"},
        "metadata": {"type": "object"},
    },
    "additionalProperties": False,
}

PROPERTIES: Final[dict[str, Any]] = {
    "message": {
        "description": "What to send: a string as text, any other value as data. Null, or no message: only "
        "`parts` are sent.",
        "examples": ["What is the weather in Oslo?", {"city": "Oslo"}],
    },
    "parts": {
        "type": "array",
        "items": PART,
        "maxItems": 1000,
        "description": "Parts of the message, after `message`. A part has one of `text`, `data` (any "
        "JSON), `url` (of a file) and `raw` (a file in base64), and may have `media_type`, `filename` and "
        "`metadata`.",
        "examples": [[{"text": "Summarize this."}, {"url": "https://example.com/a.pdf"}]],
    },
    "task_id": {
        "type": ["string", "null"],
        "description": "The task of the agent that the message continues, such as one that requires input.",
        "examples": ["8d1c"],
    },
    "context_id": {
        "type": ["string", "null"],
        "description": "The conversation that the message belongs to.",
        "examples": ["41f0"],
    },
    "reference_task_ids": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Other tasks of the agent that the message refers to.",
        "examples": [["8d1c"]],
    },
    "metadata": {
        "type": "object",
        "description": "Metadata of the message and of the request.",
        "examples": [{"skill_id": "forecast"}],
    },
    "accepted_output_modes": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Media types that the answer may have.",
        "examples": [["text/plain", "application/json"]],
    },
    "extensions": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "description": "URIs of extensions of A2A to activate.",
        "examples": [["https://example.com/extensions/timing"]],
    },
    "auth_token": {
        "type": ["string", "null"],
        "description": "The bearer token, if the agent requires one. Give it as a secret.",
        "examples": ["from a secret"],
    },
    "headers": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Headers of every request, such as API keys; over gRPC, its metadata.",
        "examples": [{"X-API-Key": "from a secret"}],
    },
    "trusted_hosts": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "description": "Hosts that the agent card may name as the address of the agent, besides its own.",
        "examples": [["grpc.example.com"]],
    },
    "transport": {
        "enum": [*TRANSPORTS, None],
        "description": "The transport to use. By default, the first usable one of the agent card.",
        "examples": ["grpc"],
    },
    "use_streaming": {
        "type": "boolean",
        "default": True,
        "description": "Follow a stream of updates, if the agent offers streams; otherwise poll.",
        "examples": [False],
    },
    "poll_interval": {
        "type": "number",
        "minimum": 0.01,
        "maximum": MAX_CALL_SECONDS,
        "default": POLL_INTERVAL,
        "description": "Seconds between two polls, without streaming.",
        "examples": [5],
    },
    "timeout": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": MAX_CALL_SECONDS,
        "default": TIMEOUT,
        "description": "Seconds for the whole call, after which the agent's task is cancelled.",
        "examples": [3600],
    },
    "max_output_bytes": {
        "type": "integer",
        "minimum": 1,
        "maximum": 8 << 20,
        "default": MAX_OUTPUT_BYTES,
        "description": "Maximum size of the answer. A larger one fails the task.",
        "examples": [65536],
    },
}

COMMON: Final[dict[str, Any]] = {
    "type": "object",
    # Only the task itself may name who is called and what is sent: no result of another fills in an input.
    NAMED_ONLY: True,
    # Notes of hooks begin with an underscore; any other unknown name is a mistake.
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}

SCHEMA: Final[dict[str, Any]] = COMMON | {
    "properties": {"agent": AGENT, **PROPERTIES},
    "required": ["agent"],
}
NAMED_SCHEMA: Final[dict[str, Any]] = COMMON | {"properties": PROPERTIES}
