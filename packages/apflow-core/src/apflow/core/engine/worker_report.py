"""What workers report of themselves, so that people see which processes run what is submitted.

On a store that several processes share, each worker keeps a record in it, and renews the record while it
works. A store of one process needs none: its only workers are those of this process. A report that fails is
repeated later, and never affects the runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final
from uuid import uuid4

from apflow.core import plugins
from apflow.core.model.task import Json, utc_now
from apflow.core.store.base import TaskStore

logger = logging.getLogger(__name__)

KIND = "worker"  # of the records
INTERVAL_SECONDS = 15.0  # between two reports
LOST_SECONDS = 60.0  # without a report, after which a worker counts as lost
FORGOTTEN_SECONDS = 3600.0  # without a report, after which other workers remove its record
REMOVAL_SECONDS = 2.0  # that a worker waits for the removal of its record when it ends


class WorkerReport:
    """What one worker reports.

    Args:
        state: returns what the worker does and offers, such as `status` and `trees`.
    """

    def __init__(self, db: TaskStore, state: Callable[[], dict[str, Json]]) -> None:
        self._db = db
        self._state = state
        self._others: list[str] = []  # the other workers that took work at the last report
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._fixed: dict[str, Json] = {
            "id": self.worker_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": plugins.version("apflow-core"),
            "started_at": utc_now().isoformat(),
        }

    def current(self) -> dict[str, Json]:
        """Return the report as it is now."""
        return self._fixed | {"seen_at": utc_now().isoformat()} | self._state()

    async def keep(self) -> None:
        """Report until this is cancelled, if the store is shared."""
        if not self._db.capabilities.is_shared:
            return
        while True:
            try:
                await self.report()
            except Exception as error:  # noqa: BLE001 - the worker works without its report
                logger.debug("The report of worker %s is repeated later: %s", self._fixed["id"], error)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def report(self) -> None:
        """Report once. Note which other workers take work, and remove the records of those lost long ago."""
        await self._db.put_record(KIND, self.worker_id, self.current())
        now, others = utc_now(), list[str]()
        for record in await self._db.records(KIND):
            if _is_silent_for(FORGOTTEN_SECONDS, record.value, now):
                await self._db.remove_record(KIND, record.key, version=record.version)
            is_lost = _is_silent_for(LOST_SECONDS, record.value, now)
            if record.key != self.worker_id and record.value["status"] == "running" and not is_lost:
                others.append(record.key)
        self._others = others

    def is_among_first(self, root_id: str, count: int) -> bool:
        """Return whether this worker is one of the `count` that come first for a tree.

        The order is another one for each tree (rendezvous hashing), so that trees are spread over all
        workers. Workers that do not know of each other yet only count as first more often.
        """
        own = _place_of(self.worker_id, root_id)
        return sum(_place_of(each, root_id) < own for each in self._others) < count

    async def remove(self) -> None:
        """Remove the record at the end of the worker."""
        if not self._db.capabilities.is_shared:
            return
        try:
            async with asyncio.timeout(REMOVAL_SECONDS):
                await self._db.remove_record(KIND, self._fixed["id"])
        except Exception as error:  # noqa: BLE001 - it is forgotten later
            logger.debug("The record of worker %s stays: %s", self._fixed["id"], error)


def _place_of(worker_id: str, root_id: str) -> bytes:
    return blake2b(f"{worker_id} {root_id}".encode(), digest_size=8).digest()


async def reported_workers(db: TaskStore) -> list[dict[str, Json]]:
    """Return the reports that a shared store keeps; the `status` of a worker is `lost` after silence."""
    now = utc_now()
    found: list[dict[str, Json]] = []
    for record in await db.records(KIND):
        is_lost = _is_silent_for(LOST_SECONDS, record.value, now)
        found.append({**_NO_CALLS, **record.value, **({"status": "lost"} if is_lost else {})})
    return sorted(found, key=lambda each: (each["started_at"], each["id"]))


# What the reports of version 0.1.0 lack.
_NO_CALLS: Final[dict[str, Json]] = {"calls": 0, "resources": {}, "labels": {}}


def _is_silent_for(seconds: float, report: dict[str, Json], now: datetime) -> bool:
    return now - datetime.fromisoformat(report["seen_at"]) > timedelta(seconds=seconds)
