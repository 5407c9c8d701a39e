"""What a task may give to `mcp_executor`."""

from __future__ import annotations

from typing import Any, Final

from apflow.core.bounds import MAX_CALL_SECONDS
from apflow.core.payload.schema import NAMED_ONLY

TRANSPORTS: Final = ("stdio", "http", "sse")
OPERATIONS: Final = (
    "list_tools", "call_tool", "list_resources", "read_resource", "list_prompts", "get_prompt",
)  # fmt: skip
DEFAULT_TIMEOUT: Final = 30.0  # seconds
DEFAULT_OUTPUT_BYTES: Final = 1 << 20
MAX_OUTPUT_BYTES: Final = 8 << 20

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "transport": {
            "enum": list(TRANSPORTS),
            "description": "How to reach the server: `stdio` starts a program, `http` connects to an address "
            "by streamable HTTP, `sse` by the older HTTP+SSE.",
            "examples": ["stdio"],
        },
        "operation": {
            "enum": list(OPERATIONS),
            "description": "What to do. Lists contain all pages.",
            "examples": ["call_tool"],
        },
        "command": {
            "description": "The program of a stdio server and its arguments: a list, or a string that is "
            "split as in a shell. APFLOW_COMMAND_ALLOW must name the program.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ],
            "examples": [["mcp-server-git", "--repository", "/srv/code"]],
        },
        "args": {
            "type": "array",
            "items": {"type": "string"},
            "description": "More arguments, after those of `command`.",
            "examples": [["--local-timezone", "Europe/Berlin"]],
        },
        "cwd": {"type": "string", "description": "The folder to run it in.", "examples": ["/srv/data"]},
        "env": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Environment variables, added to a minimal environment.",
            "examples": [{"MEMORY_FILE_PATH": "/srv/data/memory.jsonl"}],
        },
        "url": {
            "type": "string",
            "minLength": 1,
            "description": "The address of an HTTP server. Credentials go into `headers`.",
            "examples": ["https://example.com/mcp"],
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Headers of each HTTP request.",
            "examples": [{"Authorization": "Bearer 123"}],
        },
        "auth": {
            "type": "object",
            "properties": {
                "token_url": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The token endpoint of the authorization server. Without it, the server "
                    "is asked for its authorization server, and that for the endpoint.",
                },
                "issuer": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The authorization server that the credentials belong to; the token "
                    "endpoint of another one is not used. Instead of `token_url`.",
                },
                "client_id": {"type": "string", "minLength": 1, "description": "The id of the client."},
                "client_secret": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The secret of the client; none for public clients.",
                },
                "refresh_token": {
                    "type": "string",
                    "minLength": 1,
                    "description": "A refresh token. Without it, the client credentials are the grant.",
                },
                "scope": {"type": "string", "description": "The requested scopes, separated by spaces."},
            },
            "required": ["client_id"],
            "additionalProperties": False,
            "description": "How to obtain an access token by OAuth 2 for an HTTP server. It is sent as a "
            "bearer token, and replaced when it expires.",
            "examples": [
                {
                    "token_url": "https://auth.example.com/token",
                    "client_id": "apflow",
                    "client_secret": "***",
                }
            ],
        },
        "verify": {
            "description": "The trusted TLS certificates: true for the CAs of this system, a path for those "
            "in a file or directory, false to accept any certificate.",
            "anyOf": [{"type": "boolean"}, {"type": "string", "minLength": 1}],
            "default": True,
            "examples": ["/etc/ssl/my-ca.pem", False],
        },
        "tool_name": {
            "type": "string",
            "minLength": 1,
            "description": "The tool, for `call_tool`.",
            "examples": ["git_log"],
        },
        "prompt_name": {
            "type": "string",
            "minLength": 1,
            "description": "The prompt, for `get_prompt`.",
            "examples": ["review"],
        },
        "arguments": {
            "type": "object",
            "description": "Arguments of the tool or the prompt. Those of a prompt are strings.",
            "examples": [{"repo_path": "/srv/code", "max_count": 10}],
        },
        "resource_uri": {
            "type": "string",
            "minLength": 1,
            "description": "The resource, for `read_resource`.",
            "examples": ["file:///srv/data/report.txt"],
        },
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": DEFAULT_TIMEOUT,
            "description": "Seconds for all of it: starting or connecting, and the operation.",
            "examples": [5],
        },
        "max_output_bytes": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_OUTPUT_BYTES,
            "default": DEFAULT_OUTPUT_BYTES,
            "description": "Maximum size of the result as JSON. A larger one fails the task.",
            "examples": [65536],
        },
    },
    "required": ["transport", "operation"],
    # Only the task itself may say what is started or connected to, and what is sent.
    NAMED_ONLY: True,
    # Notes that hooks leave begin with an underscore; any other unknown name is a slip.
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}
