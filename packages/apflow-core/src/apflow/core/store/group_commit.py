"""Many waiting changes, one commit.

What waits while a commit runs rides in the next one, so throughput does not hang on commit latency.
Nothing is delayed to wait for company: a lonely change is committed at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.errors import StoreError, StoreUnavailableError
from apflow.core.process.identity import ForkGuard
from apflow.core.store.base import Change, TransitionResult

logger = logging.getLogger(__name__)

TROUBLE_LASTS = 3.0  # seconds; a run repeats what failed more often
T = TypeVar("T")
ChangeResult = TransitionResult | BaseException


class _Waiting(NamedTuple):
    """A submitted change, and where its outcome is to go."""

    change: Change
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[TransitionResult]


class _Job(NamedTuple):
    """A function to call between two commits, and the receiver of its result."""

    call: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class GroupCommit:
    """One writer thread that commits what waits, together and in order.

    `commit` is called in that thread with the waiting changes, and returns for each the results of
    its moves, or the error for its writer. An exception that it raises goes to every writer of the batch.
    A submitted change is written even where its writer is cancelled meanwhile.
    """

    def __init__(self, commit: Callable[[list[Change]], Sequence[ChangeResult]], name: str) -> None:
        self._commit = commit
        self._name = name
        self.guard = ForkGuard(name)
        self._queue: SimpleQueue[_Waiting | _Job | None] = SimpleQueue()  # None: closed, nothing follows
        self._jobs: deque[_Job] = deque()  # taken from the queue; the thread's own
        self._is_open = True  # whether the thread has not reached the None; its own
        self._lock = threading.Lock()  # guards the two below, and keeps what is put before the None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._commits = self._changes = 0
        self._trouble: StoreUnavailableError | None = None  # why a write failed last, if one did
        self._failed_at = float("-inf")  # when that was, by the monotonic clock
        self.wrote_at = float("-inf")  # when a write last succeeded

    def figures(self) -> dict[str, int]:
        """Return how many commits there were, and how many changes rode in them."""
        return {"commits": self._commits, "changes": self._changes}

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in the writer thread."""
        return self._thread is threading.current_thread()

    @property
    def trouble(self) -> StoreUnavailableError | None:
        """Why writes fail, while they do: until one has succeeded, and none has failed for a few seconds.

        On a full disk a small write may succeed while larger ones fail.
        """
        is_over = self.wrote_at > self._failed_at and time.monotonic() - self._failed_at > TROUBLE_LASTS
        return None if is_over else self._trouble

    async def submit(self, change: Change) -> TransitionResult:
        """Commit a change with whatever else waits, and return the results of its transitions.

        Raises:
            StoreError: this was closed before.
            StoreForkedError: another process used this first, and this one was forked from it.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(change, loop, loop.create_future())
        self._put(waiting)
        return await waiting.future

    async def run(self, call: Callable[[], T]) -> T:
        """Call a function in the writer thread, between two commits, and return what it returns.

        Of many that wait, one is called after each commit: they do not hold up changes. As a submitted
        change is written, it is called even where its caller is cancelled meanwhile.

        Raises:
            StoreError: this was closed before.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Job(call, loop, future))
        return await future

    def close(self) -> None:
        """Commit what was submitted, then end the thread. Blocks until it has ended; may be repeated.

        In a process forked from the one that used this, nothing happens: the thread is not there.
        """
        if self.guard.is_forked:
            return
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _put(self, waiting: _Waiting | _Job) -> None:
        self.guard.check()
        with self._lock:
            if self._is_closed:
                raise StoreError(f"{self._name} is closed.")
            self._queue.put(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._is_open or self._jobs:
            self._commit_next()

    def _commit_next(self) -> None:
        """Commit what waits, then do one job. Keeps no change alive while it waits."""
        batch = self._take()
        if batch:
            self._commits += 1
            self._changes += len(batch)
            changes = [waiting.change for waiting in batch]
            outcomes = self._outcomes(changes)
            self._note(any(map(_was_written, changes, outcomes)), outcomes)
            _hand_back(batch, outcomes)
        if self._jobs:
            self._do(self._jobs.popleft())

    def _take(self) -> list[_Waiting]:
        """Wait for something to do, set jobs aside, and return all changes that wait."""
        batch: list[_Waiting] = []
        try:
            while True:
                waiting = self._queue.get(block=not batch and not self._jobs)
                if isinstance(waiting, _Waiting):
                    batch.append(waiting)
                elif waiting is not None:
                    self._jobs.append(waiting)
                else:
                    self._is_open = False
                    return batch
        except Empty:
            return batch

    def _outcomes(self, changes: list[Change]) -> Sequence[ChangeResult]:
        try:
            return self._commit(changes)
        except Exception as error:  # noqa: BLE001  passed to the waiting writers
            return [error] * len(changes)

    def _do(self, job: _Job) -> None:
        try:
            outcome = job.call()
        except Exception as error:  # noqa: BLE001  passed to the waiting caller
            outcome = error
        self._note(not isinstance(outcome, BaseException | None), [outcome])
        _hand_back([job], [outcome])

    def _note(self, was_written: bool, outcomes: Sequence[Any]) -> None:
        """Remember whether the store can write: a write shows that it can."""
        if was_written:
            self.wrote_at = time.monotonic()
        for outcome in outcomes:
            if isinstance(outcome, StoreUnavailableError):
                self._trouble, self._failed_at = outcome, time.monotonic()


def _was_written(change: Change, outcome: ChangeResult) -> bool:
    """Return whether a change has put anything into the store."""
    if isinstance(outcome, BaseException):
        return False
    return bool(change.add or change.remove) or any(moved is not None for moved in outcome)


def _hand_back(batch: Sequence[_Waiting | _Job], outcomes: Sequence[Any]) -> None:
    """Wake the writers: one call per event loop, however many of its changes are in the batch."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for waiting, outcome in zip(batch, outcomes, strict=True):
        by_loop.setdefault(waiting.loop, []).append((waiting.future, outcome))
    for loop, settled in by_loop.items():
        if not call_in_loop(loop, _settle, settled):  # the write stays, and no caller waits
            logger.debug("A commit ended after the event loop of its writers")


def _settle(settled: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in settled:
        if future.done():  # its writer was cancelled
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
