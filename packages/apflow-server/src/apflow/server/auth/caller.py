"""A caller: who a bearer token says it is, or the owner of the database where no tokens are asked for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from apflow.core.permissions.secret_policy import Author

MAX_SLEEP_SECONDS = 60.0  # seconds until the clock is asked again: it may be set


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of an operation. Without a `user_id` it is the owner of the database."""

    user_id: str | None
    is_admin: bool
    roles: tuple[str, ...] = ()
    until: float | None = None  # in seconds since 1970: what was presented is good no longer

    @property
    def author(self) -> Author | None:
        """Who the caller is as the author of trees; None for the owner, who acts for this machine."""
        return None if self.user_id is None else Author(self.user_id, self.roles)


OWNER = Caller(None, is_admin=True)


async def expired(caller: Caller) -> None:
    """Wait until what a caller presented has expired; without end, where it does not expire.

    It expires by the wall clock, and at the latest after the time that was left at first: a clock that is
    set back does not prolong it.
    """
    left = float("inf") if caller.until is None else caller.until - time.time()
    latest = time.monotonic() + left
    while left > 0:
        await asyncio.sleep(min(left, MAX_SLEEP_SECONDS))
        if caller.until is not None:
            left = min(caller.until - time.time(), latest - time.monotonic())
