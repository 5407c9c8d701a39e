"""Servers that end and come back while a client waits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from peers.apflowserver import apflow_server, until

from apflow.client import Client
from apflow.core.service.results import Event


async def test_a_wait_and_a_watch_survive_kill_and_restart(tmp_path: Path):
    end, begun = tmp_path / "end", tmp_path / "begun"
    inputs = {"until": str(end), "begun": str(begun)}
    tasks: list[dict[str, Any]] = [
        {"id": "all", "name": "all"},
        {"id": "hold", "name": "far_hold", "parent_id": "all", "inputs": inputs},
    ]
    with apflow_server(tmp_path, is_durable=True) as server:
        async with Client(server.url, timeout=5) as client:

            async def watched() -> list[Event]:
                return [each async for each in client.watch("all")]

            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(client.tasks_execute(tasks=tasks, wait=True))
                await until(begun.exists)
                watching = group.create_task(watched())
                await asyncio.to_thread(server.kill)
                end.touch()
                await asyncio.to_thread(server.start)
            done, events = waiting.result(), watching.result()
            assert (done.success, done.status, done.root_task_id) == (True, "completed", "all")
            stored = [each.sequence for each in events if each.type not in ("snapshot", "progress", "log")]
            assert stored == list(range(stored[0], stored[-1] + 1)), "none is missed, and none comes twice"
            assert events[-1].type == "tree_completed"
            assert (await client.tasks_count(root_only=True)).total == 1
