"""A2A: the history of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from a2a.types import CancelTaskRequest, GetTaskRequest, SubscribeToTaskRequest
from a2a_clients import TRANSPORTS, agent, data_of, message, replies, run_task, tree
from serving import Served, serving
from trees import Steps, steps

from apflow.core.settings import Settings
from apflow.server.a2a import history

PLAIN: dict[str, Any] = {"name": Steps.id, "inputs": {"n": 7}}
WAITING: dict[str, Any] = {"name": Steps.id, "inputs": {"waits": True}}


@pytest.fixture
def served() -> Iterator[Served]:
    settings = Settings(a2a_grpc_bind="127.0.0.1:0", credentials_key="a key of tests")
    with steps(), serving(settings) as found:
        yield found
        Steps.go_on.set()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_version_03_has_the_history_too(served: Served, transport: str):
    async with agent(served.url, transport=transport, version="0.3") as client:
        request = tree(PLAIN)
        task = await run_task(client, request)
        first, last = task.history
        assert first.message_id == request.message.message_id
        assert data_of(first)["tasks"][0]["inputs"] == {"n": 7}
        assert last.message_id == task.status.message.message_id
        (only,) = (await client.get_task(GetTaskRequest(id=task.id, history_length=1))).history
        assert only.message_id == last.message_id


async def test_each_execution_has_its_own_history(served: Served):
    async with agent(served.url) as client:
        first = await run_task(client, tree(PLAIN))
        again = message({}, metadata={"task_id": first.id})
        second = await run_task(client, again)
        assert second.id == f"{first.id}.2"
        assert second.history[0].message_id == again.message.message_id
        assert {each.task_id for each in second.history} == {second.id}
        earlier = await client.get_task(GetTaskRequest(id=first.id))
        assert [each.message_id for each in earlier.history] == [each.message_id for each in first.history]


async def test_the_reply_to_a_message_that_cancels_is_in_the_history(served: Served):
    async with agent(served.url) as client:
        stream = client.send_message(tree(WAITING))
        task_id = (await anext(aiter(stream))).task.id
        (reply,) = await replies(client.send_message(message(task_id=task_id)))
        await replies(stream)
        ids = [each.message_id for each in (await client.get_task(GetTaskRequest(id=task_id))).history]
        assert ids[1:] == [reply.message.message_id, f"{task_id}:final"]


async def test_a_subscriber_gets_the_history_first(served: Served):
    async with agent(served.url) as client:
        request = tree(WAITING)
        stream = client.send_message(request)
        started = (await anext(aiter(stream))).task
        assert [each.message_id for each in started.history] == [request.message.message_id]
        other = client.subscribe(SubscribeToTaskRequest(id=started.id))
        snapshot = (await anext(aiter(other))).task
        assert [each.message_id for each in snapshot.history] == [request.message.message_id]
        cancelled = await client.cancel_task(CancelTaskRequest(id=started.id))
        assert [each.message_id for each in cancelled.history][-1] == f"{started.id}:final"
        await replies(stream)
        await replies(other)


async def test_secrets_are_masked(served: Served):
    async with agent(served.url) as client:
        task = await run_task(client, tree({**PLAIN, "inputs": {"password": "hunter2", "n": 1}}))
        assert data_of(task.history[0])["tasks"][0]["inputs"] == {"password": "***", "n": 1}
        (record,) = await served.db.records(history.KIND)
        assert "hunter2" not in str(record.value)


async def test_a_message_that_is_too_large_is_kept_without_its_parts(served: Served):
    async with agent(served.url) as client:
        request = tree({**PLAIN, "inputs": {"n": "x" * history.MAX_MESSAGE_BYTES}})
        first = (await run_task(client, request)).history[0]
        assert first.message_id == request.message.message_id
        assert "not kept: it has 65" in first.parts[0].text


async def test_the_oldest_messages_are_dropped(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "MAX_MESSAGES", 3)
    async with agent(served.url) as client:
        stream = client.send_message(tree(WAITING))
        task_id = (await anext(aiter(stream))).task.id
        sent = [await replies(client.send_message(message(task_id=task_id))) for _ in range(4)]
        await replies(stream)
        ids = [each.message_id for each in (await client.get_task(GetTaskRequest(id=task_id))).history]
        assert ids == [*(each[0].message.message_id for each in sent[1:]), f"{task_id}:final"]
        monkeypatch.setattr(history, "MAX_BYTES", 1)
        await replies(client.send_message(message(task_id=task_id)))
        (final,) = (await client.get_task(GetTaskRequest(id=task_id))).history
        assert final.message_id == f"{task_id}:final"


async def test_messages_that_come_at_once_are_all_kept(served: Served):
    async with agent(served.url) as client:
        stream = client.send_message(tree(WAITING))
        task_id = (await anext(aiter(stream))).task.id
        sent = await asyncio.gather(
            *(replies(client.send_message(message(task_id=task_id))) for _ in range(10))
        )
        await replies(stream)
        kept = {each.message_id for each in (await client.get_task(GetTaskRequest(id=task_id))).history}
        assert {each[0].message.message_id for each in sent} < kept
