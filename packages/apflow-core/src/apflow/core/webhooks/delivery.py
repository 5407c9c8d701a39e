"""Delivers events to webhooks in any process that runs trees, by the distribution that can send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol, cast

from apflow.core import plugins
from apflow.core.concurrency.supervision import Supervised
from apflow.core.errors import InvalidInputError
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore

GROUP: Final = "apflow.webhooks"  # entry points: see `MakeDelivery`
NAME: Final = "delivery"
END_SECONDS: Final = 10.0  # that a delivery may take to end


class Delivery(Protocol):
    """Delivers events to the webhooks of one store."""

    async def run(self) -> None:
        """Deliver until `stop()`."""

    def wake(self) -> None:
        """Look for new webhooks now."""

    def stop(self) -> None:
        """Send nothing more, once what is being sent is answered. The next process sends the rest."""


MakeDelivery = Callable[[TaskStore, Settings], Delivery]


def is_available() -> bool:
    """Return whether a distribution that delivers to webhooks is installed."""
    return plugins.is_offered(GROUP, NAME)


def check_available() -> None:
    """Raise `InvalidInputError` if no distribution that delivers to webhooks is installed."""
    if not is_available():
        raise InvalidInputError(
            "The webhook cannot be registered: apflow-server, which delivers events to webhooks, is not "
            "installed. Install it here, or send the request to a server (--server URL)."
        )


@asynccontextmanager
async def delivering(db: TaskStore, settings: Settings) -> AsyncGenerator[Delivery | None]:
    """Deliver to the webhooks of a store as long as the context lasts.

    Yields what delivers, or None if no distribution that does so is installed.
    """
    if not is_available():
        yield None
        return
    make = cast("MakeDelivery", await asyncio.to_thread(plugins.load, GROUP, NAME))
    delivery = make(db, settings)
    supervised = Supervised("apflow:webhooks", delivery.run)
    running = asyncio.create_task(supervised.run(), name="apflow:webhooks:supervision")
    try:
        yield delivery
    finally:
        delivery.stop()
        await asyncio.wait({running}, timeout=END_SECONDS)
        supervised.end()
        running.cancel()
        await asyncio.wait({running})
