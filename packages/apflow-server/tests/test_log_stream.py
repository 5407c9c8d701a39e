"""Log lines over HTTP: complete, from wherever the reader left, to the end of the run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from reading import Event, client_of, read_stream
from serving import SECRET, Served, bearer, serving

from apflow.core import BaseTask
from apflow.core.extensions.registry import get_registry
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings


class Prints(BaseTask):
    """Prints numbered lines, slowly enough to be followed."""

    id = "server_prints"

    async def execute(self, inputs: dict[str, Any]) -> None:
        for at in range(inputs["lines"]):
            print("line", at)
            if at % 10 == 9:
                await asyncio.sleep(0.02)
        self.log("bye", level="ERROR")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    get_registry().register(Prints)
    yield
    get_registry().unregister(Prints.id)


def prints(lines: int) -> dict[str, Any]:
    return {"id": "r", "name": "prints", "schemas": {"method": "server_prints"}, "inputs": {"lines": lines}}


async def lines_of(client: Any, *, count: int | None = None, **more: Any) -> list[Event]:
    return await read_stream(client, "/tasks/r/logs", count=count, **more)


async def test_lines_are_followed_to_the_end_over_several_connections(served: Served):
    await TaskService(served.db, is_served=True).submit(prints(300))
    found: list[Event] = []
    async with client_of(served.url) as client, asyncio.timeout(60):
        while not found or found[-1]["event"] != "end":
            headers = {"Last-Event-ID": found[-1]["id"]} if found else {}
            found += await lines_of(client, count=70, headers=headers)
    *lines, end = found
    assert (end["event"], end["data"]) == ("end", {})
    assert [line["data"]["message"] for line in lines] == [*(f"line {at}" for at in range(300)), "bye"]
    assert all(line["event"] == "line" and int(line["id"]) == line["data"]["number"] for line in lines)
    assert served.app.state.streams.open["sse"] == 0


async def test_lines_are_chosen_as_by_the_operation(served: Served):
    await TaskService(served.db, is_served=True).submit(prints(3))
    async with client_of(served.url) as client, asyncio.timeout(60):
        *every, _ = await lines_of(client)
        params = {"task_id": "r", "limit": 2}
        request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.logs", "params": params}
        assert (await client.post("/tasks", json=request)).json()["result"] == [e["data"] for e in every[:2]]
        called = await client.post("/call/tasks.logs", json={"task_id": "r", "level": "ERROR"})
        assert [line["message"] for line in called.json()] == ["bye"]
        *errors, _ = await lines_of(client, params={"level": "ERROR"})
        assert [line["data"]["message"] for line in errors] == ["bye"]
        *rest, _ = await lines_of(client, params={"after": every[1]["id"], "attempt": 1})
        assert [line["data"] for line in rest] == [line["data"] for line in every[2:]]
        assert [e["event"] for e in await lines_of(client, params={"attempt": 2})] == ["end"]


@pytest.mark.parametrize("params", [{"level": "LOUD"}, {"after": "x"}, {"after": -1}, {"attempt": 0}])
async def test_wrong_parameters_are_refused(served: Served, params: dict[str, Any]):
    await TaskService(served.db).create(prints(1))
    async with client_of(served.url) as client:
        assert (await client.get("/tasks/r/logs", params=params)).status_code == 400


async def test_lines_of_others_and_of_no_task_are_not_found():
    with serving(settings=Settings(jwt_secret=SECRET)) as served:
        await TaskService(served.db, "ann").create(prints(1), user_id="ann")
        async with client_of(served.url) as client:
            assert (await client.get("/tasks/r/logs")).status_code == 401
            for task_id in ("r", "unknown"):
                url = f"/tasks/{task_id}/logs"
                assert (await client.get(url, headers=bearer("ben"))).status_code == 404
