"""An approval outlives every process in which its task waits, and is decided over each interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from peers.apflowserver import ApflowServer, apflow_server, wait_for

ASKING = {
    "id": "ask",
    "name": "approval_executor",
    "inputs": {"question": "May it?", "timeout": "1h", "form": {"required": ["window"]}},
    "policy": {"effect": "once"},
}


ENVIRONMENT = {"APFLOW_LEASE_SECONDS": "1", "APFLOW_RATE_LIMIT": "1000000"}


def call(server: ApflowServer, method: str, **params: Any) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx.post(f"{server.url}/tasks", json=request, timeout=30).json()


def waiting(server: ApflowServer) -> list[dict[str, Any]]:
    """Return the approvals that wait in a process that runs their task."""
    found: list[dict[str, Any]] = call(server, "approvals.list")["result"]
    return (
        found
        if found and call(server, "tasks.get", task_id="ask")["result"]["status"] == "in_progress"
        else []
    )


@pytest.mark.parametrize("storage", ["duckdb", "postgres"])
def test_an_approval_outlives_kills_and_is_decided_then(
    storage: str, tmp_path: Path, request: pytest.FixtureRequest
):
    database = f"duckdb:///{tmp_path}/tasks.duckdb"
    if storage == "postgres":
        database = request.getfixturevalue("postgres_url")
    deadlines = set[str]()
    with apflow_server(tmp_path, database=database, environment=ENVIRONMENT) as server:
        assert "result" in call(server, "tasks.execute", tasks=[ASKING])
        for _ in range(2):  # more often than a task may be interrupted
            wait_for(lambda: waiting(server), 60)
            [found] = waiting(server)
            deadlines.add(found["deadline"])
            server.kill()
            server.start()
        wait_for(lambda: waiting(server), 60)
        refused = call(server, "approvals.approve", task_id="ask", answers={})
        assert "window" in str(refused["error"])
        decided = call(server, "approvals.approve", task_id="ask", answers={"window": "day"}, reason="Fine.")
        assert decided["result"]["status"] == "approved"
        wait_for(lambda: call(server, "tasks.get", task_id="ask")["result"]["status"] == "completed", 60)
        task = call(server, "tasks.get", task_id="ask")["result"]
        assert task["result"]["answers"] == {"window": "day"}
        assert task["result"]["reason"] == "Fine."
        assert call(server, "approvals.reject", task_id="ask")["error"]["code"] == -32009
    assert len(deadlines) == 1
