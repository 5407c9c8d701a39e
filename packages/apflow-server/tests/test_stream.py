"""Streams over HTTP: in order, to the end, from wherever the reader left, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from reading import Event, client_of, follow, numbers, read
from serving import SECRET, Served, bearer, serving, wait_for
from trees import Steps, steps, tree

from apflow.core.events.bus import bus_of
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.task import utc_now
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.server.auth.token import LEEWAY
from apflow.server.streaming import event_stream
from apflow.server.streaming.event_stream import read_number


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with steps():
        yield


async def begin(served: Served, tasks: list[Event], user_id: str | None = None) -> str:
    """Create a tree and ask for its run."""
    created = await TaskService(served.db, user_id, is_served=True).submit(tasks)
    return str(created["id"])


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, condition)


async def everybody_is_told(served: Served, subscribers: int, size: int) -> None:
    root_id = await begin(served, tree("r", size, waits=True))
    async with client_of(served.url) as client, asyncio.timeout(240), asyncio.TaskGroup() as group:
        reading = [
            group.create_task(follow(client, root_id, params={"after": 0})) for _ in range(subscribers)
        ]
        await until(lambda: served.app.state.streams.open["sse"] == subscribers)
        Steps.go_on.set()
    stored = [event.sequence for event in await served.db.events(root_id)]
    assert len(stored) == 3 * size + 2
    for each in reading:
        events = each.result()
        assert numbers(events) == stored
        assert events[-1]["event"] == "tree_completed"
    await until(lambda: served.app.state.streams.open["sse"] == 0)
    assert bus_of(served.db).subscribers(root_id) == 0


async def test_20_subscribers_are_told_every_event_in_order_and_the_final_one(served: Served):
    await everybody_is_told(served, 20, 200)


@pytest.mark.long
async def test_200_subscribers_are_told_every_event_in_order_and_the_final_one(served: Served):
    await everybody_is_told(served, 200, 1000)


async def test_who_comes_back_misses_nothing_and_is_told_nothing_twice(served: Served):
    root_id = await begin(served, tree("r", 30, waits=True))
    found: list[int] = []
    async with client_of(served.url) as client:
        for count in (1, 4, 7):
            headers = {"Last-Event-ID": str(found[-1] if found else 0)}
            found += numbers(await follow(client, root_id, count=count, headers=headers))
        Steps.go_on.set()
        while True:
            headers = {"Last-Event-ID": str(found[-1])}
            events = await follow(client, root_id, count=20, headers=headers)
            found += numbers(events)
            if events[-1]["event"] == "tree_completed":
                break
        assert found == [event.sequence for event in await served.db.events(root_id)]
        url = f"/tasks/{root_id}/events"
        assert (await client.get(url, headers={"Last-Event-ID": str(found[-1])})).status_code == 204


async def test_who_names_no_event_is_told_the_state_and_what_follows(served: Served):
    root_id = await begin(served, tree("r", 3, waits=True))
    async with client_of(served.url) as client:
        [snapshot] = await follow(client, "r.1", count=1)
        assert snapshot["event"] == "snapshot"
        assert [each["id"] for each in snapshot["data"]["data"]["children"]] == ["r.0", "r.1"]
        Steps.go_on.set()
        rest = await follow(client, root_id, headers={"Last-Event-ID": snapshot["id"]})
    assert rest[-1]["event"] == "tree_completed"
    assert numbers(rest)[0] == int(snapshot["id"]) + 1


async def test_of_a_failed_tree_the_final_event_tells_why(served: Served):
    root_id = await begin(served, tree("r", 2, fails=1))
    async with client_of(served.url) as client:
        final = (await follow(client, root_id, params={"after": 0}))[-1]
    assert (final["event"], final["data"]["error"]) == ("tree_failed", "task server_steps: as asked")


async def test_a_slow_reader_is_told_how_many_live_events_it_missed():
    with serving() as served:
        await TaskService(served.db).create(tree("r", 2))
        state, subscription = await TaskService(served.db).follow("r", after=0)
        assert state is None
        more = [
            TaskEvent(type=EventType.LOG, task_id="r.0", root_task_id="r", timestamp=utc_now(), sequence=2)
            for _ in range(1500)
        ]
        bus_of(served.db).publish(*more)
        assert len(subscription._queue.events) == 1000
        await TaskService(served.db).submit({"id": "other", "name": "group"})
        told: list[Any] = []
        async for batch in subscription.batches():
            told += batch
            if told[-1].data == {"missed": 500}:
                break
        assert [event.sequence for event in told[:2]] == [1, 2]


async def test_a_reader_that_takes_nothing_is_left_after_a_while(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(event_stream, "SEND_TIMEOUT", 0.3)
    tasks = tree("r", 300)
    for task in tasks[1:]:
        task["inputs"] = {"n": "x" * 50_000}
    root_id = await begin(served, tasks)
    host, port = served.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"GET /tasks/{root_id}/events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await writer.drain()
    await until(lambda: served.app.state.streams.open["sse"] == 1)
    await until(lambda: served.app.state.streams.open["sse"] == 0)
    assert bus_of(served.db).subscribers(root_id) == 0
    writer.close()
    await writer.wait_closed()


async def test_who_goes_away_leaves_no_subscription(served: Served):
    root_id = await begin(served, tree("r", 3, waits=True))
    async with client_of(served.url) as client:
        for _ in range(20):
            await follow(client, root_id, count=2, params={"after": 0})
    await until(lambda: served.app.state.streams.open["sse"] == 0)
    await until(lambda: bus_of(served.db).subscribers(root_id) == 0)
    Steps.go_on.set()


async def test_a_silent_stream_gives_signs_of_life(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.05)
    root_id = await begin(served, tree("r", 2, waits=True))
    async with client_of(served.url) as client, client.stream("GET", f"/tasks/{root_id}/events") as response:
        beats = 0
        async for event in read(response.aiter_lines()):
            beats += "comment" in event
            if beats == 3:
                Steps.go_on.set()
    assert beats >= 3


async def test_the_stream_of_a_deleted_tree_ends(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.05)
    await TaskService(served.db).create(tree("r", 2))
    async with client_of(served.url) as client, client.stream("GET", "/tasks/r/events") as response:
        found: list[Event] = []
        async for event in read(response.aiter_lines()):
            if not found:
                await TaskService(served.db).delete("r")
            found.append(event)
    assert found[-1] == {"comment": "the tree was deleted"}


async def test_when_the_server_ends_a_stream_ends_with_a_comment(served: Served):
    root_id = await begin(served, tree("r", 2, waits=True))
    async with client_of(served.url) as client, client.stream("GET", f"/tasks/{root_id}/events") as response:
        found: list[Event] = []
        async for event in read(response.aiter_lines()):
            if not found:
                served.app.state.drain.begin()
                Steps.go_on.set()
            found.append(event)
    # The run may end within the drain; then its final event is sent, else that the server ends.
    assert found[-1].get("event") == "tree_completed" or found[-1]["comment"].startswith("the server ends")


async def test_a_tree_that_never_runs_is_followed_until_the_server_ends(served: Served):
    await TaskService(served.db).create(tree("r", 2))
    async with client_of(served.url) as client, client.stream("GET", "/tasks/r/events") as response:
        found: list[Event] = []
        async for event in read(response.aiter_lines()):
            found.append(event)
            served.app.state.drain.begin()
    assert [each.get("event") for each in found] == ["snapshot", None]
    assert found[-1]["comment"] == "the server ends: come back"


async def test_a_stream_ends_with_the_token_that_it_was_asked_for_with():
    with serving(Settings(jwt_secret=SECRET)) as served:
        await TaskService(served.db, "ann").create(tree("r", 2))
        call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.watch", "params": {"id": "r"}}
        async with client_of(served.url) as client, asyncio.timeout(60):
            for method, path, body in (("GET", "/tasks/r/events", None), ("POST", "/tasks", call)):
                soon = bearer("ann", expires_in=5 - LEEWAY)
                async with client.stream(method, path, json=body, headers=soon) as response:
                    found = [event async for event in read(response.aiter_lines())]
                assert [each.get("event") for each in found] == ["snapshot", None]
                assert found[-1]["comment"] == "the token has expired: come back with another"
                assert (await client.get("/tasks/r/events", headers=soon)).status_code == 401
    assert bus_of(served.db).subscribers("r") == 0


async def test_one_user_has_so_many_streams_and_what_would_open_one_more_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(event_stream, "MAX_PER_USER", 1)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute"}
    call |= {"params": {"task_id": "r", "use_streaming": True}}
    with serving(Settings(jwt_secret=SECRET)) as served:
        await TaskService(served.db, "ann").create(tree("r", 2))
        await TaskService(served.db, "ben").create(tree("other", 2))
        async with client_of(served.url, headers=bearer("ann")) as client:
            async with client.stream("GET", "/tasks/r/events") as open_one:
                assert open_one.status_code == 200
                await until(lambda: served.app.state.streams.open["sse"] == 1)
                for refused in (await client.get("/tasks/r/events"), await client.post("/tasks", json=call)):
                    assert (refused.status_code, refused.json()["error"]["code"]) == (429, -32010)
                assert (await TaskService(served.db).count_running())["count"] == 0
                async with client.stream("GET", "/tasks/other/events", headers=bearer("ben")) as another:
                    assert another.status_code == 200
            await until(lambda: served.app.state.streams.open["sse"] == 0)
            async with client.stream("GET", "/tasks/r/events") as open_one:
                assert open_one.status_code == 200


async def test_a_foreign_task_answers_as_a_missing_one():
    with serving(Settings(jwt_secret=SECRET)) as served:
        root_id = await begin(served, tree("r", 2), "ann")
        async with client_of(served.url) as client:
            foreign = await client.get(f"/tasks/{root_id}/events", headers=bearer("bob"))
            missing = await client.get("/tasks/none/events", headers=bearer("bob"))
            assert (foreign.status_code, missing.status_code) == (404, 404)
            assert foreign.text.replace("'r'", "'none'").replace('"r"', '"none"') == missing.text
            assert (await client.get(f"/tasks/{root_id}/events")).status_code == 401
            assert (await follow(client, root_id, headers=bearer("ann")))[-1]["event"] == "tree_completed"
            seen = await follow(client, root_id, headers=bearer("root", role="admin"))
            assert seen[-1]["event"] == "tree_completed"


@pytest.mark.parametrize(
    ("given", "other", "expected"),
    [("7", 1, 7), (None, 1, 1), ("", 2, 2), ("-1", None, None), ("7.5", 3, 3), ("9" * 30, 4, 4), ("٣", 5, 5)],
)
def test_a_last_event_id_that_is_no_number_is_left_out(
    given: str | None, other: int | None, expected: int | None
):
    assert read_number(given, other) == expected
