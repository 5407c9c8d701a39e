"""Two servers of apflow: a tree on one has a tree run on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.apflowserver import ApflowServer, apflow_server, until

from apflow.client import Client
from apflow.core.service.results import Event


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApflowServer, ApflowServer]]:
    with (
        apflow_server(tmp_path_factory.mktemp("near")) as near,
        apflow_server(tmp_path_factory.mktemp("far")) as far,
    ):
        yield near, far


def delegating(far: ApflowServer, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a tree with a task that has tasks run on another server."""
    inputs = {"base_url": far.url, "method": "tasks.execute", "params": {"tasks": tasks}}
    return [
        {"id": "all", "name": "all"},
        {"id": "there", "name": "apflow_api_executor", "parent_id": "all", "inputs": inputs},
    ]


async def watch(client: Client, task_id: str, events: list[Event]) -> None:
    async for event in client.watch(task_id):
        events.append(event)  # noqa: PERF401 - looked at meanwhile


def fractions_of(events: list[Event]) -> list[float]:
    return [each.progress for each in events if each.type == "progress" and each.progress is not None]


def messages_of(events: list[Event]) -> str:
    return " ".join(each.message or "" for each in events if each.type == "progress")


async def test_a_tree_has_another_run_elsewhere_and_tells_its_progress(
    servers: tuple[ApflowServer, ApflowServer], tmp_path: Path
):
    near, far = servers
    end = tmp_path / "end"
    events: list[Event] = []
    tasks = [
        {"id": "far", "name": "far"},
        {"id": "say", "name": "far_say", "parent_id": "far"},
        {"id": "hold", "name": "far_hold", "parent_id": "far", "inputs": {"until": str(end)}},
    ]
    async with Client(near.url) as client:
        made = await client.tasks_submit(delegating(far, tasks), idempotency_key="delegating")
        async with asyncio.TaskGroup() as group:
            group.create_task(watch(client, made.id, events))
            await until(lambda: len(fractions_of(events)) >= 2 and "step" in messages_of(events), 30)
            end.touch()
        assert events[-1].type == "tree_completed"
        assert fractions_of(events) == sorted(fractions_of(events))
        [there] = await client.tasks_children(made.id)
        assert list(there.result["result"]["children"].values()) == ["completed", "completed"]
    async with Client(far.url) as client:
        assert (await client.tasks_get(there.result["task_id"])).status == "completed"


async def test_cancelling_the_tree_cancels_what_runs_elsewhere(
    servers: tuple[ApflowServer, ApflowServer], tmp_path: Path
):
    near, far = servers
    begun, gone = tmp_path / "begun", tmp_path / "gone"
    hold = {"name": "far_hold", "inputs": {"begun": str(begun), "gone": str(gone)}}
    async with Client(near.url) as here, Client(far.url) as there:
        made = await here.tasks_submit(delegating(far, [hold]), idempotency_key="cancelling")
        await until(begun.exists)
        [cancelled] = await here.tasks_cancel([made.id])
        await until(gone.exists)
        assert cancelled.status == "cancelled"
        [far_root] = await there.tasks_list(name="far_hold", root_only=True)
        assert far_root.status == "cancelled"


async def test_a_failure_elsewhere_fails_the_tree_with_its_error(
    servers: tuple[ApflowServer, ApflowServer],
):
    near, far = servers
    async with Client(near.url) as client:
        fail = {"name": "far_fail", "inputs": {"text": "out of paper"}}
        failed = await client.tasks_execute(tasks=delegating(far, [fail]), wait=True)
        assert (failed.success, failed.status) == (False, "failed")
        assert failed.error is not None
        assert "out of paper" in failed.error
        [there] = await client.tasks_children(failed.root_task_id)
        assert there.result["error_type"] == "RemoteTreeFailedError"
