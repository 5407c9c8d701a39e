"""The same events over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from serving import SECRET, Served, bearer, serving, wait_for
from trees import Steps, steps, tree
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from apflow.core.events.bus import bus_of
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.server.auth.token import LEEWAY
from apflow.server.streaming import event_stream
from apflow.server.streaming import websocket as server_socket

Said = dict[str, Any]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with steps():
        yield


@asynccontextmanager
async def talking(served: Served, **more: Any) -> AsyncGenerator[ClientConnection]:
    url = served.url.replace("http", "ws", 1) + "/ws"
    async with asyncio.timeout(30), connect(url, proxy=None, **more) as connection:
        yield connection


async def say(connection: ClientConnection, **said: Any) -> None:
    await connection.send(json.dumps(said))


async def hear(connection: ClientConnection) -> Said:
    heard: Said = json.loads(await connection.recv())
    return heard


async def hear_until(connection: ClientConnection, kind: str) -> list[Said]:
    heard = [await hear(connection)]
    while heard[-1]["type"] != kind:
        heard.append(await hear(connection))
    return heard


async def begin(served: Served, root_id: str, size: int, **first: Any) -> None:
    await TaskService(served.db, is_served=True).submit(tree(root_id, size, **first))


def token(user_id: str) -> str:
    return bearer(user_id)["Authorization"].removeprefix("Bearer ")


async def closed(connection: ClientConnection) -> tuple[int, str]:
    with contextlib.suppress(ConnectionClosed):  # it is one, also where all went well
        async for _ in connection:
            pass
    assert connection.close_code is not None
    return connection.close_code, connection.close_reason or ""


async def test_a_tree_is_told_from_a_snapshot_to_its_end(served: Served):
    await begin(served, "r", 3, waits=True)
    async with talking(served) as connection:
        await say(connection, action="watch", task_id="r.1")
        assert await hear(connection) == {"type": "watching", "task_id": "r.1", "root_task_id": "r"}
        assert (await hear(connection))["type"] == "snapshot"
        Steps.go_on.set()
        heard = await hear_until(connection, "ended")
    assert heard[-2]["type"] == "tree_completed"
    assert heard[-1] == {"type": "ended", "task_id": "r.1", "reason": None}


async def test_several_trees_are_told_at_once_each_in_order(served: Served):
    names = ["a", "b", "c"]
    for name in names:
        await begin(served, name, 10, waits=True)
    async with talking(served) as connection:
        for name in names:
            await say(connection, action="watch", task_id=name, after=0)
        Steps.go_on.set()
        heard: list[Said] = []
        while sum(each["type"] == "ended" for each in heard) < 3:
            heard.append(await hear(connection))
    for name in names:
        told = [each["sequence"] for each in heard if each.get("root_task_id") == name and "sequence" in each]
        assert told == [event.sequence for event in await served.db.events(name)]


async def test_who_comes_back_goes_on_after_the_last_event(served: Served):
    await begin(served, "r", 5)
    wait_for(lambda: served.app.state.streams.open["websocket"] == 0)
    stored: list[int] = []
    async with talking(served) as connection:
        await say(connection, action="watch", task_id="r", after=0)
        stored = [each["sequence"] for each in await hear_until(connection, "ended") if "sequence" in each]
        await say(connection, action="watch", task_id="r", after=stored[3])
        again = [each["sequence"] for each in await hear_until(connection, "ended") if "sequence" in each]
    assert again == stored[4:]


async def test_what_is_no_longer_watched_is_not_told(served: Served):
    await begin(served, "r", 3, waits=True)
    async with talking(served) as connection:
        await say(connection, action="watch", task_id="r", after=0)
        await hear(connection)
        await say(connection, action="unwatch", task_id="r")
        await hear_until(connection, "unwatched")
        await asyncio.to_thread(wait_for, lambda: bus_of(served.db).subscribers("r") == 0, 5)
        Steps.go_on.set()
        await say(connection, action="watch", task_id="none")
        assert (await hear(connection))["error"]["code"] == -32001


async def test_wrong_messages_are_answered_and_at_last_the_connection_is_closed(served: Served):
    async with talking(served) as connection:
        for text, code in [
            ("nonsense", -32700),
            ('{"action": "watch", "task_id": "r", "task_id": "none"}', -32700),
            ("[" * 60_000, -32700),
            ("[]", -32602),
            ('{"action": "fly"}', -32602),
            ('{"action": "watch"}', -32602),
            ('{"action": "watch", "task_id": "r", "after": -1}', -32602),
            ('{"action": "authenticate", "token": "x"}', -32600),
            ('{"action": "watch", "task_id": "none"}', -32001),
            (" " * 70_000, -32600),
        ]:
            await connection.send(text)
            heard = await hear(connection)
            assert (heard["type"], heard["error"]["code"]) == ("error", code), text
        await connection.send(b"bytes")
        assert (await hear(connection))["error"]["code"] == -32600
        for _ in range(server_socket.FAULTS):
            await connection.send("nonsense")
        assert (await closed(connection))[0] == 1008


async def test_one_tree_is_watched_once_and_not_too_many(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_socket, "WATCHES", 1)
    for name in ("a", "b"):
        await TaskService(served.db).create(tree(name, 2))
    async with talking(served) as connection:
        await say(connection, action="watch", task_id="a")
        await say(connection, action="watch", task_id="a")
        assert (await hear_until(connection, "error"))[-1]["error"]["code"] == -32009
        await say(connection, action="watch", task_id="b")
        assert (await hear_until(connection, "error"))[-1]["error"]["code"] == -32010


async def test_who_goes_away_leaves_no_subscription(served: Served):
    await TaskService(served.db).create(tree("r", 2))
    for _ in range(10):
        async with talking(served) as connection:
            await say(connection, action="watch", task_id="r")
            await hear(connection)
    await asyncio.to_thread(wait_for, lambda: served.app.state.streams.open["websocket"] == 0, 5)
    await asyncio.to_thread(wait_for, lambda: bus_of(served.db).subscribers("r") == 0, 5)


async def test_when_the_server_ends_the_connection_is_closed_with_a_reason(served: Served):
    await TaskService(served.db).create(tree("r", 2))
    async with talking(served) as connection:
        await say(connection, action="watch", task_id="r")
        await hear(connection)
        served.app.state.drain.begin()
        assert await closed(connection) == (1012, "the server ends: come back")


async def test_the_watch_of_a_deleted_tree_ends(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_socket, "POLL_INTERVAL_SECONDS", 0.02)
    await TaskService(served.db).create(tree("r", 2))
    async with talking(served) as connection:
        await say(connection, action="watch", task_id="r")
        await hear(connection)
        await TaskService(served.db).delete("r")
        assert (await hear_until(connection, "ended"))[-1]["reason"] == "the tree was deleted"


async def test_the_token_comes_in_a_header_as_a_subprotocol_or_first():
    with serving(Settings(jwt_secret=SECRET)) as served:
        await TaskService(served.db, "ann", is_served=True).submit(tree("r", 2))
        protocols = [Subprotocol("apflow"), Subprotocol(f"bearer.{token('ann')}")]
        for more in ({"additional_headers": bearer("ann")}, {"subprotocols": protocols}, {}):
            async with talking(served, **more) as connection:
                if not more:
                    await say(connection, action="authenticate", token=token("ann"))
                assert connection.subprotocol == ("apflow" if "subprotocols" in more else None)
                await say(connection, action="watch", task_id="r", after=0)
                assert (await hear_until(connection, "ended"))[-2]["type"] == "tree_completed"


async def test_who_is_not_known_or_bears_a_bad_token_is_told_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_socket, "TOKEN_TIME", 0.2)
    with serving(Settings(jwt_secret=SECRET)) as served:
        for more in (
            {"additional_headers": bearer("ann", expires_in=-60)},
            {"subprotocols": [Subprotocol(f"bearer.{token('ann')}")]},
            {"subprotocols": [Subprotocol("apflow"), Subprotocol("bearer.x.y.z")]},
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with talking(served, **more):
                    pass
            assert refused.value.response.status_code == 401
        async with talking(served) as connection:
            await say(connection, action="watch", task_id="r")
            assert (await closed(connection))[0] == 4401
        async with talking(served) as connection:
            await say(connection, action="authenticate", token="x.y.z")
            assert (await closed(connection))[0] == 4401
        async with talking(served) as connection:
            assert (await closed(connection))[0] == 1013


async def test_one_user_has_so_many_connections(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(event_stream, "MAX_PER_USER", 1)
    with serving(Settings(jwt_secret=SECRET)) as served:
        async with talking(served, additional_headers=bearer("ann")) as first:
            await say(first, action="unwatch", task_id="none")
            assert (await hear(first))["type"] == "unwatched"
            async with talking(served, additional_headers=bearer("ann")) as second:
                assert (await closed(second))[0] == 1008
            async with talking(served, additional_headers=bearer("ben")) as other:
                await say(other, action="unwatch", task_id="none")
                assert (await hear(other))["type"] == "unwatched"


async def test_a_connection_is_closed_when_its_token_expires():
    with serving(Settings(jwt_secret=SECRET)) as served:
        await TaskService(served.db, "ann").create(tree("r", 2))
        soon = bearer("ann", expires_in=2 - LEEWAY)
        for more in ({"additional_headers": soon}, {}):
            async with talking(served, **more) as connection:
                if not more:
                    soon = bearer("ann", expires_in=2 - LEEWAY)
                    await say(connection, action="authenticate", token=soon["Authorization"].split()[1])
                await say(connection, action="watch", task_id="r")
                assert (await hear_until(connection, "snapshot"))[0]["type"] == "watching"
                assert await closed(connection) == (4401, "the token has expired: come back with another")
        await asyncio.to_thread(wait_for, lambda: bus_of(served.db).subscribers("r") == 0, 5)


async def test_a_foreign_task_answers_as_a_missing_one():
    with serving(Settings(jwt_secret=SECRET)) as served:
        await TaskService(served.db, "ann").create(tree("r", 2))
        async with talking(served, additional_headers=bearer("bob")) as connection:
            answers: list[str] = []
            for task_id in ("r", "x"):
                await say(connection, action="watch", task_id=task_id)
                answers.append(json.dumps(await hear(connection)).replace("'r'", "'x'").replace('"r"', '"x"'))
            assert answers[0] == answers[1]


async def test_a_page_of_another_origin_is_refused(served: Served):
    with pytest.raises(InvalidStatus):
        async with talking(served, origin=Origin("https://evil.example")):
            pass
