"""Traces of the trees that a process runs, by the distribution that can send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, cast

from apflow.core import plugins
from apflow.core.errors import SettingsError
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore

GROUP: Final = "apflow.telemetry"  # entry points: see `MakeTelemetry`
NAME: Final = "opentelemetry"

MakeTelemetry = Callable[[TaskStore, Settings], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def traced(db: TaskStore, settings: Settings) -> AsyncGenerator[None]:
    """Send traces of the trees of a store that run in this process, as long as the context lasts.

    Every process that runs trees does it. Nothing is done if the settings name no collector. At the end, what
    waits to be sent is sent, for some seconds at most.

    Raises:
        SettingsError: the settings name a collector, and what sends traces is not installed.
    """
    if not settings.otlp_endpoint:
        yield
        return
    if not plugins.is_offered(GROUP, NAME):
        raise SettingsError(
            "APFLOW_OTLP_ENDPOINT is set, and apflow-server, which sends traces, is not installed. "
            "Install it (pip install 'apflow-server[otlp]'), or unset APFLOW_OTLP_ENDPOINT."
        )
    make = cast("MakeTelemetry", await asyncio.to_thread(plugins.load, GROUP, NAME))
    async with make(db, settings):
        yield
