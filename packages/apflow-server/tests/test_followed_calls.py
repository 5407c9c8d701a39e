"""Lists that are followed: answers come again when they have changed, to those who may see the change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from reading import Event, client_of, read
from serving import SECRET, Served, bearer, serving

from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server.api import followed_calls
from apflow.server.api.followed_calls import known_digests, pause_after
from apflow.server.streaming import change_watch

TIMEOUT = 60  # seconds, on a busy machine
LIST = {"jsonrpc": "2.0", "id": "list", "method": "tasks.list", "params": {"root_only": True}}
COUNT = {"jsonrpc": "2.0", "id": "count", "method": "tasks.count", "params": {"root_only": True}}
SCHEDULES = {"jsonrpc": "2.0", "id": "schedules", "method": "schedules.list", "params": {}}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_calls, "MIN_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(change_watch, "POLL_INTERVAL_SECONDS", 0.01)


@asynccontextmanager
async def following(url: str, *calls: Event, known: str = "", **headers: str) -> AsyncIterator[Any]:
    """Follow calls. Yields an iterator over the answers: each with its `id` and its `data`."""
    given = {**headers, **({"Last-Event-ID": known} if known else {})}
    async with (
        asyncio.timeout(TIMEOUT),
        client_of(url, headers=given) as client,
        client.stream("POST", "/follow", json=list(calls)) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield (frame async for frame in read(response.aiter_lines()) if "comment" not in frame)


def names(answer: Event) -> list[str]:
    return sorted(task["name"] for task in answer["data"]["result"])


async def create(db: Any, name: str, user_id: str | None = None) -> str:
    made = await TaskService(db, user_id).create([{"name": name, "schemas": {"method": "x"}}])
    return str(made["id"])


async def test_every_answer_comes_first_and_then_those_that_have_changed(served: Served):
    async with following(served.url, LIST, COUNT, SCHEDULES) as answers:
        first = [await anext(answers) for _ in range(3)]
        assert [each["data"]["id"] for each in first] == ["list", "count", "schedules"]
        assert [each["event"] for each in first] == ["answer"] * 3
        await create(served.db, "new")
        listed, counted = await anext(answers), await anext(answers)
        assert (listed["data"]["id"], names(listed)) == ("list", ["new"])
        assert (counted["data"]["id"], counted["data"]["result"]["total"]) == ("count", 1)
        await TaskService(served.db).create_schedule([{"name": "x"}], every="1h", name="hourly")
        assert [each["name"] for each in (await anext(answers))["data"]["result"]] == ["hourly"]


async def test_a_removed_task_is_a_change(served: Served):
    made = await create(served.db, "old")
    async with following(served.url, LIST) as answers:
        assert names(await anext(answers)) == ["old"]
        await TaskService(served.db).delete(made, force=True)
        assert names(await anext(answers)) == []


async def test_a_client_that_comes_back_gets_what_has_changed_meanwhile_also_from_another_server():
    db = MemoryStore()
    with serving(db=db) as served:
        async with following(served.url, LIST, SCHEDULES) as answers:
            known = [(await anext(answers))["id"] for _ in range(2)][-1]
    await create(db, "while it was away")
    with serving(db=db) as served:
        async with following(served.url, LIST, SCHEDULES, known=known) as answers:
            changed = await anext(answers)
            assert names(changed) == ["while it was away"]
        async with following(served.url, LIST, SCHEDULES, known=changed["id"]) as answers:
            await create(db, "next")
            assert names(await anext(answers)) == ["next", "while it was away"]


async def test_a_user_is_told_of_their_own_changes_and_of_nothing_else():
    with serving(Settings(jwt_secret=SECRET)) as served:
        async with (
            following(served.url, LIST, COUNT, **bearer("ben")) as of_ben,
            following(served.url, LIST, **bearer("root", role="admin")) as of_admin,
        ):
            assert [names(await anext(of_ben)), (await anext(of_ben))["data"]["result"]["total"]] == [[], 0]
            await anext(of_admin)
            await create(served.db, "of ann", "ann")
            assert names(await anext(of_admin)) == ["of ann"]
            await create(served.db, "of ben", "ben")
            assert names(await anext(of_ben)) == ["of ben"]
            assert (await anext(of_ben))["data"]["result"]["total"] == 1


async def test_a_call_that_fails_has_its_error_as_answer():
    with serving(Settings(jwt_secret=SECRET)) as served:
        call = LIST | {"params": {"user_id": "ann"}}
        async with following(served.url, call, COUNT, **bearer("ben")) as answers:
            refused, counted = await anext(answers), await anext(answers)
        assert "admin" in refused["data"]["error"]["message"]
        assert counted["data"]["result"]["total"] == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([], "array of 1 to 10"),
        (LIST, "array of 1 to 10"),
        ([LIST] * 11, "array of 1 to 10"),
        ([{**LIST, "method": "tasks.delete"}], "'tasks.delete' cannot be followed. These can: tasks.usage"),
        ([{**LIST, "method": "system.query"}], "cannot be followed"),
        ([{**LIST, "method": "none"}], "'none' cannot be followed"),
        ([{"method": "tasks.list"}], "jsonrpc"),
    ],
)
def test_what_cannot_be_followed_is_refused(http: httpx.Client, body: Any, reason: str):
    answer = http.post("/follow", json=body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


def test_following_needs_a_token_where_the_server_asks_for_one(guarded: Served):
    assert httpx.post(f"{guarded.url}/follow", json=[LIST]).status_code == 401


async def test_a_stream_is_counted_while_it_is_open(served: Served):
    async with following(served.url, LIST) as answers:
        await anext(answers)
        assert served.app.state.streams.open["sse"] == 1


def test_an_id_of_other_calls_is_not_known():
    assert known_digests("a-b", 2) == ["a", "b"]
    assert known_digests("a-b", 3) == known_digests("", 3) == ["", "", ""]


def test_slow_lists_are_read_less_often_and_failing_ones_seldom():
    assert pause_after(10.0, has_failed=False) == 40.0
    assert pause_after(0.0, has_failed=True) == change_watch.MAX_WAIT_SECONDS
