"""The log of one attempt: collects what its code writes, up to a limit, until it is stored.

The log of the code that runs is in a context variable, which asyncio tasks inherit, and threads that are
started with the context (`asyncio.to_thread`, and the threads in which apflow runs code).
"""

from __future__ import annotations

import codecs
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from apflow.core.capture.line_buffer import Line, LineBuffer
from apflow.core.errors import SettingsError
from apflow.core.model.log import LEVELS, LogEntry
from apflow.core.model.task import utc_now
from apflow.core.process.identity import after_fork_in_child
from apflow.core.settings import Settings

ENTRY_BYTES: Final = 100  # that an entry counts beside its text
KEPT_LAST: Final = 100  # entries at the end of a log that has reached its limit
MARGIN: Final = 8192  # characters of a line beyond its limit that are searched for secrets
MAX_PENDING: Final = 64 << 20  # bytes of all logs of a process that wait for the store
ENGINE: Final = "engine"  # the source of notices about the log itself
TRACEBACK: Final = "traceback"  # the source of the traceback of a failed attempt, which its event has as well
EVENT: Final = "event"  # the source of messages of the executor's event queue, which sends them as well
OFF: Final = "OFF"


@dataclass(frozen=True, slots=True)
class LogLimits:
    """What is captured of one attempt."""

    level: int  # of `logging`; lower records are not captured
    max_bytes: int
    max_line: int  # characters

    @classmethod
    def of(cls, settings: Settings) -> LogLimits | None:
        """Return the limits that the settings name; None if the settings turn the capture off.

        Raises:
            SettingsError: `task_log_level` is not a level.
        """
        name = settings.task_log_level.upper()
        if name == OFF:
            return None
        if name not in LEVELS:
            raise SettingsError(
                f"APFLOW_TASK_LOG_LEVEL is {settings.task_log_level!r}. "
                f"Use one of {', '.join(LEVELS)}, or {OFF} to capture nothing."
            )
        return cls(LEVELS[name], settings.task_log_max_bytes, settings.task_log_line_length)


class LogQueue(Protocol):
    """The logs that have entries to store."""

    lock: AbstractContextManager[object]  # guards the entries of all these logs; reentrant
    pending: int  # bytes of all entries that are not stored yet

    def enqueue(self, log: TaskLog) -> bool:
        """Add a log, with the lock held; return whether `wake` must be called without it."""
        ...

    def wake(self) -> None:
        """Store the entries soon. Thread-safe."""
        ...


class TaskLog:
    """The log of one attempt. Thread-safe.

    Args:
        clean: removes secrets from a string, and characters that cannot be stored.
        position: returns the number of the last event of the tree, which live events carry.
    """

    __slots__ = (
        "_buffers", "_clean", "_dropped", "_last", "_left", "_lost", "_queue", "_waiting", "attempt",
        "generation", "is_closed", "limits", "position", "root_task_id", "task_id",
    )  # fmt: skip

    def __init__(
        self,
        root_task_id: str,
        task_id: str,
        attempt: int,
        generation: int,
        limits: LogLimits,
        queue: LogQueue,
        clean: Callable[[str], str],
        position: Callable[[], int],
    ) -> None:
        self.root_task_id, self.task_id = root_task_id, task_id
        self.attempt, self.generation = attempt, generation
        self.limits = limits
        self.position = position
        self.is_closed = False
        self._queue = queue
        self._clean = clean
        self._waiting: list[LogEntry] = []
        self._left = limits.max_bytes
        self._last: deque[LogEntry] | None = None  # set when the limit is reached: the newest entries
        self._dropped = 0  # entries beyond the limit that are not in `_last`
        self._lost = 0  # entries that found no room since the last `take`
        self._buffers: dict[tuple[str, int], LineBuffer] | None = None

    def add(
        self, message: str, level: int = logging.INFO, source: str = "executor", logger: str | None = None
    ) -> None:
        """Add one entry."""
        self._add([Line(message)], level, source, logger)

    def add_entries(self, entries: Iterable[LogEntry]) -> None:
        """Add entries unchanged, such as those that another process has collected."""
        if self.is_closed:
            return
        with self._queue.lock:
            for entry in entries:
                self._keep(entry)
            is_first = self._queue.enqueue(self)
        if is_first:
            self._queue.wake()

    def write(self, text: str, source: str, writer: int | None = None) -> None:
        """Add text of a stream; each finished line is an entry.

        Args:
            writer: identifies the stream, if that is not the thread.
        """
        key = source, threading.get_ident() if writer is None else writer
        with self._queue.lock:
            if self._buffers is None:
                self._buffers = {}
            buffer = self._buffers.get(key)
            if buffer is None:
                buffer = self._buffers[key] = LineBuffer(self.limits.max_line + MARGIN)
            lines = buffer.add(text)
        if lines:
            self._add(lines, logging.INFO, source)

    def close(self) -> None:
        """Add the unfinished lines and, after the limit was reached, the last entries. Ignore later ones."""
        buffers, self._buffers = self._buffers, None
        for (source, _), buffer in (buffers or {}).items():
            if rest := buffer.rest():
                self._add(rest, logging.INFO, source)
        self.is_closed = True
        if self._last is not None:
            with self._queue.lock:
                if self._dropped:
                    self._wait(_notice(f"{self._dropped} lines were dropped here.", utc_now()))
                for entry in self._last:
                    self._wait(entry)
                self._last = None
                is_first = self._queue.enqueue(self)
            if is_first:
                self._queue.wake()

    def take(self) -> list[LogEntry]:
        """Remove and return the entries to store. The caller holds the lock of the queue."""
        entries, self._waiting = self._waiting, []
        self._queue.pending -= sum(map(_size, entries))
        if self._lost:
            text = f"{self._lost} lines were dropped: the store could not take them in time."
            entries.append(_notice(text, utc_now()))
            self._lost = 0
        return entries

    def _add(self, lines: list[Line], level: int, source: str, logger: str | None = None) -> None:
        if self.is_closed:
            return
        if self._last is not None and len(lines) > KEPT_LAST:
            with self._queue.lock:
                self._dropped += len(lines) - KEPT_LAST
            lines = lines[-KEPT_LAST:]
        now = utc_now()
        self.add_entries([LogEntry(now, level, source, self._shown(line), logger) for line in lines])

    def _shown(self, line: Line) -> str:
        text, most = self._clean(line.text), self.limits.max_line
        cut = max(0, len(text) - most) + line.omitted
        return f"{text[:most]}... [{cut} more characters]" if cut else text

    def _keep(self, entry: LogEntry) -> None:
        if self._last is None:
            self._left -= _size(entry)
            if self._left >= 0:
                self._wait(entry)
                return
            self._last = deque[LogEntry]()
            limit = self.limits.max_bytes
            text = (
                f"The limit of {limit} bytes (task_log_max_bytes) is reached. Of the lines that follow, only "
                f"the last {KEPT_LAST} are kept, and added when the attempt ends."
            )
            self._wait(_notice(text, entry.timestamp))
        self._last.append(entry)
        if len(self._last) > KEPT_LAST:
            self._last.popleft()
            self._dropped += 1

    def _wait(self, entry: LogEntry) -> None:
        size = _size(entry)
        if self._queue.pending + size > MAX_PENDING:
            self._lost += 1
            return
        self._queue.pending += size
        self._waiting.append(entry)


class OutputLog:
    """Adds the output of a program to a log, as it arrives.

    Args:
        source: "stdout" or "stderr".
    """

    def __init__(self, log: TaskLog, source: str) -> None:
        self._log, self._source = log, source
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, data: bytes) -> None:
        """Add bytes of UTF-8 text."""
        if not self._log.is_closed:
            self._log.write(self._decoder.decode(data), self._source, id(self))


def output_log(source: str) -> Callable[[bytes], object] | None:
    """Return what takes the output of a program into the log of the code that runs; None without a log."""
    log = current_log.get()
    return None if log is None else OutputLog(log, source).add


def _size(entry: LogEntry) -> int:
    return len(entry.message) + ENTRY_BYTES


def _notice(text: str, time: datetime) -> LogEntry:
    return LogEntry(time, logging.WARNING, ENGINE, text)


current_log: ContextVar[TaskLog | None] = ContextVar("apflow_task_log", default=None)
# A forked process cannot store lines: what its code writes goes to the original streams.
after_fork_in_child(lambda: current_log.set(None))
