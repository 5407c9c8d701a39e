"""Push notifications of A2A: delivered with retries, in the version of the client, and checked before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from a2a.types import (
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    TaskPushNotificationConfig,
)
from a2a_clients import COMPLETED, TRANSPORTS, agent, last_state, replies, tree
from receiver import Receiver, receiving
from serving import Served, serving, wait_for
from trees import Steps, steps

from apflow.core.settings import Settings
from apflow.server.webhooks import delivery, delivery_status

TREE = [{"id": "r", "name": "group"}, {"id": "c", "name": Steps.id, "parent_id": "r", "inputs": {"n": 7}}]
CREDENTIALS = "the-credentials-of-the-hook"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "POLL_INTERVAL_SECONDS", 0.02)
    soon = delivery_status.Backoff(first=0.01, factor=2, longest=0.1, jitter=0)
    monkeypatch.setattr(delivery, "Backoff", lambda: soon)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, quickly: None) -> Iterator[Served]:
    monkeypatch.setenv("APFLOW_CREDENTIALS_KEY", "a key of tests")
    with steps(), serving(Settings(a2a_grpc_bind="127.0.0.1:0", credentials_key="a key of tests")) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def config(receiver: Receiver, **more: Any) -> TaskPushNotificationConfig:
    return TaskPushNotificationConfig(
        url=receiver.url,
        token="the-token",
        authentication=AuthenticationInfo(scheme="Bearer", credentials=CREDENTIALS),
        **more,
    )


def bodies(receiver: Receiver) -> list[dict[str, Any]]:
    """The bodies that were answered with 2xx."""
    with receiver.lock:
        return [json.loads(each.body) for each in receiver.requests if each.answer < 300]


def is_final(body: dict[str, Any]) -> bool:
    status = body.get("statusUpdate", body).get("status", {})
    return status.get("state") in ("TASK_STATE_COMPLETED", "completed")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_a_webhook_that_fails_twice_gets_every_update(
    served: Served, receiver: Receiver, transport: str, version: str
):
    receiver.answers = [500, 503, 200]
    async with agent(served.url, transport=transport, version=version) as client:
        request = tree(*TREE)
        request.configuration.task_push_notification_config.CopyFrom(config(receiver))
        found = await replies(client.send_message(request))
        assert last_state(found) == COMPLETED
        await until(lambda: any(map(is_final, bodies(receiver))))
    sent = bodies(receiver)
    assert is_final(sent[-1])
    if version == "1.0":
        assert [next(iter(each)) for each in sent] == [
            "statusUpdate", "artifactUpdate", "artifactUpdate", "statusUpdate",
        ]  # fmt: skip
        final = sent[-1]["statusUpdate"]
        assert final["taskId"] == found[0].task.id
        data = final["status"]["message"]["parts"][0]["data"]
        assert (data["status"], data["task_count"]) == ("completed", 2)
    else:
        assert {each.get("kind") for each in sent} == {"task"}, sent
        assert {each["id"] for each in sent} == {found[0].task.id}
    headers = receiver.requests[-1].headers
    assert headers["authorization"] == f"Bearer {CREDENTIALS}"
    assert headers["x-a2a-notification-token"] == "the-token"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_configurations_are_stored_listed_and_deleted(
    served: Served, receiver: Receiver, transport: str
):
    waiting = [TREE[0], {**TREE[1], "inputs": {"waits": True}}]
    async with agent(served.url, transport=transport) as client:
        stream = client.send_message(tree(*waiting))
        task_id = (await anext(aiter(stream))).task.id
        made = await client.create_task_push_notification_config(config(receiver, task_id=task_id, id="mine"))
        assert (made.id, made.task_id, made.url) == ("mine", task_id, receiver.url)
        one = GetTaskPushNotificationConfigRequest(task_id=task_id, id="mine")
        found = await client.get_task_push_notification_config(one)
        assert (found.url, found.authentication.scheme) == (receiver.url, "Bearer")
        assert found.authentication.credentials == ""
        assert found.token == ""
        listed = await client.list_task_push_notification_configs(
            ListTaskPushNotificationConfigsRequest(task_id=task_id)
        )
        assert [each.id for each in listed.configs] == ["mine"]
        records = [str(each.value) for each in await served.db.records("webhook")]
        assert any(receiver.url in each for each in records)
        assert not any(CREDENTIALS in each or "the-token" in each for each in records)
        await client.delete_task_push_notification_config(
            DeleteTaskPushNotificationConfigRequest(task_id=task_id, id="mine")
        )
        with pytest.raises(Exception, match="no push notification"):
            await client.get_task_push_notification_config(one)
        Steps.go_on.set()
        await replies(stream)


async def test_a_refused_address_creates_nothing(served: Served):
    async with agent(served.url) as client:
        request = tree({"id": "never", "name": Steps.id})
        request.configuration.task_push_notification_config.url = "http://169.254.169.254/latest"
        with pytest.raises(Exception, match="url"):
            await replies(client.send_message(request))
    assert await served.db.get(["never"]) == {}


async def test_a_dead_webhook_is_shown_and_delays_nothing(served: Served, receiver: Receiver):
    receiver.answers = [410]
    async with agent(served.url) as client:
        request = tree(*TREE)
        request.configuration.task_push_notification_config.CopyFrom(config(receiver))
        found = await replies(client.send_message(request))
        assert last_state(found) == COMPLETED
    root_id = found[0].task.id
    async with asyncio.timeout(200):
        while not await served.db.records("webhook.ended", prefix=root_id):
            await asyncio.sleep(0.02)
    (record,) = await served.db.records("webhook.ended", prefix=root_id)
    assert record.value["status"] == "dead"


async def test_a_slow_webhook_delays_no_task_and_no_other_webhook(served: Served, receiver: Receiver):
    with receiving(hangs=60) as slow:
        async with agent(served.url) as client:
            request = tree(*TREE)
            request.configuration.task_push_notification_config.CopyFrom(config(slow))
            assert last_state(await replies(client.send_message(request))) == COMPLETED
            await until(lambda: slow.at_once)
            other = tree({"id": "other", "name": Steps.id, "inputs": {"n": 7}})
            other.configuration.task_push_notification_config.CopyFrom(config(receiver))
            assert last_state(await replies(client.send_message(other))) == COMPLETED
            await until(lambda: any(is_final(each) for each in bodies(receiver)))
        assert slow.at_once == 1  # it has not answered the first update yet
        slow.released.set()
        await until(lambda: any(is_final(each) for each in bodies(slow)))


def test_a_receiver_records_no_request_for_another_one(receiver: Receiver):
    other = receiver.url.replace("/hook", "-of-another-test/hook")
    for method in ("POST", "GET"):
        assert httpx.request(method, other, content=b"{}", trust_env=False).status_code == 404
        assert receiver.requests == []
    assert httpx.post(receiver.url, content=b"{}", trust_env=False).status_code == 200
    assert [each.path for each in receiver.requests] == ["/hook"]


async def until(condition: Any) -> None:
    """Wait until a condition holds, without blocking the loop."""
    await asyncio.to_thread(wait_for, condition)
