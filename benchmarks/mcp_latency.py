"""The row about MCP: reading one task by a tool, against the same by JSON-RPC."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

import httpx

CALLS = 400
WARM_UP = 50
ACCEPT = {"Accept": "application/json, text/event-stream"}
INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}


def latency(url: str) -> tuple[float, float]:
    """Return the median milliseconds of `tasks_get` on a kept session, and of `tasks.get` by JSON-RPC."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        created = _request(client, "/tasks", "tasks.create", {"tasks": {"name": "n"}}, {}).json()
        given = {"task_id": created["result"]["id"]}
        opened = _request(client, "/mcp", "initialize", INITIALIZE, ACCEPT)
        session = ACCEPT | {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        call = {"name": "tasks_get", "arguments": given}
        by_mcp, by_rpc = list[float](), list[float]()
        for at in range(WARM_UP + CALLS):
            by_rpc.append(_seconds(client, "/tasks", "tasks.get", given, {}, at))
            by_mcp.append(_seconds(client, "/mcp", "tools/call", call, session, at))
    return 1000 * statistics.median(by_mcp[WARM_UP:]), 1000 * statistics.median(by_rpc[WARM_UP:])


def _seconds(
    client: httpx.Client, path: str, method: str, params: Any, headers: dict[str, str], number: int
) -> float:
    begin = perf_counter()
    answer = _request(client, path, method, params, headers, number)
    elapsed = perf_counter() - begin
    assert '"result"' in answer.text, answer.text
    return elapsed


def _request(
    client: httpx.Client, path: str, method: str, params: Any, headers: dict[str, str], number: int = 0
) -> httpx.Response:
    given = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return client.post(path, json=given, headers=headers).raise_for_status()
