"""Times as people read them: ages, durations, and local times with their zone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo

from apflow.core.model.task import Json

_UNITS = (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1))  # with their seconds
WEEKS_FROM = 4 * 604800  # seconds; less is shown in days
TENTHS_BELOW = 10  # seconds


def age(time: str | None, now: datetime) -> str:
    """Return the time since a moment in its largest unit, such as `4m` or `3d`; empty without a moment."""
    if time is None:
        return ""
    seconds = max(0.0, (now - datetime.fromisoformat(time)).total_seconds())
    units = _UNITS if seconds >= WEEKS_FROM else _UNITS[1:]
    unit, size = next(((unit, size) for unit, size in units if seconds >= size), units[-1])
    return f"{int(seconds // size)}{unit}"


def span(seconds: float) -> str:
    """Return a number of seconds as a duration, such as `0.4s`, `12s`, `3m05s`, `2h07m` or `3d04h`."""
    if seconds < TENTHS_BELOW:
        return f"{max(0.0, seconds):.1f}s"
    whole = int(seconds)
    units = _UNITS[1:]
    at = next(at for at, (_, size) in enumerate(units) if whole >= size)
    unit, size = units[at]
    if at == len(units) - 1:
        return f"{whole}s"
    below, part = units[at + 1]
    return f"{whole // size}{unit}{whole % size // part:02d}{below}"


def duration(task: Mapping[str, Json], now: datetime) -> str:
    """Return how long a task ran, or has run so far; empty if it has not started."""
    started, ended = task.get("started_at"), task.get("completed_at")
    if started is None or (ended is None and task["status"] != "in_progress"):
        return ""
    end = now if ended is None else datetime.fromisoformat(ended)
    return span((end - datetime.fromisoformat(started)).total_seconds())


def local(time: str | None, zone: tzinfo | None = None) -> str:
    """Return a time in ISO 8601 format as a local time with its zone, to the second.

    Args:
        zone: the zone; by default that of the system (TZ).
    """
    if time is None:
        return ""
    shown = datetime.fromisoformat(time).astimezone(zone)
    return f"{shown:%Y-%m-%d %H:%M:%S} {shown.tzname() or f'{shown:%z}'}"


def clock(time: str, zone: tzinfo | None = None) -> str:
    """Return the local time of day of a time in ISO 8601 format, to the millisecond, with its offset."""
    shown = datetime.fromisoformat(time).astimezone(zone)
    return f"{shown:%H:%M:%S}.{shown.microsecond // 1000:03d}{shown:%z}"
