"""Makes this process capture what the code of tasks writes."""

from __future__ import annotations

from apflow.core.capture import records, streams


def install() -> None:
    """Wrap the logging methods and the standard streams. May be repeated: a program may replace a stream."""
    records.install()
    streams.install()
