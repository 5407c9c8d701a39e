"""Webhooks: every event, in order, signed; what is retried and what is not; no webhook delays others."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import standardwebhooks
from asking import asking, asks
from receiver import Receiver, receiving
from serving import wait_for
from trees import Steps, steps, tree

from apflow.core import MemoryStore
from apflow.core.engine.worker import Worker
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore
from apflow.core.webhooks.webhook import Webhook, made_secret
from apflow.server.webhooks import delivery, sender
from apflow.server.webhooks.delivery import Deliveries, tidy
from apflow.server.webhooks.delivery_status import Backoff

SOON = Backoff(first=0.01, factor=2, longest=0.1, jitter=0)
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(delivery, "POLL_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(sender, "POLL_INTERVAL_SECONDS", 0.02)
    with steps():
        yield


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@asynccontextmanager
async def delivering(
    db: TaskStore | None = None, settings: Settings | None = None
) -> AsyncGenerator[TaskService]:
    """Run what is submitted and deliver, as a server does."""
    db, settings = db or MemoryStore(), settings or Settings(shutdown_timeout=0.1)
    worker, deliveries = Worker(db, settings), Deliveries(db, settings, backoff=SOON)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        working = group.create_task(worker.run())
        group.create_task(deliveries.run())
        try:
            yield TaskService(db, is_served=True)
        finally:
            Steps.go_on.set()
            worker.drain()
            await working
            deliveries.stop()


async def execute(service: TaskService, url: str, root_id: str = "r", size: int = 4, **config: Any) -> Event:
    return await service.execute(tasks=tree(root_id, size), webhook_config={"url": url, **config})


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, condition, 20)


async def ended(service: TaskService, root_id: str = "r") -> Event:
    """Return the webhook of a tree once it has ended."""
    while True:
        [webhook] = await service.webhooks(root_id)
        if webhook["status"] != "active":
            return webhook
        await asyncio.sleep(0.01)


async def stored(service: TaskService, root_id: str = "r") -> list[Event]:
    """Return the events of a tree since its run was requested, as they must be delivered."""
    events = [event.to_dict() for event in await service.db.events(root_id)]
    return [event for event in events if event["type"] != "task_created"]


async def test_the_last_event_that_is_delivered_is_final(receiver: Receiver):
    async with delivering() as service:
        await execute(service, receiver.url)
        await ended(service)
    assert [event.get("final") for event in receiver.events("r")][-2:] == [None, True]
    assert sum("final" in event for event in receiver.events("r")) == 1


async def test_every_event_arrives_in_order_and_signed(receiver: Receiver):
    async with delivering() as service:
        answer = await execute(service, receiver.url, size=20)
        webhook = await ended(service)
        assert receiver.events("r") == await stored(service)
    assert (webhook["status"], webhook["error"]) == ("done", None)
    for request in receiver.requests:
        request.verify(answer["webhook_secret"])
        assert request.headers["content-type"] == "application/json"
    ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert len(set(ids)) == len(ids)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        receiver.requests[0].verify(made_secret())


async def test_what_fails_for_a_while_is_sent_again_under_the_same_id(receiver: Receiver):
    receiver.answers = [503, 500, 429, 200]
    async with delivering() as service:
        await execute(service, receiver.url)
        assert (await ended(service))["status"] == "done"
        assert receiver.events("r") == await stored(service)
    assert [each.answer for each in receiver.requests[:4]] == [503, 500, 429, 200]
    assert len({each.headers["webhook-id"] for each in receiver.requests[:4]}) == 1


async def test_an_address_that_no_request_can_have_ends_the_webhook():
    async with delivering() as service:
        await execute(service, "http://127.0.0.1:9/", max_retries=20)
        [record] = await service.db.records("webhook")
        stored_long_ago = Webhook.of(record).to_json() | {"url": "http://127.0.0.1:9/\x7f"}
        await service.db.put_record("webhook", record.key, stored_long_ago)
        webhook = await ended(service)
    assert webhook["status"] == "dead"
    assert "cannot be used" in webhook["error"]


async def test_a_receiver_that_stays_down_ends_the_webhook_and_the_end_is_shown(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
):
    receiver.answers = [500]
    async with delivering() as service:
        await execute(service, receiver.url, max_retries=2)
        webhook = await ended(service)
        assert (await service.tree("r"))["status"] in {"pending", "in_progress", "completed"}
    assert (webhook["status"], webhook["error"], webhook["failures"]) == (
        "dead",
        "the receiver answered 500",
        3,
    )
    assert len(receiver.requests) == 3
    assert "is dead: the receiver answered 500" in caplog.text


async def test_what_is_not_wanted_is_not_sent_again(receiver: Receiver):
    receiver.answers = [400, 200, 404, 200]
    async with delivering() as service:
        await execute(service, receiver.url)
        assert (await ended(service))["status"] == "done"
        expected = await stored(service)
    assert len(receiver.requests) == len(expected)
    assert receiver.events("r") == [expected[1], *expected[3:]]


async def test_a_receiver_that_wants_nothing_is_left_alone(receiver: Receiver):
    receiver.answers = [403]
    async with delivering() as service:
        await execute(service, receiver.url)
        assert (await ended(service))["status"] == "dead"
    assert len(receiver.requests) == 5


async def test_one_that_is_gone_is_left_alone_at_once(receiver: Receiver):
    receiver.answers = [410]
    async with delivering() as service:
        await execute(service, receiver.url)
        assert (await ended(service))["status"] == "dead"
    assert len(receiver.requests) == 1


async def test_a_receiver_that_hangs_is_given_up_in_time(receiver: Receiver):
    receiver.hangs = 1.0
    async with delivering() as service:
        await execute(service, receiver.url, timeout=0.1, max_retries=1)
        webhook = await ended(service)
    assert (webhook["status"], webhook["error"]) == ("dead", "the receiver did not answer in time")
    await until(lambda: len(receiver.requests) == 2)


async def test_redirects_are_not_followed(receiver: Receiver):
    receiver.answers, receiver.headers = [302], {"location": receiver.url.replace("hook", "elsewhere")}
    async with delivering() as service:
        await execute(service, receiver.url)
        assert (await ended(service))["error"] == "the receiver answered 302"
    assert {each.path for each in receiver.requests} == {"/hook"}
    assert {each.method for each in receiver.requests} == {"POST"}


async def test_nobody_there_is_a_fault_that_is_retried():
    with receiving() as gone:
        pass
    async with delivering() as service:
        await execute(service, gone.url, max_retries=1)
        webhook = await ended(service)
    assert (webhook["status"], webhook["failures"]) == ("dead", 2)


async def test_an_address_that_is_forbidden_by_now_is_not_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    async with delivering() as service:
        await service.create(tree("r", 2))
        answer = await service.execute("r", webhook_config={"url": receiver.url})
        monkeypatch.setenv("APFLOW_NET_POLICY", "public")
        webhook = await ended(service)
    assert answer["webhook_id"] == webhook["id"]
    assert webhook["status"] == "dead"
    assert "loopback" in webhook["error"]


async def test_secret_headers_are_looked_up_when_they_are_needed_and_stored_nowhere(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("APFLOW_SECRET_HOOK", "clear-as-day-1234")
    monkeypatch.setenv("APFLOW_SECRET_SIGN", made_secret())
    async with delivering() as service:
        config: Event = {
            "headers": {"X-Token": {"$secret": "HOOK"}},
            "secret": {"$secret": "SIGN"},
            "method": "PUT",
        }
        await execute(service, receiver.url, **config)
        await ended(service)
        records = [*await service.db.records("webhook"), *await service.db.records("webhook.ended")]
    assert {(each.method, each.headers["x-token"]) for each in receiver.requests} == {
        ("PUT", "clear-as-day-1234")
    }
    receiver.requests[0].verify(os.environ["APFLOW_SECRET_SIGN"])
    assert len(records) == 1
    assert "clear-as-day" not in str(records)
    assert "clear-as-day" not in caplog.text
    assert os.environ["APFLOW_SECRET_SIGN"] not in str(records) + caplog.text


async def test_a_secret_that_no_header_can_hold_is_told_without_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_HOOK", "two lines\r\nof-secret")
    async with delivering() as service:
        await execute(service, receiver.url, headers={"X-Token": {"$secret": "HOOK"}}, max_retries=0)
        webhook = await ended(service)
    assert webhook["status"] == "dead"
    assert "of-secret" not in webhook["error"]
    assert receiver.requests == []


async def test_a_secret_that_is_not_set_ends_the_webhook(receiver: Receiver):
    async with delivering() as service:
        await execute(service, receiver.url, headers={"X-Token": {"$secret": "NOWHERE"}}, max_retries=1)
        assert "NOWHERE" in (await ended(service))["error"]


async def test_a_dead_receiver_does_not_hold_up_others_and_requests_at_once_are_bounded(receiver: Receiver):
    with receiving(hangs=120) as hanging:
        async with delivering() as service:
            for at in range(20):
                await execute(service, hanging.url, f"h{at}", size=2, timeout=60)
            await until(lambda: hanging.at_once == sender.PER_HOST)
            await execute(service, receiver.url)
            assert (await ended(service))["status"] == "done"
            assert hanging.most_at_once == sender.PER_HOST
            hanging.released.set()


async def test_what_was_sent_is_not_sent_again_by_the_next_process(receiver: Receiver):
    db = MemoryStore()
    async with delivering(db) as service:
        await service.execute(tasks=tree("r", 4, waits=True), webhook_config={"url": receiver.url})
        await until(lambda: len(receiver.requests) >= 3)
        [record] = await db.records("webhook")
    before = len(receiver.requests)
    assert Webhook.of(record).status == "active"
    async with delivering(db) as service:
        assert (await ended(service))["status"] == "done"
        assert receiver.events("r") == await stored(service)
    assert len(receiver.requests) > before


async def test_a_crash_repeats_some_and_leaves_out_none(receiver: Receiver):
    """The record is put back to how it was before the last events were noted."""
    async with delivering() as service:
        await execute(service, receiver.url)
        await ended(service)
        expected = await stored(service)
        assert receiver.events("r") == expected
        [record] = await service.db.records("webhook.ended")
        await service.db.remove_record("webhook.ended", record.key)
        early = replace(Webhook.of(record), status="active", sent=6, ended_at=None)
        await service.db.put_record("webhook", early.key, early.to_json())
        await ended(service)
    assert receiver.events("r") == expected + [event for event in expected if event["sequence"] > 6]


async def test_a_second_run_has_a_webhook_of_its_own(receiver: Receiver):
    async with delivering() as service:
        await execute(service, receiver.url)
        first = await ended(service)
        await service.execute("r", force=True, webhook_config={"url": f"{receiver.url}/2"})
        while len(done := [e for e in await service.webhooks("r") if e["status"] == "done"]) < 2:
            await asyncio.sleep(0.01)
        assert first["id"] in {each["id"] for each in done}
        second = [each.event["sequence"] for each in receiver.requests if each.path == "/hook/2"]
        expected = [event["sequence"] for event in await stored(service)]
        assert second == [number for number in expected if number > first["sent"]]


async def test_the_webhook_of_a_deleted_tree_goes_with_it(receiver: Receiver):
    db = MemoryStore()
    service = TaskService(db, is_served=True)
    await execute(service, receiver.url)
    await service.cancel(["r"])
    await service.delete("r", force=True)
    await tidy(db, 30)
    assert await db.records("webhook") == []


async def test_the_webhook_of_a_tree_that_was_deleted_meanwhile_is_left_alone(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
):
    db = MemoryStore()
    service = TaskService(db, is_served=True)
    await execute(service, receiver.url)
    await service.cancel(["r"])
    await service.delete("r", force=True)
    async with delivering(db):
        while await db.records("webhook"):
            await asyncio.sleep(0.01)
    assert receiver.requests == []
    assert "failed" not in caplog.text


async def test_what_ended_long_ago_is_forgotten(receiver: Receiver):
    async with delivering() as service:
        await execute(service, receiver.url)
        await ended(service)
        await tidy(service.db, 30)
        assert len(await service.webhooks("r")) == 1
        await tidy(service.db, 0)
        assert await service.webhooks("r") == []


async def test_what_a_task_asks_people_and_what_they_decide_are_delivered(receiver: Receiver):
    kinds = ["approval_requested", "approval_decided"]
    with asks():
        async with delivering() as service:
            tasks = [{**asking(data={"version": 2}), "id": "r"}]
            await service.execute(tasks=tasks, webhook_config={"url": receiver.url, "events": kinds})
            await until(lambda: len(receiver.events("r")) == 1)  # while it waits
            await service.approve("r", reason="Fine.")
            await until(lambda: len(receiver.events("r")) == 2)
    asked, decided = receiver.events("r")
    assert [asked["type"], decided["type"]] == kinds
    assert (asked["data"]["question"], asked["data"]["data"]) == ("May it?", {"version": 2})
    assert (decided["data"]["approved"], decided["data"]["reason"]) == (True, "Fine.")
