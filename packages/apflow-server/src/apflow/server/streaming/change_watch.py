"""Notices that what a database contains may have changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from apflow.core.events.bus import bus_of
from apflow.core.store.base import NoticeKind, TaskStore

POLL_INTERVAL_SECONDS: Final = 0.25  # between looks whether this process has written; no query
# Other processes do not announce everything, notices may be lost, and some lists depend on the time.
MAX_WAIT_SECONDS: Final = 10.0
NEVER: Final = float("-inf")  # `wrote_at` of a store that has written nothing, or does not know


class ChangeWatch:
    """Whether a database may have changed since the last `mark()`."""

    def __init__(self, db: TaskStore) -> None:
        self._db = db
        self._wrote_at = NEVER
        self._is_noticed = False  # set from any thread

    @contextmanager
    def noticing(self) -> Generator[None]:
        """Take notices of other processes while the context lasts."""
        with bus_of(self._db).on_notice(NoticeKind.EVENTS, self._notice):
            yield

    def mark(self) -> None:
        """Begin again. What is read after this call contains every change from before it."""
        self._is_noticed = False
        self._wrote_at = self._db.wrote_at

    async def wait(self, at_least: float) -> None:
        """Wait until something may have changed since `mark()`, but not longer than `MAX_WAIT_SECONDS`.

        Args:
            at_least: seconds that pass in any case.
        """
        until = time.monotonic() + MAX_WAIT_SECONDS
        await asyncio.sleep(at_least)
        while not self._may_have_changed and time.monotonic() < until:  # noqa: ASYNC110 - no event
            await asyncio.sleep(POLL_INTERVAL_SECONDS)

    @property
    def _may_have_changed(self) -> bool:
        return self._is_noticed or self._wrote_at == NEVER or self._db.wrote_at != self._wrote_at

    def _notice(self, root_id: str) -> None:
        del root_id
        self._is_noticed = True
