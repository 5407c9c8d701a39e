"""Delivering to webhooks: finds those that have not ended, and has a courier for each.

They are records beside the tasks, so whatever was not sent when a process ended is sent by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.errors import StoreError
from apflow.core.model.task import utc_now
from apflow.core.process.late_import import removing_orphans
from apflow.core.settings import Settings
from apflow.core.store.base import Record, TaskStore
from apflow.core.webhooks.kinds import ENDED_KIND, KIND
from apflow.core.webhooks.webhook import Webhook
from apflow.server.webhooks.delivery_status import Backoff, LostError

if TYPE_CHECKING:
    from apflow.http import GuardedTransport
    from apflow.server.webhooks.sender import DeliveryContext, WebhookSender

logger = logging.getLogger(__name__)

POLL_INTERVAL_SECONDS: Final = (
    0.5  # seconds between looks for new webhooks, or twenty times as long as one takes
)
MAX_REST_SECONDS: Final = 10.0
TIDY_EVERY: Final = 600.0  # seconds between looks for what is of no use any more
FINAL_SAVE_SECONDS: Final = 5.0  # seconds to note how far everything is
PAGE: Final = 500


class Deliveries:
    """Delivers events to the webhooks of one store, while it runs."""

    def __init__(self, db: TaskStore, settings: Settings, *, backoff: Backoff | None = None) -> None:
        self._db = db
        self._settings = settings
        self._backoff = backoff or Backoff()
        self._couriers: dict[str, tuple[WebhookSender, asyncio.Task[None]]] = {}
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()  # ends the rest between two looks
        self._post: DeliveryContext | None = None  # once there is a webhook
        self.counts: Counter[str] = Counter()

    @property
    def active(self) -> int:
        """How many webhooks are delivered to here."""
        return len(self._couriers)

    def stop(self) -> None:
        """Send nothing more, once what is being sent is answered. The next process sends the rest."""
        self._stop.set()
        self._wake.set()

    def wake(self) -> None:
        """Look for new webhooks now."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until `stop()`."""
        self._post = None  # what one run has opened, its end closes
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            tidying = group.create_task(self._tidy(), name="apflow:webhooks:tidy")
            await self._look_again_and_again(stack, group)
            tidying.cancel()
            await self._end()

    async def _end(self) -> None:
        delivering = [each for _, each in self._couriers.values()]
        for courier, _ in list(self._couriers.values()):
            courier.stop()
        if delivering:
            await asyncio.wait(delivering, timeout=FINAL_SAVE_SECONDS)
        for each in delivering:
            each.cancel()

    async def _look_again_and_again(self, stack: AsyncExitStack, group: asyncio.TaskGroup) -> None:
        rest = POLL_INTERVAL_SECONDS
        while not self._stop.is_set():
            begun = time.monotonic()
            self._wake.clear()
            try:
                await self._look(stack, group)
                rest = min(MAX_REST_SECONDS, max(POLL_INTERVAL_SECONDS, 20 * (time.monotonic() - begun)))
            except Exception as error:  # noqa: BLE001 - a look that fails only delays
                rest = min(MAX_REST_SECONDS, 2 * rest)
                logger.warning("Looking for webhooks failed and is repeated: %s", error)
            await wait_up_to(0 if self._stop.is_set() else rest, self._wake)

    async def _look(self, stack: AsyncExitStack, group: asyncio.TaskGroup) -> None:
        for record in await self._db.records(KIND):
            if record.key in self._couriers:
                continue
            if self._post is None:
                self._post = await self._open(stack)
            courier = await _take(self._post, record)
            if courier is not None:
                name = f"apflow:webhook:{courier.webhook.id}"
                delivering = group.create_task(self._deliver(record.key, courier), name=name)
                self._couriers[record.key] = courier, delivering

    async def _open(self, stack: AsyncExitStack) -> DeliveryContext:
        """Return what couriers share. Its HTTP client takes a quarter of a second to import."""
        transport, make = await asyncio.to_thread(_imported)
        await stack.enter_async_context(transport)
        settings = self._settings
        return make(
            self._db,
            transport,
            settings.webhook_timeout,
            settings.lease_seconds,
            self._backoff,
            self.counts,
            settings,
        )

    async def _deliver(self, key: str, courier: WebhookSender) -> None:
        """Run a sender. If it fails, a later poll finds the webhook again."""
        try:
            await courier.run()
        except Exception as error:
            logger.warning("Delivering to webhook %s failed and is repeated: %s", courier.webhook.id, error)
            if not isinstance(error, StoreError):
                logger.debug("Why it failed", exc_info=True)
            await asyncio.sleep(POLL_INTERVAL_SECONDS)
        finally:
            await self._leave(courier)
            del self._couriers[key]

    async def _leave(self, courier: WebhookSender) -> None:
        try:
            async with asyncio.timeout(FINAL_SAVE_SECONDS):
                await courier.leave()
        except LostError:
            pass  # it was deleted, or others have it
        except Exception as error:  # noqa: BLE001 - then some events are sent again
            logger.warning("How far webhook %s is could not be noted: %s", courier.webhook.id, error)

    async def _tidy(self) -> None:
        """Forget, from time to time, webhooks of trees that were deleted, and what ended long ago."""
        while True:
            try:
                for key in await tidy(self._db, self._settings.event_retention_days):
                    if key in self._couriers:
                        self._couriers[key][1].cancel()
            except StoreError as error:
                logger.warning("Tidying webhooks failed and is repeated: %s", error)
            await asyncio.sleep(TIDY_EVERY)


def _imported() -> tuple[GuardedTransport, type[DeliveryContext]]:
    with removing_orphans():
        from apflow.http import GuardedTransport
        from apflow.server.webhooks.sender import IN_ALL, DeliveryContext

    return GuardedTransport(connections=IN_ALL), DeliveryContext


async def _take(post: DeliveryContext, record: Record) -> WebhookSender | None:
    from apflow.server.webhooks.sender import take

    return await take(post, record)


async def tidy(db: TaskStore, keep_days: float) -> list[str]:
    """Remove webhooks of deleted trees, and those that ended more than `keep_days` ago.

    Returns:
        the keys of those that are sent nothing more.
    """
    oldest = utc_now() - timedelta(days=keep_days)
    removed: list[str] = []
    for kind in (KIND, ENDED_KIND):
        records = await db.records(kind)
        for at in range(0, len(records), PAGE):
            webhooks = [Webhook.of(each) for each in records[at : at + PAGE]]
            known = await db.get(list({each.root_id for each in webhooks}))
            for each in webhooks:
                is_old = each.ended_at is not None and datetime.fromisoformat(each.ended_at) < oldest
                if each.root_id not in known or is_old:
                    await db.remove_record(kind, each.key)
                    removed.append(each.key)
    return removed
