"""What a server does beside answering: it runs trees, delivers to webhooks, and counts what happens.

Each of these is started again where it ends too early, which is logged as an error, and the probes say so
meanwhile. A server that runs nothing never seems healthy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from apflow.core.concurrency.supervision import Supervised
from apflow.core.engine.worker import Worker
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore
from apflow.server.drain import Drain, begin_with_uvicorn
from apflow.server.observability.observation import Observation, Take
from apflow.server.webhooks.delivery import Deliveries

PREFIX: Final = "apflow:server:"


class Duties:
    """The coroutines of one server that run until it ends."""

    def __init__(
        self,
        db: TaskStore,
        settings: Settings,
        drain: Drain,
        deliveries: Deliveries,
        listeners: Sequence[Take],
    ) -> None:
        self.worker = Worker(db, settings)
        self._drain = drain
        self._deliveries = deliveries
        self._has_worked = asyncio.Event()  # nothing is left to run
        self._working = _supervised("worker", self._work)
        self._delivering = _supervised("webhooks", deliveries.run)
        self._observing = _supervised("observation", Observation(db, listeners).run)
        self._ending = _supervised("end", self._end)

    @property
    def problem(self) -> str:
        """Which of them does not run at present, although the server is not about to end; empty if none."""
        if self._drain.has_begun:
            return ""
        if not (self._working.is_running and self.worker.is_sweeping):
            return "no trees are run: the worker has failed and is being restarted"
        if not self._delivering.is_running:
            return "no webhooks are sent: their delivery has failed and is being restarted"
        return ""

    @asynccontextmanager
    async def done(self) -> AsyncGenerator[None]:
        """Do all of it while the context lasts. At its end, what runs is drained first."""
        async with asyncio.TaskGroup() as group:
            for each in (self._working, self._delivering, self._observing):
                group.create_task(each.run(), name=f"{each.name}:supervision")
            ending = group.create_task(self._ending.run(), name=f"{self._ending.name}:supervision")
            try:
                yield
            finally:
                self._drain.begin()
                try:
                    await ending
                finally:
                    self._observing.end()

    async def _work(self) -> None:
        await self.worker.run()
        self._has_worked.set()

    async def _end(self) -> None:
        """Once the drain begins, let what runs end, then the deliveries. Each step may be repeated."""
        await begin_with_uvicorn(self._drain)
        self.worker.drain()
        await self._has_worked.wait()
        self._deliveries.stop()
        self._drain.end()


def _supervised(name: str, make: Callable[[], Coroutine[Any, Any, object]]) -> Supervised:
    return Supervised(PREFIX + name, make, is_owner=True)
