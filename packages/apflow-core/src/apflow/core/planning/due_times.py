"""When a schedule is due. Pure.

Cron expressions follow the cron of Debian, also on the days on which clocks change (see cron(8) there): a
fixed time that clocks skip is due right after the gap, and one that clocks show twice is due once, the first
time; an expression whose minute or hour begins with * continues by elapsed time. `cronsim` implements that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apflow.core.model.schedule import Schedule

MIN_EVERY: Final = 1.0  # seconds
MAX_EVERY: Final = 3650 * 24 * 3600.0
MAX_JITTER: Final = 24 * 3600.0
MAX_CRON_LENGTH: Final = 200  # characters

_FIELDS: Final = 5
_NAMES: Final = {  # crontab(5)
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MOMENT: Final = timedelta(microseconds=1)
# How far back to look for the last due time: the next span only if there is none in the one before.
_LOOKS: Final = tuple(timedelta(days=days) for days in (1 / 24, 1, 32, 366, 36_600))


def fault_of_cron(cron: str) -> str | None:
    """Return what is wrong with a cron expression, or None."""
    from cronsim import CronSim, CronSimError

    if len(cron) > MAX_CRON_LENGTH:
        return f"it has {len(cron)} characters; {MAX_CRON_LENGTH} are allowed"
    expression = _expression(cron)
    if expression.startswith("@"):
        return f"the names that stand for expressions are {', '.join(_NAMES)}"
    if len(expression.split()) != _FIELDS:
        return (
            f"it has {len(expression.split())} fields, not {_FIELDS}: "
            "minute, hour, day of month, month and day of week"
        )
    try:
        first = next(CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        return f"{str(error)[:1].lower()}{str(error)[1:]}"
    return "no day matches it" if first is None else None


def fault_of_zone(name: str) -> str | None:
    """Return what is wrong with the name of a time zone, or None."""
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "the time zone is not known; give its IANA name, such as Europe/Berlin"
    return None


def due_times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the due times after a moment, in order."""
    if schedule.start is not None:
        after = max(after, schedule.start - _MOMENT)
    until = schedule.end
    yield from takewhile(lambda due: until is None or due <= until, _after(schedule, after))


def next_due(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first due time after a moment; None if there is none."""
    return next(due_times(schedule, after), None)


def start_of(schedule: Schedule, due: datetime) -> datetime:
    """Return when a due time is started: it, and a delay within `jitter` that is always the same."""
    most = schedule.jitter_seconds
    if not most:
        return due
    digest = hashlib.sha256(f"{schedule.id} {due.isoformat()}".encode()).digest()
    return due + timedelta(seconds=round(most * int.from_bytes(digest[:6]) / 2**48, 3))


def past_due_times(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    """Yield the due times after the cursor that must be started by now, in order."""
    return takewhile(lambda due: start_of(schedule, due) <= now, due_times(schedule, schedule.cursor))


def last_due(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the last due time after the cursor that must be started by now; None if there is none.

    It takes about the same time however long ago the cursor is.
    """
    # Until then, every due time has started, however long its jitter is.
    until = now - timedelta(seconds=schedule.jitter_seconds)
    for span in _LOOKS:
        begin = max(schedule.cursor, until - span)
        last = None
        for due in takewhile(lambda due: start_of(schedule, due) <= now, due_times(schedule, begin)):
            last = due
        if last is not None or begin == schedule.cursor:
            return last
    return None


def _after(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    if schedule.at is not None:
        return iter([schedule.at] if schedule.at > after else [])
    seconds = schedule.every_seconds
    if seconds is not None:
        return _by_interval(schedule.start or schedule.created_at, timedelta(seconds=seconds), after)
    return _by_cron(_expression(schedule.cron or ""), _zone(schedule.timezone), after)


def _by_interval(first: datetime, every: timedelta, after: datetime) -> Iterator[datetime]:
    due = first + every * max(0, (after - first) // every + 1)
    while True:
        yield due
        try:
            due += every
        except OverflowError:  # the year 10000
            return


def _by_cron(expression: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    from cronsim import CronSim  # few processes have schedules

    previous = after
    for local in CronSim(expression, after.astimezone(zone)):
        due = local.astimezone(UTC)
        # Where clocks go back, CronSim repeats an hour that the cursor has passed; where they go forward, two
        # fixed times may become the same moment.
        if due > previous:
            previous = due
            yield due


def _expression(cron: str) -> str:
    text = " ".join(cron.split())
    return _NAMES.get(text.lower(), text)


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
