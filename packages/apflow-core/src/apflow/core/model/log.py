"""The lines that tasks log: what their code writes while it runs, by attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

MAX_CHUNK_LINES: Final = 1000
NUMBERS_OF_CHUNK: Final = 1024  # line numbers that belong to one chunk; a power of 2 above MAX_CHUNK_LINES
LEVELS: Final = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_NAMES: Final = {level: name for name, level in LEVELS.items()}


class LogEntry(NamedTuple):
    """One line, or one record of `logging`, which may have several lines."""

    timestamp: datetime
    level: int  # as in `logging`: 20 is INFO
    # "logging", "stdout", "stderr", "executor" (its `log` method), "event", "traceback" or "engine".
    source: str
    message: str
    logger: str | None = None  # the name of the logger, if the source is "logging"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """Consecutive entries of one attempt; at most `MAX_CHUNK_LINES`."""

    root_task_id: str
    task_id: str
    attempt: int  # its number, which continues across re-executions
    generation: int  # re-executions of the task before this one
    entries: Sequence[LogEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A stored entry."""

    number: int  # ascending within a tree, with gaps
    root_task_id: str
    task_id: str
    attempt: int
    generation: int
    entry: LogEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which stored lines of one tree to read, in order of their numbers. All conditions must hold."""

    root_task_id: str
    task_ids: Sequence[str] | None = None  # None: every task of the tree
    attempt: int | None = None
    after: int = 0  # only lines with a number above this one
    min_level: int = 0
    limit: int | None = None


def lines_of(chunk: LogChunk, number: int, query: LogQuery) -> list[LogLine]:
    """Return the lines of a chunk that match a query.

    Args:
        number: the number of the chunk, from 1.
    """
    first = number * NUMBERS_OF_CHUNK
    return [
        LogLine(
            number=first + at,
            root_task_id=chunk.root_task_id,
            task_id=chunk.task_id,
            attempt=chunk.attempt,
            generation=chunk.generation,
            entry=entry,
        )
        for at, entry in enumerate(chunk.entries)
        if first + at > query.after and entry.level >= query.min_level
    ]


@lru_cache(maxsize=256)
def name_of_level(level: int) -> str:
    """Return the name of the highest standard level that is not above a level of `logging`."""
    return next((name for value, name in reversed(_NAMES.items()) if level >= value), "DEBUG")
