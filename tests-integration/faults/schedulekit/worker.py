"""A worker by a fast clock: `python -m schedulekit.worker URL CLOCK`. It reports when it works."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from apflow.core import BaseTask, Worker, create_session, executor_register
from apflow.core.engine.scheduler import Scheduler
from schedulekit.clock import clock_of


@executor_register()
class Tick(BaseTask):
    """Ends at once."""

    id = "tick"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs


async def work(url: str, clock: str) -> None:
    async with create_session(url) as db:
        scheduler = Scheduler(db, clock_of(clock), look_seconds=0.1, take_over_seconds=0.5)
        worker = Worker(db, scheduler=scheduler)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await worker.run()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
