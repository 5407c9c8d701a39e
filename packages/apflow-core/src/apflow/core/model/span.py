"""Spans of time as people write them: `90s`, `30m`, `12h`, `7d`, `2w`, `1h30m`."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}  # seconds
SPAN: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?[smhdw])+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def seconds_of(span: float | str | None) -> float | None:
    """Return the seconds of a span, which may be a number of seconds; None for None and for other text."""
    if not isinstance(span, str):
        return span
    if not SPAN.fullmatch(span):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(span))
