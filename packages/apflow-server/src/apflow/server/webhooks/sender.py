"""Delivers the events of a tree to one webhook, in order, from the last delivered one.

How far it has come is noted in its record: after a crash the events since the last note are sent again. Where
several processes might deliver, the record has an owner, and no request outlives the owner's lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import httpx

from apflow.core.concurrency.fair_semaphore import host_semaphore
from apflow.core.engine import active_runs
from apflow.core.errors import NotFoundError
from apflow.core.events.bus import bus_of
from apflow.core.events.subscription import Subscription
from apflow.core.model.event import FINAL, LIVE, TaskEvent
from apflow.core.model.task import utc_now
from apflow.core.settings import Settings
from apflow.core.store.base import Record, TaskStore
from apflow.core.webhooks.defaults import addressed
from apflow.core.webhooks.kinds import ENDED_KIND, KIND
from apflow.core.webhooks.webhook import Webhook
from apflow.server.webhooks.attempt import send
from apflow.server.webhooks.delivery_status import (
    Backoff,
    DeliveryAttempt,
    DeliveryStatus,
    LostError,
    after_attempt,
    after_skip,
)

logger = logging.getLogger(__name__)

NOTE_EVERY: Final = 0.25  # seconds between two notes of how far it is
POLL_INTERVAL_SECONDS: Final = 0.5  # seconds between looks for a run that is about to be requested
MAX_BUFFERED_EVENTS: Final = (
    100  # events that wait for a receiver in memory; more are read when it has caught up
)
PER_HOST: Final = 4  # requests at once
IN_ALL: Final = 64
MARGIN, LONG_LEASE = 4, 60.0  # a lease that ends after so many leases, or seconds, is of an earlier clock


@dataclass
class DeliveryContext:
    """What couriers of one server share."""

    db: TaskStore
    transport: httpx.AsyncBaseTransport
    timeout: float  # of one attempt, where the webhook allows more
    lease: float  # seconds that a lease lasts beyond one attempt
    backoff: Backoff = field(default_factory=Backoff)
    counts: Counter[str] = field(default_factory=Counter[str])  # by status, and of webhooks that died
    settings: Settings = field(default_factory=Settings)  # name the receivers of every run
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_ALL))

    @asynccontextmanager
    async def place(self, url: str) -> AsyncGenerator[None]:
        """Hold a place to send: receivers that hang leave room for the others."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(host_semaphore("webhook", urlsplit(url).netloc, PER_HOST))
            await stack.enter_async_context(self.places)
            yield

    def lease_of(self, webhook: Webhook) -> str:
        """Return the end of a lease that begins now: no attempt that begins soon outlives it."""
        return (utc_now() + timedelta(seconds=webhook.timeout + self.lease)).isoformat()

    def is_leased(self, webhook: Webhook) -> bool:
        """Whether the lease of a webhook's owner has not run out.

        A lease that ends much later than a lease can was given before the clock was set back: it is over.
        The margin is wide, because processes of one database may differ in their settings.
        """
        if webhook.lease_until is None:
            return False
        left = (datetime.fromisoformat(webhook.lease_until) - utc_now()).total_seconds()
        return 0 < left <= max(LONG_LEASE, MARGIN * (webhook.timeout + self.lease))


class _StoppedError(Exception):
    """Delivery must stop."""


class WebhookSender:
    """Delivers to one webhook, which this process has taken with `take`."""

    def __init__(self, post: DeliveryContext, webhook: Webhook, version: int) -> None:
        self.webhook = webhook
        self._post = post
        self._db = post.db
        self._version = version
        self._noted_at = time.monotonic()
        self._is_noted = True
        self._lock = asyncio.Lock()  # of the record
        self._running: asyncio.Task[None] | None = None
        self._is_sending = self._is_stopping = False

    async def run(self) -> None:
        """Deliver until the webhook has ended, another process has it, or `stop()`."""
        self._running = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._renew(), name=f"apflow:webhook:renew:{self.webhook.id}")
                try:
                    while self.webhook.status == "active":
                        await self._deliver_run()
                except NotFoundError:  # the tree was deleted
                    await self._db.remove_record(KIND, self.webhook.key)
                renewing.cancel()
        except* LostError:
            logger.debug("Webhook %s is delivered by another process.", self.webhook.id)
        except* _StoppedError:
            pass

    def stop(self) -> None:
        """Send nothing more, once the request that is being made is answered."""
        self._is_stopping = True
        if not self._is_sending and self._running is not None:
            self._running.cancel()

    async def leave(self) -> None:
        """Record the progress, and release the webhook to other processes."""
        if self.webhook.status == "active":
            self.webhook = replace(self.webhook, owner=None, lease_until=None)
            self._is_noted = False
            await self._note()

    async def _deliver_run(self) -> None:
        """Deliver the events of a run; where none is requested yet, wait a moment."""
        webhook = self.webhook
        subscription = Subscription(
            bus_of(self._db), self._db, webhook.root_id, after=webhook.sent, size=MAX_BUFFERED_EVENTS
        )
        async with aclosing(subscription.batches()) as batches:
            async for batch in batches:
                for event in batch:
                    if self.webhook.wants(event):
                        await self._deliver(event)
                    elif event.type not in LIVE:
                        await self._skip(event)
                    if self.webhook.status != "active":
                        return
        await asyncio.sleep(POLL_INTERVAL_SECONDS)

    async def _deliver(self, event: TaskEvent) -> None:
        """Send one event until it is taken, refused, or given up."""
        while True:
            await self._wait()
            async with self._post.place(self.webhook.url):
                if self._lease_is_short():
                    await self._note()
                attempt = await self._send(event)
            self._post.counts[attempt.status.name.lower()] += 1
            self.webhook = after_attempt(
                self.webhook,
                attempt,
                event.sequence,
                is_final=event.type in FINAL,
                now=utc_now(),
                backoff=self._post.backoff,
            )
            self._is_noted = False
            if self.webhook.status != "active":
                await self._end()
                return
            is_due = time.monotonic() - self._noted_at >= NOTE_EVERY
            if is_due or attempt.status is not DeliveryStatus.SENT:
                await self._note()
            if self._is_stopping:
                raise _StoppedError
            if attempt.status is not DeliveryStatus.RETRY:
                return

    async def _skip(self, event: TaskEvent) -> None:
        """Go past an event that the webhook does not want."""
        is_final = event.type in FINAL
        self.webhook = after_skip(self.webhook, event.sequence, is_final=is_final, now=utc_now())
        self._is_noted = False  # the progress is recorded with the next note
        if is_final:
            await self._end()

    async def _send(self, event: TaskEvent) -> DeliveryAttempt:
        self._is_sending = True
        try:
            webhook = addressed(self.webhook, self._post.settings)
            if webhook is None:  # `take` has checked it
                raise LostError
            post = self._post
            return await send(post.transport, webhook, event, post.timeout, post.settings)
        finally:
            self._is_sending = False

    async def _wait(self) -> None:
        if self.webhook.not_before is not None:
            until = datetime.fromisoformat(self.webhook.not_before)
            await asyncio.sleep(self._post.backoff.left(until, utc_now()))

    async def _renew(self) -> None:
        """Keep the lease, and note what was sent a while ago."""
        while True:
            await asyncio.sleep(NOTE_EVERY if not self._is_noted else self._post.lease / 3)
            if not self._is_noted or self._lease_is_short():
                await self._note()

    def _lease_is_short(self) -> bool:
        if not self._db.capabilities.is_shared or self.webhook.lease_until is None:
            return False
        left = (datetime.fromisoformat(self.webhook.lease_until) - utc_now()).total_seconds()
        whole = self.webhook.timeout + self._post.lease
        return not whole - self._post.lease / 2 <= left <= whole  # longer: the clock was set back

    async def _note(self) -> None:
        """Write down how far it is, and prolong the lease.

        Raises:
            LostError: another process has changed the record.
        """
        async with self._lock:
            if self.webhook.status != "active":
                return
            if self.webhook.owner is not None:
                self.webhook = replace(self.webhook, lease_until=self._post.lease_of(self.webhook))
            self._is_noted = True  # set before the write: events sent meanwhile must be recorded, too
            try:
                record = await self._db.put_record(
                    KIND, self.webhook.key, self.webhook.to_json(), version=self._version
                )
            except BaseException:
                self._is_noted = False
                raise
            if record is None:
                raise LostError
            self._version, self._noted_at = record.version, time.monotonic()

    async def _end(self) -> None:
        async with self._lock:
            await self._db.put_record(ENDED_KIND, self.webhook.key, self.webhook.to_json())
            if not await self._db.remove_record(KIND, self.webhook.key, version=self._version):
                raise LostError
        if self.webhook.status == "dead":
            self._post.counts["dead"] += 1
            logger.warning(
                "Webhook %s of tree %s is dead: %s", self.webhook.id, self.webhook.root_id, self.webhook.error
            )


async def take(post: DeliveryContext, record: Record) -> WebhookSender | None:
    """Become the one who delivers to a webhook; None where another process is, or another comes first."""
    webhook = Webhook.of(record)
    if addressed(webhook, post.settings) is None:
        return None  # left to processes with the setting
    is_foreign = webhook.owner not in (None, active_runs.owner_id())
    if post.db.capabilities.is_shared and is_foreign and post.is_leased(webhook):
        return None
    webhook = replace(webhook, owner=active_runs.owner_id(), lease_until=post.lease_of(webhook))
    taken = await post.db.put_record(KIND, webhook.key, webhook.to_json(), version=record.version)
    return None if taken is None else WebhookSender(post, webhook, taken.version)
