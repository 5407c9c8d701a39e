"""Many waiting changes, one commit.

What waits while a commit runs rides in the next one, so throughput does not hang on commit latency.
Nothing is delayed to wait for company: a lonely change is committed at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from apflow.core.errors import StoreError
from apflow.core.store import Change, Moved

logger = logging.getLogger(__name__)

Outcome = Moved | BaseException


class _Waiting(NamedTuple):
    """A submitted change, and where its outcome is to go."""

    change: Change
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Moved]


class GroupCommit:
    """One writer thread that commits what waits, together and in order.

    `commit` is called in that thread with the waiting changes, and returns for each what became of its
    moves, or the error that its writer is to be told. What it raises is told to every writer of the batch.
    A submitted change is written even where its writer is cancelled meanwhile.
    """

    def __init__(self, commit: Callable[[list[Change]], Sequence[Outcome]], name: str) -> None:
        self._commit = commit
        self._name = name
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()  # None: closed, nothing follows
        self._lock = threading.Lock()  # guards the two below, and keeps changes before the None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    async def submit(self, change: Change) -> Moved:
        """Commit a change with whatever else waits, and return what became of its moves.

        Raises:
            StoreError: this was closed before.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(change, loop, loop.create_future())
        with self._lock:
            if self._is_closed:
                raise StoreError(f"{self._name} is closed.")
            self._queue.put(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        return await waiting.future

    def close(self) -> None:
        """Commit what was submitted, then end the thread. Blocks until it has ended; may be repeated."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while self._commit_next():
            pass

    def _commit_next(self) -> bool:
        """Commit what waits; False where nothing more will come. Keeps no change alive while it waits."""
        batch, is_open = self._take()
        if batch:
            _hand_back(batch, self._outcomes([waiting.change for waiting in batch]))
        return is_open

    def _take(self) -> tuple[list[_Waiting], bool]:
        """Wait for a change and return it with all that follow it; False where nothing more will come."""
        batch: list[_Waiting] = []
        waiting = self._queue.get()
        while waiting is not None:
            batch.append(waiting)
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _outcomes(self, changes: list[Change]) -> Sequence[Outcome]:
        try:
            return self._commit(changes)
        except Exception as error:  # noqa: BLE001  told to those who wait: nobody is above this thread
            return [error] * len(changes)


def _hand_back(batch: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
    """Wake the writers: one call per event loop, however many of its changes are in the batch."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Moved], Outcome]]] = {}
    for waiting, outcome in zip(batch, outcomes, strict=True):
        by_loop.setdefault(waiting.loop, []).append((waiting.future, outcome))
    for loop, told in by_loop.items():
        try:
            loop.call_soon_threadsafe(_tell, told)
        except RuntimeError:  # the loop was closed: what was written stays, and nobody waits
            logger.debug("A commit ended after the event loop of its writers")


def _tell(told: Sequence[tuple[asyncio.Future[Moved], Outcome]]) -> None:
    for future, outcome in told:
        if future.done():  # its writer was cancelled
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
