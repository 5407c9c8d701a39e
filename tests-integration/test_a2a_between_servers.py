"""Tasks of one apflow that call another one over A2A."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.apflowserver import ApflowServer, apflow_server, until
from peers.ports import free_socket, port_of

from apflow.core import MemoryStore, TaskCreator, TaskManager, TaskStore

TRANSPORTS = ("jsonrpc", "http+json", "grpc")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApflowServer]:
    with free_socket() as reserved:
        grpc = {"APFLOW_A2A_GRPC_BIND": f"127.0.0.1:{port_of(reserved)}"}
        with apflow_server(tmp_path_factory.mktemp("far"), environment=grpc) as running:
            yield running


async def created(db: TaskStore, server: ApflowServer, transport: str, *far: dict[str, Any]) -> Any:
    inputs = {"agent": server.url, "transport": transport, "message": {"tasks": list(far)}, "timeout": 60}
    task = {"id": "ask", "name": "Ask", "schemas": {"method": "a2a_executor"}, "inputs": inputs}
    return await TaskCreator(db).create_task_tree_from_array([task])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_results_of_the_other_tree_are_the_data(server: ApflowServer, transport: str):
    root = {"id": "all", "name": "aggregate_results_executor", "dependencies": ["say"]}
    say = {"id": "say", "name": "far_say", "parent_id": "all", "inputs": {"text": "hi"}}
    async with MemoryStore() as db:
        tree = await created(db, server, transport, root, say)
        await TaskManager(db).distribute_task_tree(tree)
        result = (await db.get(["ask"]))["ask"].result
    assert tree["status"] == "completed", tree["error"]
    assert result["transport"] == transport
    assert {"said": "hi"} in [each.get("result") for each in result["data"]]
    assert result["data"][-1]["status"] == "completed"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_failure_of_the_other_tree_fails_the_task(server: ApflowServer, transport: str):
    async with MemoryStore() as db:
        tree = await created(db, server, transport, {"name": "far_fail", "inputs": {"text": "the reason"}})
        await TaskManager(db).distribute_task_tree(tree)
    assert tree["status"] == "failed"
    assert "the reason" in tree["error"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_cancelled_task_stops_the_executors_of_the_other_tree(
    server: ApflowServer, transport: str, tmp_path: Path
):
    begun, gone = tmp_path / "begun", tmp_path / "gone"
    hold = {"name": "far_hold", "inputs": {"begun": str(begun), "gone": str(gone)}}
    async with MemoryStore() as db:
        manager = TaskManager(db)
        running = asyncio.create_task(
            manager.distribute_task_tree(await created(db, server, transport, hold))
        )
        await until(begun.exists, 60)
        await manager.cancel_task("ask")
        tree = await running
        await until(gone.exists, 60)
    assert tree["status"] == "cancelled"
