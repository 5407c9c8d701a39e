"""How long somebody who answers "later" asks to be left alone."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime

MOST_DIGITS = 9  # of seconds: more are no time that anybody waits


def read_retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` asks for: a number, or a date (RFC 9110, section 10.2.3).

    None where it asks for nothing that can be understood.
    """
    if text is None:
        return None
    if text.strip().isdecimal() and len(text.strip()) <= MOST_DIGITS:
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds())
