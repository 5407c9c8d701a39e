"""A server's operations, called as those of a database that is here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from peers.apflowserver import ApflowServer, until

from apflow.client import Client, RemoteService, ServerUnreachableError
from apflow.core.errors import AmbiguousTaskError, InvalidInputError, NotFoundError
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.testing.proxy import a_proxy, at_most

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


async def test_logs_are_followed(server: ApflowServer):
    async with Client(server.url) as client:
        service = RemoteService(client)
        await service.create({"id": "svc-logs", "name": "far_print", "inputs": {"lines": 50}})
        followed: list[str] = []

        async def follow() -> None:
            followed.extend([line["message"] async for line in service.follow_logs("svc-logs")])

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(follow())
            group.create_task(service.run("svc-logs"))
        assert followed == [f"line {at}" for at in range(50)]
        lines = [line async for line in service.follow_logs("svc-logs")]
        assert [line["message"] for line in lines] == followed
        assert await service.logs("svc-logs", limit=3) == lines[:3]
        after = lines[-2]["number"]
        rest = [line async for line in client.follow_logs("svc-logs", attempt=1, after=after, level="INFO")]
        assert [(line.message, line.source) for line in rest] == [("line 49", "stdout")]
        with pytest.raises(NotFoundError):
            _ = [line async for line in client.follow_logs("no such task")]


async def test_an_id_may_be_shortened(server: ApflowServer):
    async with Client(server.url) as client:
        service = RemoteService(client)
        made = [await service.create({"id": f"shortened-{end}", "name": "far_say"}) for end in "ab"]
        assert await service.find_id("shortened-a") == made[0]["id"]
        with pytest.raises(InvalidInputError, match="matches 2 task IDs"):
            await service.find_id("shortened")
        with pytest.raises(NotFoundError):
            await service.find_id("nothing-begins-so")


async def test_a_server_knows_tasks_by_their_paths(server: ApflowServer):
    array = [{"name": "paths"}, {"name": "far_say", "parent_id": "paths"}]
    async with Client(server.url) as client:
        service = RemoteService(client)
        first = await service.create(array)
        child = first["children"][0]
        assert (child["key"], child["id"]) == ("far_say", first["ids"]["far_say"])
        assert (await service.get("paths/far_say"))["id"] == child["id"]
        assert await service.find_id("paths") == first["id"]
        assert await service.find_id(f"{first['id'][:8]}/far_say") == child["id"]
        assert [each["id"] for each in await service.list(key="paths")] == [first["id"]]
        assert (await service.run("paths/far_say"))["status"] == "completed"
        assert {event["key"] async for event in service.watch("paths/far_say", 0)} == {"paths", "far_say"}
        second = await service.create(array)
        with pytest.raises(AmbiguousTaskError, match="'paths/far_say' matches 2 tasks") as caught:
            await service.get("paths/far_say")
        assert set(caught.value.task_ids) == {child["id"], second["children"][0]["id"]}
        with pytest.raises(AmbiguousTaskError, match="'paths' matches 2 tasks"):
            await service.find_id("paths")
        with pytest.raises(NotFoundError, match="Did you mean 'far_say'"):
            await service.get(f"{first['id']}/far_sai")


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


@pytest.mark.parametrize("key", [None, "order-17"])
async def test_a_tree_is_created_once_though_the_answer_is_lost(server: ApflowServer, key: str | None):
    """A client repeats what creates something only with a key, and the server honours it."""
    address = urlsplit(server.url)
    name = f"lost-{key}"
    with a_proxy((str(address.hostname), address.port or 0)) as proxy:
        proxy.cut_after = at_most(1, lambda piece: b"tasks.create" in piece)
        async with Client(f"http://127.0.0.1:{proxy.port}") as client:
            params: dict[str, Any] = {"tasks": [{"name": name}]}
            if key is None:
                with pytest.raises(ServerUnreachableError, match="not known"):
                    await client.call("tasks.create", params)
            else:
                await client.call("tasks.create", {**params, "idempotency_key": key})
        await until(lambda: proxy.lost_answers == 1)
    async with Client(server.url) as client:
        listed = await RemoteService(client).list(limit=100)
    assert [each["name"] for each in listed].count(name) == 1
