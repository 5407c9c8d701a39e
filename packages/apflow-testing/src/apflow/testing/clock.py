"""A fake clock, which advances only on request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Call it for the present moment, in UTC; `advance` it by seconds."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def __call__(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Let time pass, and return the new moment."""
        self._now += timedelta(seconds=seconds)
        return self._now
