"""Repeats operations while a store is unavailable: its disk is full, or its server cannot be reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, TypeVar

from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.errors import StoreOutcomeUnknownError, StoreUnavailableError

logger = logging.getLogger(__name__)

T = TypeVar("T")
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 2.0  # seconds between attempts
UNKNOWN_PAUSE_SECONDS: Final = 1.0  # before work whose outcome is unknown is repeated
# Seconds of a stall after which it is reported; the last value is repeated.
REPORTED_AFTER: Final = (0.0, 2.0, 30.0)
CALLER_TIMEOUT_SECONDS: Final = 30.0  # for a run whose caller waits for it


@dataclass(frozen=True, slots=True)
class Stall:
    """A run waits for its store."""

    reason: str
    seconds: float  # seconds that it has waited so far


class Patience:
    """Repeats operations of one run while its store is unavailable.

    Args:
        what: names the run in the log.
        seconds: how long one operation is repeated; None: no limit.
        report: called with a stall when it begins, and at intervals while it lasts.
        check: called before each repetition. An exception that it raises ends the wait.
    """

    def __init__(
        self,
        what: str,
        seconds: float | None,
        *,
        report: Callable[[Stall], object] = lambda _: None,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self._what = what
        self._seconds = seconds
        self._report = report
        self._check = check
        self._until: float | None = None  # time limit of all operations
        self._hurry = asyncio.Event()

    def limit(self, seconds: float) -> None:
        """Limit all waits to this many seconds from now."""
        until = monotonic() + seconds
        self._until = until if self._until is None else min(self._until, until)
        self.hurry()

    def hurry(self) -> None:
        """Check and repeat immediately. Call this only in the event loop of the run."""
        self._hurry.set()

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """Call `work` until the store is available, and return its result.

        The work may be done twice, for example if the first response was lost.

        Raises:
            StoreUnavailableError: the store was unavailable for too long.
        """
        try:
            return await work()
        except StoreUnavailableError as error:
            return await self._again(work, error)

    async def surely(self, work: Callable[[], Awaitable[T]]) -> T:
        """Call `work`, which may be repeated, until the store is available and the outcome is known.

        Raises:
            StoreUnavailableError: the store was unavailable for too long.
        """
        while True:
            try:
                return await self(work)
            except StoreOutcomeUnknownError:
                await asyncio.sleep(UNKNOWN_PAUSE_SECONDS)

    async def _again(self, work: Callable[[], Awaitable[T]], error: StoreUnavailableError) -> T:
        begun, pause, reports = monotonic(), MIN_PAUSE_SECONDS, 0
        while True:
            passed = monotonic() - begun
            if self._is_over(passed):
                raise error
            if passed >= _report_at(reports):
                reports += 1
                logger.warning("%s waits for its store (%.0f s so far): %s", self._what, passed, error)
                self._report(Stall(error.reason, passed))
            await self._rest(pause)
            pause = min(MAX_PAUSE_SECONDS, 2 * pause)
            self._check()
            try:
                done = await work()
            except StoreUnavailableError as again:
                error = again
            else:
                logger.info("%s continues after %.1f s.", self._what, monotonic() - begun)
                return done

    def _is_over(self, passed: float) -> bool:
        is_late = self._seconds is not None and passed > self._seconds
        return is_late or (self._until is not None and monotonic() > self._until)

    async def _rest(self, seconds: float) -> None:
        self._hurry.clear()
        await wait_up_to(seconds, self._hurry)


def _report_at(number: int) -> float:
    """Return the seconds of a stall after which the report with this number is made."""
    if number < len(REPORTED_AFTER):
        return REPORTED_AFTER[number]
    return REPORTED_AFTER[-1] * (number - len(REPORTED_AFTER) + 2)
