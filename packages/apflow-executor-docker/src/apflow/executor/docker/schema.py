"""What `docker_executor` takes, as a JSON Schema."""

from __future__ import annotations

from typing import Any, Final

from apflow.core.bounds import MAX_CALL_SECONDS, MAX_COUNT
from apflow.core.payload.schema import NAMED_ONLY

MEMORY: Final = "1g"  # enough for most commands, and not the whole machine
PIDS: Final = 256
MIN_CPUS: Final = 0.01
MAX_CPUS: Final = 10_000
MAX_MEMORY: Final = 1 << 62  # bytes: the engine counts with 64 bits
TIMEOUT: Final = 60
OUTPUT_BYTES: Final = 1 << 20

_COMMAND: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
    ]
}
_TARGET: dict[str, Any] = {"type": "string", "pattern": "^/"}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "image": {
            "type": "string",
            "minLength": 1,
            "description": "The image: a name with a tag or a digest, or an id.",
            "examples": ["python:3.12-slim"],
        },
        "command": {
            "description": "The program and its arguments: a list, or a string that is split as in a shell. "
            "No shell is started.",
            **_COMMAND,
            "examples": ["ls -l /", ["python", "-c", "print(1)"]],
        },
        "entrypoint": {
            "description": "What precedes the command, instead of the image's entry point.",
            **_COMMAND,
            "examples": [["/bin/sh", "-c"]],
        },
        "env": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Environment variables, added to the image's.",
            "examples": [{"LANG": "C"}],
        },
        "volumes": {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    _TARGET,
                    {
                        "type": "object",
                        "properties": {"bind": _TARGET, "mode": {"enum": ["ro", "rw"]}},
                        "required": ["bind"],
                        "additionalProperties": False,
                    },
                ]
            },
            "description": "Folders and files of this machine, each with its path in the container; "
            "read-only unless its mode is rw. Only below the folders that APFLOW_DOCKER_VOLUME_ROOTS names.",
            "examples": [{"/srv/data": "/data", "/srv/out": {"bind": "/out", "mode": "rw"}}],
        },
        "working_dir": {
            **_TARGET,
            "description": "The folder of the container to run it in, instead of the image's.",
            "examples": ["/data"],
        },
        "user": {
            "type": "string",
            "minLength": 1,
            "description": "Who runs it, instead of the image's user: a name or number, with a group or not.",
            "examples": ["1000:1000"],
        },
        "stdin": {"type": "string", "description": "Text for the standard input.", "examples": ["a line\n"]},
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": TIMEOUT,
            "description": "Seconds for everything, a pull included, after which the container is killed.",
            "examples": [300],
        },
        "resources": {
            "type": "object",
            "properties": {
                "cpu": {
                    "type": ["number", "string", "null"],
                    "minimum": MIN_CPUS,
                    "maximum": MAX_CPUS,
                    "pattern": r"^[0-9]{1,4}(\.[0-9]{1,9})?$",
                    "default": None,
                    "description": 'How many processors it may use, also as a string, such as "0.5"; '
                    "null: as many as there are.",
                },
                "memory": {
                    "anyOf": [
                        {"type": "integer", "minimum": 1, "maximum": MAX_MEMORY},
                        {
                            "type": "string",
                            "pattern": r"^[0-9]{1,16}(\.[0-9]{1,16})?([bkmgBKMG]|[kmgKMG][bB])?$",
                        },
                        {"type": "null"},
                    ],
                    "default": MEMORY,
                    "description": "How much memory, in bytes or with b, k, m or g, swap included; "
                    "null: no limit.",
                },
                "pids": {
                    "type": ["integer", "null"],
                    "minimum": 1,
                    "maximum": MAX_COUNT,
                    "default": PIDS,
                    "description": "How many processes and threads; null: no limit.",
                },
            },
            "additionalProperties": False,
            "description": "What it may use at most.",
            "examples": [{"cpu": 0.5, "memory": "256m", "pids": 64}],
        },
        "network": {
            "type": "string",
            "minLength": 1,
            "default": "none",
            "description": "The network it is in: none, or a network of the engine, as bridge.",
            "examples": ["bridge"],
        },
        "pull": {
            "enum": ["missing", "never", "always"],
            "default": "missing",
            "description": "When to pull the image.",
            "examples": ["never"],
        },
        "remove": {
            "type": "boolean",
            "default": True,
            "description": "Remove the container when it has ended. On timeout and cancellation it is "
            "removed anyway.",
            "examples": [False],
        },
        "check": {
            "type": "boolean",
            "default": True,
            "description": "Fail the task when the exit code is not 0.",
            "examples": [False],
        },
        "max_output_bytes": {
            "type": "integer",
            "minimum": 0,
            "maximum": 3 << 20,
            "default": OUTPUT_BYTES,
            "description": "How much of each output stream is kept. The rest is read, dropped and marked.",
            "examples": [65536],
        },
    },
    "required": ["image", "command"],
    # Only the task itself may say what is run: no result of another task fills in what it leaves out.
    NAMED_ONLY: True,
    # Notes that hooks leave begin with an underscore; any other unknown name is a slip.
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}
