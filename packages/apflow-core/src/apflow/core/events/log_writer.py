"""Stores what tasks log, in batches, apart from the changes of tasks.

All logs of one store and event loop share a writer. It stores a batch a few times a second, and at once when
an attempt ends: the end is stored and published after the lines. While the store cannot write, lines wait in
memory, up to a limit, and no attempt waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Final
from weakref import ref

from apflow.core.capture.task_log import EVENT, TRACEBACK, TaskLog
from apflow.core.concurrency.exit_fence import create_unfenced
from apflow.core.concurrency.loop_local import LoopRegistry
from apflow.core.errors import StoreUnavailableError
from apflow.core.events.bus import EventBus, bus_of
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.log import MAX_CHUNK_LINES, LogChunk, LogEntry, name_of_level
from apflow.core.model.parts import parts
from apflow.core.model.task import Json, to_json
from apflow.core.store.base import TaskStore

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 0.2  # between two batches, unless an attempt ends
RETRY_SECONDS: Final = 1.0  # until a batch is tried again
SETTLE_SECONDS: Final = 2.0  # that the end of a run waits for lines of code that was ended
CHUNK_BYTES: Final = 256 << 10
BATCH_BYTES: Final = 4 << 20  # of one transaction
SHOWN_LINES: Final = 50  # of a batch, in its event
SHOWN_BYTES: Final = 16 << 10
MESSAGE_LENGTH: Final = 500  # characters of an event's message: a notice to other processes must be short

Taken = list[tuple[TaskLog, list[LogEntry]]]


class LogWriter:
    """Stores the entries of logs. See `LogQueue`. Create it in the event loop that uses it."""

    def __init__(self, store: TaskStore) -> None:
        # Reentrant: a finalizer or a signal handler may log while it is held.
        self.lock: AbstractContextManager[object] = threading.RLock()
        self.pending = 0
        self._store = ref(store)
        self._bus: EventBus = bus_of(store)
        self._loop = ref(asyncio.get_running_loop())
        self._thread = threading.get_ident()
        self._context = Context()  # not that of a task: what the writer logs is not captured
        self._queued: dict[TaskLog, None] = {}
        self._in_writing: set[TaskLog] = set()
        self._waiters: dict[TaskLog, asyncio.Future[None]] = {}
        self._is_awake = False  # a batch is scheduled or being written; guarded by the lock
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._writing: asyncio.Task[None] | None = None

    def enqueue(self, log: TaskLog) -> bool:
        """Add a log, with the lock held; return whether `wake` must be called without it."""
        self._queued[log] = None
        if self._is_awake:
            return False
        self._is_awake = True
        return True

    def wake(self) -> None:
        """Store a batch after the interval. Thread-safe."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return  # the lines come too late
        if threading.get_ident() == self._thread:
            self._schedule(INTERVAL_SECONDS)
        else:
            loop.call_soon_threadsafe(self._schedule, INTERVAL_SECONDS, context=self._context)

    def flush(self, log: TaskLog) -> asyncio.Future[None] | None:
        """Store the entries of a log now. Call this in the event loop.

        Returns:
            a future that is done when they are stored, or cannot be stored for the moment; None if there is
            nothing to store.
        """
        if log not in self._queued and log not in self._in_writing:
            return None
        waiter = self._waiters.get(log)
        if waiter is None:
            waiter = self._waiters[log] = asyncio.get_running_loop().create_future()
        if self._writing is None:
            self._schedule(0)
        return waiter

    async def settle(self) -> None:
        """Store what is queued, for a limited time."""
        waiters = [each for each in map(self.flush, [*self._queued, *self._in_writing]) if each is not None]
        if waiters:
            await asyncio.wait(waiters, timeout=SETTLE_SECONDS)

    def _schedule(self, seconds: float) -> None:
        if self._writing is not None:
            return  # it looks again when it has written
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = (
            loop.call_later(seconds, self._begin, context=self._context)
            if seconds
            else loop.call_soon(self._begin, context=self._context)
        )

    def _begin(self) -> None:
        self._timer = None
        if self._writing is None:
            loop, writing = asyncio.get_running_loop(), self._write()
            self._writing = create_unfenced(
                lambda: loop.create_task(writing, name="apflow:logs", context=self._context)
            )

    async def _write(self) -> None:
        """Write batches until nothing is queued, or until nothing is urgent."""
        try:
            while taken := self._take():
                try:
                    await self._write_batch(taken)
                finally:
                    self._in_writing.clear()
                    self._resolve()
                if not self._waiters:
                    break
        finally:
            self._writing = None
            with self.lock:
                is_more = self._is_awake = bool(self._queued)
            if is_more:
                self._schedule(INTERVAL_SECONDS)

    def _take(self) -> Taken:
        with self.lock:
            logs = list(self._queued)
            self._queued.clear()
            self._in_writing.update(logs)
            return [(log, log.take()) for log in logs]

    async def _write_batch(self, taken: Taken) -> None:
        chunks = [chunk for log, entries in taken for chunk in _chunks(log, entries)]
        for batch in _batches(chunks):
            await self._store_batch(batch)
        self._publish(taken)

    async def _store_batch(self, batch: Sequence[LogChunk]) -> None:
        while (store := self._store()) is not None:
            try:
                await store.add_logs(batch)
            except StoreUnavailableError as error:
                logger.info("Lines of tasks wait: %s", error)
                self._resolve(is_all=True)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                count = sum(len(chunk.entries) for chunk in batch)
                logger.exception("%d lines of tasks could not be stored, and are lost.", count)
                return
            else:
                return

    def _resolve(self, *, is_all: bool = False) -> None:
        """Release those who wait for logs that are stored; with `is_all`, for every log."""
        for log in list(self._waiters):
            if is_all or (log not in self._queued and log not in self._in_writing):
                waiter = self._waiters.pop(log)
                if not waiter.done():
                    waiter.set_result(None)

    def _publish(self, taken: Taken) -> None:
        """Publish an event for each log, and to other processes a short one for each tree."""
        newest: dict[str, TaskEvent] = {}
        for log, entries in taken:
            new = [entry for entry in entries if entry.source not in (EVENT, TRACEBACK)]
            if new and self._bus.needs_live(log.root_task_id):
                self._bus.publish(_event(log, new))
            if new:
                newest[log.root_task_id] = _event(log, new[-1:], is_short=True)
        store = self._store()
        if store is not None and store.capabilities.is_shared:
            for event in newest.values():
                store.announce(event)


def _chunks(log: TaskLog, entries: Sequence[LogEntry]) -> Iterator[LogChunk]:
    """Split the entries of a log into chunks of limited size."""
    for part in parts(entries, lambda entry: len(entry.message), CHUNK_BYTES, MAX_CHUNK_LINES):
        yield LogChunk(
            root_task_id=log.root_task_id,
            task_id=log.task_id,
            attempt=log.attempt,
            generation=log.generation,
            entries=part,
        )


def _batches(chunks: Iterable[LogChunk]) -> Iterator[list[LogChunk]]:
    def size(chunk: LogChunk) -> int:
        return sum(len(entry.message) for entry in chunk.entries)

    return parts(chunks, size, BATCH_BYTES, MAX_CHUNK_LINES)


def _event(log: TaskLog, entries: Sequence[LogEntry], *, is_short: bool = False) -> TaskEvent:
    """Return the live event of a batch, with its newest lines, as far as there is room for them."""
    shown = [] if is_short else [*_newest(entries)][::-1]
    last = entries[-1]
    return TaskEvent(
        type=EventType.LOG,
        task_id=log.task_id,
        root_task_id=log.root_task_id,
        timestamp=last.timestamp,
        message=last.message[:MESSAGE_LENGTH],
        data={"attempt": log.attempt, "count": len(entries), "lines": shown},
        sequence=log.position(),
    )


def _newest(entries: Sequence[LogEntry]) -> Iterator[dict[str, Json]]:
    left = SHOWN_BYTES
    for entry in reversed(entries[-SHOWN_LINES:]):
        left -= len(entry.message)
        if left < 0:
            return
        yield {
            "timestamp": to_json(entry.timestamp),
            "level": name_of_level(entry.level),
            "source": entry.source,
            "message": entry.message,
        }


_writers = LoopRegistry[TaskStore, LogWriter](LogWriter)


def log_writer_of(store: TaskStore) -> LogWriter:
    """Return the writer of a store in the running event loop."""
    return _writers.of(store)
