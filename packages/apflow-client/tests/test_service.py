"""A server's operations, called as those of a database that is here."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from peers.apflowserver import ApflowServer, until

from apflow.client import Client, RemoteService
from apflow.core.errors import InvalidInputError, NotFoundError
from apflow.core.operations import OPERATIONS
from apflow.core.service import TaskService

TREE = [
    {"id": "svc", "name": "svc"},
    {"id": "svc-fails", "name": "far_fail", "parent_id": "svc"},
    {
        "id": "svc-goes-on",
        "name": "far_say",
        "parent_id": "svc",
        "dependencies": [{"id": "svc-fails", "required": False}],
    },
]


def test_every_operation_is_called_over_there():
    for operation in OPERATIONS.values():
        assert getattr(RemoteService, operation.method) is not getattr(TaskService, operation.method)


async def test_answers_are_those_of_a_service(server: ApflowServer):
    async with Client(server.url) as client:
        service = RemoteService(client)
        made = await service.create(TREE, user_id="ann")
        assert made["ids"] == {"svc": "svc", "svc-fails": "svc-fails", "svc-goes-on": "svc-goes-on"}
        done = await service.run("svc")
        assert (done["status"], done["error"], done["tolerated"]) == ("completed", None, ["svc-fails"])
        assert [each["id"] for each in await service.list(user_id="ann", limit=5)] == ["svc"]
        assert [event["type"] async for event in service.watch("svc")][-1] == "tree_completed"


async def test_an_id_may_be_shortened(server: ApflowServer):
    async with Client(server.url) as client:
        service = RemoteService(client)
        made = [await service.create({"id": f"shortened-{end}", "name": "far_say"}) for end in "ab"]
        assert await service.find_id("shortened-a") == made[0]["id"]
        with pytest.raises(InvalidInputError, match="begins 2 task ids"):
            await service.find_id("shortened")
        with pytest.raises(NotFoundError):
            await service.find_id("nothing-begins-so")


async def test_who_stops_waiting_cancels_the_run(server: ApflowServer, tmp_path: Path):
    begun, gone = tmp_path / "begun", tmp_path / "gone"
    async with Client(server.url) as client:
        service = RemoteService(client)
        task = {"name": "far_hold", "inputs": {"begun": str(begun), "gone": str(gone)}}
        made = await service.create(task)
        running = asyncio.ensure_future(service.run(made["id"]))
        await until(begun.exists)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await asyncio.to_thread(gone.exists)
