"""Many calls: connections are used again, and nothing is left over."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from peers.apflowserver import ApflowServer, apflow_server
from peers.leftovers import held, settled
from peers.strangehttp import answer, strange_peer

from apflow.core import TaskCreator, TaskManager, create_session
from apflow.core.errors import ForbiddenError
from apflow.executor.apflow import ApFlowApiExecutor, close_connections


def stored_in(folder: Path) -> bytes:
    return b"".join(each.read_bytes() for each in folder.glob("here.duckdb*"))


async def say(server: ApflowServer, text: str) -> Any:
    params = {"tasks": [{"name": "far_say", "inputs": {"text": text}}]}
    done = await ApFlowApiExecutor().execute(
        {"base_url": server.url, "method": "tasks.execute", "params": params, "timeout": 120}
    )
    return done["result"]["said"]


async def test_two_hundred_run_at_once(server: ApflowServer):
    said = await asyncio.gather(*(say(server, str(number)) for number in range(200)))
    assert said == [str(number) for number in range(200)]


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
async def test_many_in_a_row_leave_nothing(server: ApflowServer, count: int):
    await say(server, "first")
    await close_connections()
    gc.collect()
    before = held()
    for number in range(count):
        await say(server, str(number))
    await close_connections()
    await settled(before)


async def test_a_large_result_comes_whole(server: ApflowServer):
    params = {"tasks": [{"name": "far_say", "inputs": {"size": 2 << 20}}]}
    given = {"base_url": server.url, "method": "tasks.execute", "params": params}
    assert len((await ApFlowApiExecutor().execute(given))["result"]["said"]) == 2 << 20


async def test_the_token_is_asked_for_and_told_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    secret = "a-token-that-nobody-may-see"
    monkeypatch.setenv("APFLOW_SECRET_FAR", secret)
    environment = {"APFLOW_JWT_SECRET": "a secret of tests that is long enough for HS256"}
    told: list[Any] = []
    with apflow_server(tmp_path, environment=environment) as guarded, strange_peer(answer([], 500)) as broken:
        for url in (guarded.url, broken.url, "http://127.0.0.1:1"):
            inputs = {
                "base_url": url,
                "method": "system.health",
                "params": {},
                "auth_token": {"$secret": "FAR"},
                "headers": {"X-Token": {"$secret": "FAR"}},
                "timeout": 0.5,
            }
            async with create_session(f"duckdb:///{tmp_path / 'here.duckdb'}") as store:
                task = {"name": "apflow_api_executor", "inputs": inputs}
                tree = await TaskCreator(store).create_task_tree_from_array([task])
                await TaskManager(store).distribute_task_tree(tree)
                ended = (await store.get([tree.task.id]))[tree.task.id]
                assert ended.status == "failed"
                told += [ended.error, ended.result, await store.events(tree.task.id, 0, 1000)]
        assert {ended["error_type"] for ended in told[1::3]} <= {
            "ForbiddenError",
            "ServerError",
            "ServerUnreachableError",
            "RemoteTimeoutError",
        }
        with pytest.raises(ForbiddenError, match="token"):
            await ApFlowApiExecutor().execute(
                {"base_url": guarded.url, "method": "tasks.list", "params": {}, "auth_token": secret}
            )
        assert broken.requests[0][1]["authorization"] == f"Bearer {secret}"
    assert secret not in f"{told} {caplog.text}"
    assert secret.encode() not in stored_in(tmp_path)
