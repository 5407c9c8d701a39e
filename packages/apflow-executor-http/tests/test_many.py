"""Many calls: connections are used again, and nothing is left over."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
from peers.http import TOKEN, HttpPeer
from peers.leftovers import held, settled

from apflow.core import TaskCreator, TaskManager, create_session
from apflow.executor.http import RestExecutor, RestStatusError, close_connections


async def call(**inputs: Any) -> dict[str, Any]:
    return await RestExecutor().execute({"timeout": 30, **inputs})


async def test_two_hundred_run_at_once(peer: HttpPeer):
    results = await asyncio.gather(*(call(url=peer.url("/echo"), params={"n": n}) for n in range(200)))
    assert [result["json"]["query"] for result in results] == [[["n", str(n)]] for n in range(200)]


async def test_a_thousand_in_a_row_leave_nothing(peer: HttpPeer):
    await call(url=peer.url("/echo"))
    peer.connections.clear()
    before = held()
    for _ in range(1000):
        await call(url=peer.url("/echo"))
    assert len(peer.connections) <= 2, "one connection serves them all"
    await close_connections()
    await settled(before)


def test_each_event_loop_has_connections_of_its_own_and_closes_them(peer: HttpPeer):
    for _ in range(3):
        asyncio.run(call(url=peer.url("/echo")))
    gc.collect()  # an open connection would be a warning, and that an error


async def test_no_credential_is_told_anywhere(
    peer: HttpPeer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("APFLOW_SECRET_API_TOKEN", TOKEN)
    secret = {"$secret": "API_TOKEN"}
    tasks: list[dict[str, Any]] = [{"id": "root", "name": "root"}]
    for name, inputs in {
        "header": {"url": peer.url("/echo"), "headers": {"X-Token": secret}},
        "bearer": {"url": peer.url("/echo"), "auth": {"type": "bearer", "token": secret}},
        "query": {
            "url": peer.url("/echo"),
            "auth": {"type": "apikey", "in": "query", "name": "key", "api_key": secret},
        },
        "failing": {"url": peer.url("/status/500"), "params": {"say": secret}},
        "absent": {"url": "http://127.0.0.1:1/", "params": {"token": secret}},
    }.items():
        tasks.append(
            {
                "id": name,
                "name": name,
                "parent_id": "root",
                "schemas": {"method": "rest_executor"},
                "inputs": inputs,
            }
        )
    async with create_session("memory://secrets") as db:
        tree = await TaskCreator(db).create_task_tree_from_array(tasks)
        await TaskManager(db).distribute_task_tree(tree)
        stored = [task.to_dict() for task in await db.tree("root")]
        events = [event.to_dict() for event in await db.events("root")]
    statuses = {task["id"]: task["status"] for task in stored}
    assert statuses["query"] == statuses["bearer"] == statuses["header"] == "completed"
    assert statuses["failing"] == statuses["absent"] == "failed"
    for where in (str(stored), str(events), caplog.text):
        assert TOKEN not in where


async def test_a_body_in_an_error_is_short(peer: HttpPeer):
    with pytest.raises(RestStatusError) as caught:
        await call(url=peer.url("/status/500"), params={"say": "x" * 5000})
    assert len(str(caught.value)) < 5800
