"""Spans of time before now, as people write them: `90s`, `30m`, `12h`, `7d`, `2w`, `1h30m`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from apflow.core.errors import InvalidInputError
from apflow.core.model.span import SPAN, seconds_of
from apflow.core.model.task import utc_now

# What `read_since` reads, except times without a zone.
SINCE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "anyOf": [{"pattern": f"^{SPAN.pattern}$"}, {"format": "date"}, {"format": "date-time"}],
}
_TIME = re.compile(r"\d{4}-\d\d-\d\d")


def start_of(since: str | None, created_after: datetime | None = None) -> datetime | None:
    """Return the later of two times: the start of a span, or the time that is written, and `created_after`.

    Raises:
        InvalidInputError: `since` is neither a span nor a time.
    """
    if since is None:
        return created_after
    start = read_since(since)
    return start if created_after is None else max(start, created_after)


def check_since(since: str) -> str:
    """Return a string that `read_since` can read.

    Raises:
        ValueError: it cannot be read.
    """
    read_since(since)
    return since


def read_since(since: str) -> datetime:
    """Return the time that a string names, in UTC. A time without a zone is in UTC.

    Raises:
        InvalidInputError: the string is neither a span nor a time.
    """
    text = since.strip()
    if (seconds := seconds_of(text)) is not None:
        try:
            return utc_now() - timedelta(seconds=seconds)
        except OverflowError:
            return datetime(1, 1, 1, tzinfo=UTC)
    try:
        if not _TIME.match(text):
            raise ValueError("no date")  # noqa: TRY301
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(
            f"{since[:80]!r} is not a span of time or a time. Write a span as 90s, 30m, 12h, 7d or 2w, and "
            "a time as 2026-11-27 or 2026-11-27T08:30+01:00."
        ) from None
    try:
        return (time.replace(tzinfo=UTC) if time.tzinfo is None else time).astimezone(UTC)
    except OverflowError:  # within a day of the first or the last time
        return time.replace(tzinfo=UTC)
