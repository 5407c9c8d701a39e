"""A pool of idle connections, kept for later requests to the same origin."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any


class IdleConnections:
    """At most `limit` of them, by what they are wanted for; those that are kept for too long are closed.

    A connection is an `httpcore.AsyncHTTPConnection`: it knows when it has expired.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._kept: dict[Hashable, deque[Any]] = {}  # what was put back last stands last, on both levels

    async def take(self, wanted: Hashable) -> Any | None:
        """Return the one that was used last; None where there is none."""
        while wanted in self._kept:
            connection = self._pop(wanted, is_newest=True)
            if not connection.has_expired() and connection.is_available():
                return connection
            await connection.aclose()
        return None

    async def keep(self, wanted: Hashable, connection: Any) -> None:
        """Keep one, and close what is one too many or has expired elsewhere."""
        kept = self._kept.pop(wanted, None) or deque()
        kept.append(connection)
        self._kept[wanted] = kept
        self._count += 1
        while self._kept:
            oldest = next(iter(self._kept))
            if self._count <= self._limit and not self._kept[oldest][0].has_expired():
                return
            await self._pop(oldest, is_newest=False).aclose()

    async def close(self) -> None:
        """Close all."""
        while self._kept:
            await self._pop(next(iter(self._kept)), is_newest=True).aclose()

    def _pop(self, wanted: Hashable, *, is_newest: bool) -> Any:
        kept = self._kept[wanted]
        connection = kept.pop() if is_newest else kept.popleft()
        self._count -= 1
        if not kept:
            del self._kept[wanted]
        return connection
