"""What the executor takes."""

from __future__ import annotations

from typing import Any

from apflow.core.bounds import MAX_CALL_SECONDS
from apflow.core.payload.schema import NAMED_ONLY
from apflow.executor.ssh.request import ACCEPT_NEW, OUTPUT_BYTES, STRICT

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "host": {
            "type": "string",
            "pattern": r"^[\w.:%-]+$",
            "description": "The name or address of the machine.",
            "examples": ["build.example.com", "10.0.0.7", "fd00::7"],
        },
        "port": {
            "type": "integer",
            "minimum": 1,
            "maximum": 65535,
            "default": 22,
            "description": "The port of its SSH server.",
            "examples": [2222],
        },
        "username": {
            "type": "string",
            "minLength": 1,
            "description": "The user to log in as.",
            "examples": ["deploy"],
        },
        "password": {"type": "string", "description": "The user's password.", "writeOnly": True},
        "key": {"type": "string", "description": "The text of a private key.", "writeOnly": True},
        "key_file": {
            "type": "string",
            "minLength": 1,
            "description": "The path of a local private key, which only its owner may read.",
            "examples": ["~/.ssh/deploy"],
        },
        "passphrase": {
            "type": "string",
            "description": "What the private key is encrypted with.",
            "writeOnly": True,
        },
        "command": {
            "description": "A string for the user's remote shell, or a program and its arguments "
            "as a list, which no shell reads.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ],
            "examples": ["df -h | tail -n +2", ["systemctl", "restart", "web"]],
        },
        "env": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Environment variables for it, whatever the server's AcceptEnv says.",
            "examples": [{"LANG": "C"}],
        },
        "stdin": {"type": "string", "description": "Text for its standard input.", "examples": ["a line\n"]},
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": 30,
            "description": "Seconds after which it is ended there, with all that it started.",
            "examples": [300],
        },
        "known_hosts": {
            "type": "string",
            "minLength": 1,
            "description": "The path of a known_hosts file, or its lines. Without it, those that ssh reads.",
            "examples": ["~/.ssh/known_hosts", "build.example.com ssh-ed25519 AAAAC3Nza..."],
        },
        "host_key_policy": {
            "enum": [STRICT, ACCEPT_NEW],
            "default": STRICT,
            "description": "What to do with a host that is not known: refuse it, or accept it, and add it to "
            "the known_hosts file that was named. One whose key has changed is always refused.",
            "examples": [ACCEPT_NEW],
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
            "maximum": 4 << 20,
            "default": OUTPUT_BYTES,
            "description": "How much of each output stream is kept. The rest is read, dropped and marked.",
            "examples": [65536],
        },
    },
    "required": ["host", "username", "command"],
    # Only the task itself may say where to log in and what to run there: no result of another task does.
    NAMED_ONLY: True,
    # Notes that hooks leave begin with an underscore; any other unknown name is a slip.
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}
