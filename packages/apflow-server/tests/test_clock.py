"""The wall clock is set back by an hour: waits are not affected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from receiver import Receiver, receiving
from trees import steps, tree

from apflow.core import MemoryStore
from apflow.core.engine.worker import Worker
from apflow.core.model.task import utc_now
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore
from apflow.core.webhooks.webhook import Webhook
from apflow.server.auth.caller import Caller, expired
from apflow.server.http import limits
from apflow.server.http.api_error import TooManyRequestsError
from apflow.server.http.limits import Rate
from apflow.server.webhooks import sender
from apflow.server.webhooks.delivery import Deliveries
from apflow.server.webhooks.delivery_status import Backoff
from apflow.server.webhooks.sender import DeliveryContext, take

HOUR = 3600.0
SHORT = Backoff(first=0.01, factor=2, longest=0.1, jitter=0)


class WallClock:
    """The wall clock of the module under test. It advances by itself and can be set."""

    def __init__(self) -> None:
        self.offset = 0.0
        self.monotonic = time.monotonic

    def time(self) -> float:
        return time.time() + self.offset


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with steps(), receiving() as found:
        yield found


@asynccontextmanager
async def delivering(db: TaskStore) -> AsyncGenerator[None]:
    settings = Settings(shutdown_timeout=0.1)
    worker, deliveries = Worker(db, settings), Deliveries(db, settings, backoff=SHORT)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        working = group.create_task(worker.run())
        group.create_task(deliveries.run())
        yield
        worker.drain()
        await working
        deliveries.stop()


async def test_a_webhook_that_waits_for_its_next_attempt_waits_no_longer_than_it_can(receiver: Receiver):
    db = MemoryStore()
    service = TaskService(db, is_served=True)
    await service.execute(tasks=tree("r", 2), webhook_config={"url": receiver.url})
    [record] = await db.records("webhook")
    later = (utc_now() + timedelta(seconds=HOUR)).isoformat()
    waiting = Webhook.of(record).to_json() | {"not_before": later, "failures": 1}
    await db.put_record("webhook", record.key, waiting)
    async with delivering(db):
        while await db.records("webhook"):
            await asyncio.sleep(0.02)
    assert receiver.events("r")


@pytest.mark.parametrize(("seconds", "is_taken"), [(10.0, False), (-1.0, True), (HOUR, True)])
async def test_the_lease_of_a_webhook_is_over_when_it_ends_later_than_a_lease_can(
    receiver: Receiver, seconds: float, is_taken: bool
):
    db = MemoryStore()
    db.capabilities = type(db.capabilities)(is_shared=True)  # as a database of several processes
    await TaskService(db, is_served=True).execute(tasks=tree("r", 2), webhook_config={"url": receiver.url})
    [record] = await db.records("webhook")
    until = (utc_now() + timedelta(seconds=seconds)).isoformat()
    record = await db.put_record(
        "webhook", record.key, Webhook.of(record).to_json() | {"owner": "dead", "lease_until": until}
    )
    assert record is not None
    post = DeliveryContext(db, sender.httpx.AsyncHTTPTransport(), timeout=5.0, lease=2.0)
    assert (await take(post, record) is not None) is is_taken


async def test_a_token_expires_after_the_time_that_it_had_left(monkeypatch: pytest.MonkeyPatch):
    clock = WallClock()
    monkeypatch.setattr("apflow.server.auth.caller.time", clock)
    expiring = asyncio.create_task(expired(Caller("ann", is_admin=False, until=clock.time() + 0.2)))
    await asyncio.sleep(0)
    clock.offset = -HOUR
    async with asyncio.timeout(30):
        await expiring


def test_the_limit_of_requests_does_not_last_until_the_clock_catches_up(
    monkeypatch: pytest.MonkeyPatch,
):
    clock = WallClock()
    for module in ("apflow.server.http.limits", "limits.storage.memory", "limits.strategies"):
        monkeypatch.setattr(f"{module}.time", clock)
    rate = Rate(Settings(rate_limit=3))
    check: Callable[[], None] = lambda: rate.check_user("ann")  # noqa: E731
    for _ in range(3):
        check()
    with pytest.raises(TooManyRequestsError):
        check()
    clock.offset = -HOUR
    check()
    clock.offset = -HOUR - limits.SET_BACK / 2  # a clock that is only slowed down forgets nothing
    for _ in range(2):
        check()
    with pytest.raises(TooManyRequestsError):
        check()
