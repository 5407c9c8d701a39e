"""The `Retry-After` header of a response."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime

from apflow.core.bounds import MAX_SECONDS

MAX_DIGITS = 9  # of a number of seconds


def read_retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header: a number, or a date (RFC 9110, section 10.2.3).

    At most `MAX_SECONDS`; None where there is no header or it cannot be read.
    """
    if text is None:
        return None
    if text.strip().isdecimal() and len(text.strip()) <= MAX_DIGITS:
        return float(min(MAX_SECONDS, int(text)))
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    return min(float(MAX_SECONDS), max(0.0, seconds))
