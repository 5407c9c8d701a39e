"""Tasks for completion, from the process that commands would ask: a server, the holder, or the database.

Other processes are asked with the standard library alone. The libraries that commands use for this take
longer to import than people want to wait for a completion.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast
from urllib.parse import urlsplit

from apflow.cli.inputs.stored_tokens import token_for
from apflow.core.model.task import Json
from apflow.core.process.server_file import API, ServerInfo, find_server
from apflow.core.settings import get_settings
from apflow.core.store.duckdb_url import default_url, file_of

MAX_TREES: Final = 100
MAX_TASKS: Final = 1000
TIMEOUT_SECONDS: Final = 5.0  # the first answer of a process that holds a database takes longer
MAX_BYTES: Final = 16 << 20  # of an answer: what is larger takes too long to read

Tasks = list[Mapping[str, Json]]
Ask = Callable[[dict[str, Json]], Tasks]


def find_tasks(server: str, incomplete: str) -> list[tuple[str, str, str]]:
    """Return id, name and status of tasks whose id begins with `incomplete`, the newest first.

    The tasks are roots, or all tasks if no root fits.

    Args:
        server: the URL that the command names; empty if it names none.

    Raises:
        Exception: no process answers, or its answer is not understood.
    """
    ask = _asker(server or get_settings().api_url)
    if ask is None:
        return []
    found = _fitting(ask({"limit": MAX_TREES}), incomplete)
    if not found and incomplete:
        found = _fitting(ask({"limit": MAX_TASKS, "root_only": False}), incomplete)
    return found


def _fitting(tasks: Tasks, incomplete: str) -> list[tuple[str, str, str]]:
    rows = [(str(each["id"]), str(each["name"]), str(each["status"])) for each in tasks]
    return [row for row in rows if row[0].startswith(incomplete)]


def _asker(server: str) -> Ask | None:
    """Return what lists tasks; None if there is nothing to list."""
    if server:
        return partial(_ask_server, server)
    url = get_settings().database_url or default_url()
    scheme = url.partition(":")[0]
    if scheme != "duckdb":
        return None if scheme == "memory" else _ask_database
    file = file_of(url)
    holder = find_server(file) if file is not None else None
    if holder is not None:
        return _asker_of(holder)
    return _ask_database if file is not None and file.is_file() else None


def _asker_of(holder: ServerInfo) -> Ask | None:
    if holder.url and (not holder.needs_token or token_for(holder.url)):
        return partial(_ask_server, holder.url)
    return partial(_ask_holder, holder.socket) if holder.socket and not holder.needs_token else None


def _request(params: Mapping[str, Json]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tasks.list", "params": params}).encode()


def _result(answer: bytes) -> Tasks:
    return cast("Tasks", json.loads(answer)["result"])


def _ask_server(url: str, params: dict[str, Json]) -> Tasks:
    """Ask a server at its URL."""
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    token = token_for(url)
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("POST", f"{parts.path.rstrip('/')}/tasks", _request(params), headers)
        answer = connection.getresponse().read(MAX_BYTES)
    finally:
        connection.close()
    return _result(answer)


def _ask_holder(path: str, params: dict[str, Json]) -> Tasks:
    """Ask the process that holds the database at its Unix socket."""
    import socket

    from apflow.core.process.local_socket import is_own_peer

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(path)
        with connection.makefile("rb") as lines:
            greeting: Any = json.loads(lines.readline(MAX_BYTES))
            if not is_own_peer(connection) or greeting.get("apflow") != API:
                raise ConnectionError(path)
            connection.sendall(_request(params) + b"\n")
            lines.readline(MAX_BYTES)  # the request is accepted
            return _result(lines.readline(MAX_BYTES))


def _ask_database(params: dict[str, Json]) -> Tasks:
    """Open the database: no other process has it. This takes as long as a command."""
    import asyncio

    from apflow.core.service.task_service import TaskService
    from apflow.core.store.session import get_default_session

    async def work() -> Any:
        async with asyncio.timeout(TIMEOUT_SECONDS), get_default_session() as db:
            return await TaskService(db).list(**params)

    return cast("Tasks", asyncio.run(work()))
