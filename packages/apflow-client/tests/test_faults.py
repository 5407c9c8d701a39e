"""Servers that are not well, and what is repeated then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from peers.strangehttp import answer, die, hang, result, strange_peer, stream

from apflow.client import Client, ServerBusyError, ServerError, ServerUnreachableError, SyncClient
from apflow.core.errors import (
    ConflictError,
    ForbiddenError,
    IdTakenError,
    InvalidInputError,
    NotFoundError,
    PluginError,
    TreeInvalidError,
)

COUNT = {"count": 3}
BUSY = answer({"error": {"code": -32010, "message": "Too much."}}, 429, Retry_After="0")
AWAY = answer(b"<html>bad gateway", 502)


def event(sequence: int, kind: str = "task_started") -> dict[str, Any]:
    return {
        "type": kind,
        "task_id": "t",
        "root_task_id": "t",
        "sequence": sequence,
        "timestamp": "2026-01-01T00:00:00Z",
        "status": None,
        "progress": None,
        "message": None,
        "data": None,
        "result": None,
        "error": None,
    }


async def test_what_is_safe_is_repeated_until_it_is_answered():
    with strange_peer(die, AWAY, BUSY, result(COUNT)) as peer:
        async with Client(peer.url) as client:
            assert (await client.tasks_running_count()).count == 3
    assert len(peer.requests) == 4
    with strange_peer(die, AWAY, BUSY, result(COUNT)) as peer, SyncClient(peer.url) as client:
        assert client.tasks_running_count().count == 3


async def test_what_is_not_safe_is_repeated_only_with_a_key_or_where_nothing_was_done():
    for once in (die, AWAY):
        with strange_peer(once, result({})) as peer:
            async with Client(peer.url) as client:
                with pytest.raises((ServerUnreachableError, ServerError)):
                    await client.call("tasks.create", {"tasks": []})
                assert await client.call("tasks.create", {"tasks": []}) == {}
        assert len(peer.requests) == 2
    with strange_peer(die, AWAY, result({})) as peer:
        async with Client(peer.url) as client:
            assert await client.call("tasks.create", {"tasks": [], "idempotency_key": "k"}) == {}
    with strange_peer(BUSY, BUSY, result({})) as peer:
        async with Client(peer.url) as client:
            assert await client.call("tasks.create", {"tasks": []}) == {}


async def test_a_retry_after_that_is_longer_than_the_patience_is_not_waited_for():
    busy = answer({"error": {"code": -32010, "message": "Too much."}}, 429, Retry_After="3600")
    with strange_peer(busy) as peer:
        async with Client(peer.url) as client:
            async with asyncio.timeout(30):
                with pytest.raises(ServerBusyError, match="Too much") as refused:
                    await client.system_health()
            assert refused.value.retry_after == 3600


async def test_a_server_that_hangs_is_given_up():
    with strange_peer(hang) as peer:
        async with Client(peer.url, timeout=0.1, patience=0.3) as client:
            with pytest.raises(ServerUnreachableError, match="gave no answer") as lost:
                await client.system_health()
            assert lost.value.was_sent


@pytest.mark.parametrize(
    ("told", "status", "kind"),
    [
        ({"error": {"code": -32003, "message": "A bearer token is needed."}}, 401, ForbiddenError),
        ({"error": {"code": -32010, "message": "Too large."}}, 413, InvalidInputError),
        ({"error": {"code": -32603, "message": "An incident."}}, 200, ServerError),
        ({"error": {"code": -32601, "message": "No method."}}, 200, ServerError),
        ({"error": "no"}, 200, ServerError),
        ({"result": 1}, 404, ServerError),
        ([], 200, ServerError),
        (b"no JSON", 200, ServerError),
        (b"[" * 100_000, 200, ServerError),
        (b"\xff\xfe", 500, ServerError),
        (b"", 302, ServerError),
    ],
)
async def test_whatever_is_answered_is_a_result_or_an_error(told: Any, status: int, kind: type[Exception]):
    with strange_peer(answer(told, status)) as peer:
        async with Client(peer.url, patience=0) as client:
            with pytest.raises(kind):
                await client.call("tasks.get", {"task_id": "a"})


@pytest.mark.parametrize(
    ("code", "data", "kind", "facts"),
    [
        (-32009, {"type": "IdTakenError", "task_ids": ["a"]}, IdTakenError, {"task_ids": ["a"]}),
        (-32009, {"type": "IdTakenError", "task_ids": "a"}, ConflictError, {}),
        (-32009, {"type": "LaterError", "since": 1}, ConflictError, {}),
        (-32009, {"type": "PluginError"}, PluginError, {}),
        (-32009, None, ConflictError, {}),
        (-32009, ["no", "object"], ConflictError, {}),
        (-32602, ["a", "b"], InvalidInputError, {"violations": ["a", "b"]}),
        (-32602, {"type": "LaterError", "violations": ["a"]}, InvalidInputError, {"violations": ["a"]}),
        (-32602, {"type": "TreeInvalidError", "violations": []}, TreeInvalidError, {"violations": []}),
        (-32001, {"type": "NotFoundError", "task_id": "b"}, NotFoundError, {"task_id": "b"}),
        (-32001, {"task_id": "b"}, NotFoundError, {"task_id": "a"}),
        (-32003, {"type": "ForbiddenError"}, ForbiddenError, {}),
    ],
    ids=str,
)
async def test_a_refusal_is_the_error_of_its_type_or_else_of_its_code(
    code: int, data: Any, kind: type[Exception], facts: dict[str, Any]
):
    told = answer({"error": {"code": code, "message": "No.", "data": data}})
    with strange_peer(told, told) as peer:
        async with Client(peer.url, patience=0) as client:
            with pytest.raises(kind) as caught:
                await client.call("tasks.get", {"task_id": "a"})
        with SyncClient(peer.url, patience=0) as client, pytest.raises(kind) as again:
            client.call("tasks.get", {"task_id": "a"})
    for each in (caught.value, again.value):
        assert (type(each), str(each), vars(each)) == (kind, "No.", facts)


async def test_a_limit_tells_whose_it_is():
    data = {"type": "LimitExceededError", "limit": 10, "user_id": "ann"}
    busy = answer({"error": {"code": -32010, "message": "Too many.", "data": data}}, 429, Retry_After="60")
    with strange_peer(busy) as peer:
        async with Client(peer.url, patience=0) as client:
            with pytest.raises(ServerBusyError, match=r"^Too many\.$") as refused:
                await client.system_health()
    assert vars(refused.value) == {"limit": 10, "user_id": "ann", "retry_after": 60}


async def test_a_server_whose_database_fails_is_asked_again():
    data = {"type": "StoreError", "incident": "1f"}
    away = answer({"error": {"code": -32603, "message": "The database.", "data": data}}, 503)
    with strange_peer(away, result(COUNT)) as peer:
        async with Client(peer.url) as client:
            assert (await client.tasks_running_count()).count == 3
    with strange_peer(away) as peer:
        async with Client(peer.url, patience=0) as client:
            with pytest.raises(ServerError, match=r"The database\.") as failed:
                await client.system_health()
    assert (failed.value.status, failed.value.code) == (503, -32603)


async def test_a_result_of_another_form_is_said_to_be_one():
    with (
        strange_peer(result({"count": "many"})) as peer,
        SyncClient(peer.url) as client,
        pytest.raises(ServerError, match=r"tasks\.running\.count.*count"),
    ):
        client.tasks_running_count()


async def test_an_answer_without_end_is_not_kept():
    with strange_peer(result("x" * 5000)) as peer:
        async with Client(peer.url, max_bytes=1000) as client:
            with pytest.raises(ServerError, match="1000 bytes"):
                await client.system_health()
    with strange_peer(stream(event(1) | {"message": "x" * 1_000_000})) as peer:
        async with Client(peer.url, max_bytes=100_000) as client:
            with pytest.raises(ServerError, match="100000 bytes"):
                [each async for each in client.watch("t")]


@pytest.mark.parametrize("then", ["end", "silent", "dies"])
async def test_a_stream_is_taken_up_where_it_was_lost(then: str):
    lost = stream(event(1), event(2), then=then)
    with strange_peer(lost, AWAY, stream(event(3, "tree_completed"))) as peer:
        async with Client(peer.url, silence=0.2) as client:
            assert [each.sequence async for each in client.watch("t")] == [1, 2, 3]
    assert [headers.get("last-event-id") for _, headers, _ in peer.requests] == [None, "2", "2"]
    answers = lost, AWAY, stream(event(3, "tree_completed"))
    with strange_peer(*answers) as peer, SyncClient(peer.url, silence=0.2) as client:
        assert [each.sequence for each in client.watch("t", after=0)] == [1, 2, 3]


async def test_a_server_that_stays_away_ends_a_watch():
    with strange_peer(stream(event(1)), AWAY) as peer:
        async with Client(peer.url, reconnect_for=0.3) as client:
            with pytest.raises(ServerError, match="502"):
                [each async for each in client.watch("t")]
        with SyncClient(peer.url, reconnect_for=0) as client, pytest.raises(ServerError):
            list(client.watch("t"))


async def test_what_is_no_stream_of_events_is_said_to_be_none():
    for strange in (answer(b"hello"), answer(b"data: hello\n\n", content_type="text/event-stream")):
        with strange_peer(strange) as peer:
            async with Client(peer.url) as client:
                with pytest.raises(ServerError, match=r"did not send an event stream|not an event"):
                    [each async for each in client.watch("t")]


async def test_where_nothing_follows_nothing_is_told():
    with strange_peer(answer(b"", 204)) as peer:
        async with Client(peer.url) as client:
            assert [each async for each in client.watch("a/b ü?", after=7)] == []
    assert peer.requests[0][0] == "/tasks/a%2Fb%20%C3%BC%3F/events"


async def test_the_token_and_the_headers_go_with_every_request_and_into_no_error(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("DEBUG")
    with strange_peer(result(COUNT), answer(b"", 204), AWAY) as peer:
        async with Client(peer.url, "a-token", headers={"X-Key": "a-key"}, patience=0) as client:
            await client.tasks_running_count()
            [each async for each in client.watch("t")]
            with pytest.raises(ServerError) as failed:
                await client.system_health()
    for _, headers, _ in peer.requests:
        assert (headers["authorization"], headers["x-key"]) == ("Bearer a-token", "a-key")
    told = f"{failed.value!r} {client!r} {caplog.text}"
    assert "a-token" not in told
    assert "a-key" not in told


async def test_a_server_on_this_machine_is_called_without_a_proxy(monkeypatch: pytest.MonkeyPatch):
    with strange_peer(hang) as proxy, strange_peer(result(COUNT)) as peer:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        for url in (peer.url, peer.url.replace("127.0.0.1", "localhost")):
            async with Client(url) as client:
                assert (await client.tasks_running_count()).count == 3
            with SyncClient(url) as client:
                assert client.tasks_running_count().count == 3
        assert proxy.requests == []
        far = SyncClient("http://far.example", timeout=0.3, patience=0)
        with far, pytest.raises(ServerUnreachableError):
            far.tasks_running_count()
        assert len(proxy.requests) == 1
