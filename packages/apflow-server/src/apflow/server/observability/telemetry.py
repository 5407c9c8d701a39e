"""Traces and metrics for the collector of the settings, in every process that runs trees."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.concurrency.supervision import Supervised
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.extensions.model_calls import observing_model_calls
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore
from apflow.server.observability.observation import Observation
from apflow.server.observability.trace import Tracing, tracing_of

logger = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 5.0  # that a collector may take to receive the last spans


@asynccontextmanager
async def telemetry(db: TaskStore, settings: Settings) -> AsyncGenerator[None]:
    """Send what happens in the trees of a store that run here, while the context lasts.

    Raises:
        SettingsError: what sends to a collector is not installed.
    """
    tracing = tracing_of(settings)
    if tracing is None:
        yield
        return
    supervised = Supervised("apflow:traces", Observation(db, [tracing.take]).run)
    observing = asyncio.create_task(supervised.run(), name="apflow:traces:supervision")
    await asyncio.sleep(0)  # it observes from now on
    try:
        with observing_model_calls(tracing.take_model_call):
            yield
    finally:
        supervised.end()
        await asyncio.wait({observing})
        await _close(tracing, settings.otlp_endpoint)


async def _close(tracing: Tracing, endpoint: str) -> None:
    """Send the last spans. A collector that does not answer is given up: the thread ends with the process."""
    closed, loop = asyncio.Event(), asyncio.get_running_loop()

    def close() -> None:
        try:
            tracing.close()
        finally:
            call_in_loop(loop, closed.set)

    threading.Thread(target=close, name="apflow:traces:close", daemon=True).start()
    if not await wait_up_to(CLOSE_SECONDS, closed):
        logger.warning(
            "The collector %s has not received the last traces in %g s; they are dropped. Check "
            "APFLOW_OTLP_ENDPOINT, and that the collector runs.",
            endpoint,
            CLOSE_SECONDS,
        )
