"""What a request in a version of the protocol is answered that the installed SDK does not speak.

Version 1 of the SDK speaks no version from 2026-07-28 on, and its own refusal is not the error of that
protocol which names the versions that a client may use instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, cast

from starlette.datastructures import Headers

from apflow.core.errors import MalformedTextError
from apflow.core.model.task import Json
from apflow.core.payload.json_text import read_json

HEADER: Final = "mcp-protocol-version"
UNSUPPORTED_PROTOCOL_VERSION: Final = -32022
ADVICE: Final = (
    "The server has version 1 of the Python package mcp. Use one of the supported versions of the protocol, "
    'or install version 2 of the package on the server: pip install "mcp>=2".'
)
MAX_DEPTH: Final = 200  # levels of a request in which its ID is looked for
MAX_SHOWN: Final = 100  # characters of a version that is repeated


def unsupported_version(headers: Headers, supported: Sequence[str]) -> str | None:
    """Return the version of the protocol that a request is in, if it is none of the supported ones."""
    requested = headers.get(HEADER)
    return None if requested is None or requested in supported else requested[:MAX_SHOWN]


def refusal(requested: str, supported: Sequence[str], body: bytes | bytearray) -> dict[str, Json]:
    """Return the error that a request is answered with, for HTTP status 400.

    Args:
        body: the request, whose ID the error repeats; null if it cannot be read.
    """
    data: dict[str, Json] = {"supported": list(supported), "requested": requested, "advice": ADVICE}
    message = f"Unsupported protocol version: {requested}. Supported versions: {', '.join(supported)}."
    error: dict[str, Json] = {"code": UNSUPPORTED_PROTOCOL_VERSION, "message": message, "data": data}
    return {"jsonrpc": "2.0", "id": _id_of(body), "error": error}


def _id_of(body: bytes | bytearray) -> str | int | None:
    try:
        given = read_json(body.decode(), max_depth=MAX_DEPTH)
    except (MalformedTextError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    found = cast("dict[str, Json]", given).get("id") if isinstance(given, dict) else None
    return found if isinstance(found, str) or type(found) is int else None
