"""A clock that several processes share: faster than real time, and set by a file."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path


@dataclass(frozen=True)
class FastClock:
    """Call it for the present moment. Its processes run on one machine, which has one monotonic clock."""

    begin: str  # the moment at which it began, in ISO 8601 format
    began: float  # by the monotonic clock
    speed: float
    shift: str  # path of a file with the seconds by which the clock is set forward; negative: back

    def __call__(self) -> datetime:
        passed = (time.monotonic() - self.began) * self.speed
        return datetime.fromisoformat(self.begin) + timedelta(seconds=passed + self._shift())

    def set_by(self, seconds: float) -> None:
        """Set the clock forward or back."""
        moved = self._shift() + seconds
        temporary = Path(f"{self.shift}.new")
        temporary.write_text(str(moved))
        temporary.rename(self.shift)

    def _shift(self) -> float:
        path = Path(self.shift)
        return float(path.read_text()) if path.exists() else 0.0

    def to_text(self) -> str:
        """Return the clock as text, for `clock_of`."""
        return json.dumps(asdict(self))


def clock_of(text: str) -> FastClock:
    """Return the clock that `to_text` described."""
    return FastClock(**json.loads(text))
