"""What a task gives to the executor."""

from __future__ import annotations

from typing import Any

from apflow.core.bounds import MAX_CALL_SECONDS, MAX_COUNT
from apflow.core.payload.schema import NAMED_ONLY

_PEM = "in PEM, or the path of a file with it."

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "server": {
            "type": "string",
            "minLength": 1,
            "description": "Where the server listens: host:port, or [IPv6 address]:port.",
            "examples": ["localhost:50051", "[::1]:50051"],
        },
        "service": {
            "type": "string",
            "minLength": 1,
            "description": "The full name of the service, with its package.",
            "examples": ["grpc.health.v1.Health"],
        },
        "method": {
            "type": "string",
            "minLength": 1,
            "description": "The name of the method.",
            "examples": ["Check"],
        },
        "request": {
            "description": "The message to send, by the JSON mapping of protobuf; a list of messages where "
            "the method takes a stream.",
            "examples": [{"service": ""}, [{"number": "1"}, {"number": "2"}]],
        },
        "metadata": {
            "type": "object",
            "additionalProperties": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
            },
            "description": "Headers of the call. Values of keys that end in -bin are base64.",
            "examples": [{"authorization": "Bearer TOKEN", "x-tags": ["a", "b"]}],
        },
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": 30,
            "description": "Seconds for everything; sent to the server as the deadline.",
            "examples": [5],
        },
        "tls": {
            "type": "object",
            "properties": {
                "enabled": {"type": "boolean", "default": True, "description": "Whether to use TLS."},
                "ca": {
                    "type": "string",
                    "description": f"Authorities that are trusted, instead of the usual ones: {_PEM}",
                },
                "cert": {"type": "string", "description": f"A certificate to show to the server, {_PEM}"},
                "key": {"type": "string", "description": f"Its private key, unencrypted, {_PEM}"},
                "server_name": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The name in the server's certificate, where that is not the host's.",
                },
            },
            "additionalProperties": False,
            "description": "How to secure the connection. Without it, nothing is encrypted.",
            "examples": [{}, {"ca": "/etc/ssl/own-ca.pem", "server_name": "payments.internal"}],
        },
        "proto_file": {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}},
            ],
            "description": "The content of the .proto file that describes the service; for several files, an "
            "object that maps file names, as used in imports, to contents. Without it, and "
            "without descriptor_set, the server is asked (server reflection).",
            "examples": [
                'syntax = "proto3"; message A {} service S { rpc M(A) returns (A); }',
                {"a/b.proto": 'syntax = "proto3"; message B {}'},
            ],
        },
        "descriptor_set": {
            "type": "string",
            "minLength": 1,
            "description": "The same, compiled: a FileDescriptorSet with its imports, as base64.",
            "examples": ["Cg8KB2EucHJvdG9iBnByb3RvMw=="],
        },
        "max_responses": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_COUNT,
            "description": "End a stream of the server's after so many responses.",
            "examples": [10],
        },
        "max_output_bytes": {
            "type": "integer",
            "minimum": 0,
            "maximum": 8 << 20,
            "default": 1 << 20,
            "description": "How much is kept of all responses together, as JSON. A stream that gives more is "
            "ended and marked; a single response that is larger fails.",
            "examples": [65536],
        },
    },
    "required": ["server", "service", "method", "request"],
    # Only the task itself may say what is called: no result of another task fills in what it leaves out.
    NAMED_ONLY: True,
    # Notes that hooks leave begin with an underscore; any other unknown name is a slip.
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}
