"""The page of another process that holds a database: asked at its URL, or at its Unix socket."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from apflow.core.process.local_socket import IS_SUPPORTED, is_own_peer
from apflow.core.process.server_file import API, ServerInfo
from apflow.core.service.local_protocol import PAGE, VERSION

TIMEOUT_SECONDS: Final = 10.0
MAX_LINE_BYTES: Final = 1 << 16


def page_of_holder(holder: ServerInfo) -> str | None:
    """Return an address at which a browser finds the page of a process; None if it has no page."""
    try:
        if holder.url:
            return _page_of_server(holder.url)
        return _ask(holder.socket) if holder.socket and IS_SUPPORTED else None
    except (OSError, HTTPException, ValueError):
        return None


def _page_of_server(url: str) -> str | None:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("HEAD", "/ui/")
        return f"{url}/ui/" if connection.getresponse().status == 200 else None
    finally:
        connection.close()


def _ask(path: str) -> str | None:
    request = json.dumps({"jsonrpc": VERSION, "id": 1, "method": PAGE, "params": {}}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(path)
        with connection.makefile("rb") as lines:
            greeting: Any = json.loads(lines.readline(MAX_LINE_BYTES))
            if not is_own_peer(connection) or greeting.get("apflow") != API:
                return None
            connection.sendall(request + b"\n")
            while line := lines.readline(MAX_LINE_BYTES):
                answer: Any = json.loads(line)
                if answer.get("id") == 1:
                    result = answer.get("result")
                    return result if isinstance(result, str) else None
    return None
