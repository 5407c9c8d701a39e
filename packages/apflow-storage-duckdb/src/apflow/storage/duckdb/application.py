"""Applies the records of the journal to the database, many together, in a separate thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Final, NamedTuple

GATHER_SECONDS: Final = 0.05  # that a record waits for others, unless something waits for it
RETRY_SECONDS: Final = 1.0  # after a failure
MAX_RECORDS: Final = 2000  # that wait: about a second of work
MAX_BYTES: Final = 32 << 20
TOGETHER: Final = 500  # records that are applied together
BYTES_TOGETHER: Final = 4 << 20  # likewise: what the write-ahead log of the database grows by at once

logger = logging.getLogger(__name__)


class Record(NamedTuple):
    """A batch that the journal has.

    Attributes:
        ids: the tasks and roots that it is about.
    """

    number: int
    body: bytes
    ids: frozenset[str]


class Application:
    """The records that wait for their application.

    `apply` is called in the thread of this object with records in order. It calls `note_applied` for what is
    in the database; whatever it raises is kept, and it is called again later.
    """

    def __init__(self, apply: Callable[[Sequence[Record]], object], name: str) -> None:
        self._apply, self._name = apply, name
        self._condition = threading.Condition()  # guards everything below
        self._waiting: deque[Record] = deque()
        self._bytes = 0
        self._failure: BaseException | None = None
        self._failures = 0
        self._is_urgent = False
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self.last = 0  # the number of the last record that was added
        self.applied = 0  # the number of the last one in the database

    def add(self, record: Record) -> None:
        """Apply a record soon."""
        with self._condition:
            self._waiting.append(record)
            self._bytes += len(record.body)
            self.last = record.number
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"apply {self._name}", daemon=True)
                self._thread.start()
            if len(self._waiting) == 1:
                self._condition.notify_all()

    def note_applied(self, number: int) -> None:
        """Record that the database has the records up to a number."""
        with self._condition:
            self.applied = max(self.applied, number)
            while self._waiting and self._waiting[0].number <= number:
                self._bytes -= len(self._waiting.popleft().body)
            self._failure = None
            self._condition.notify_all()

    def restart(self) -> None:
        """Record that the database has all records, and that the numbers begin again."""
        with self._condition:
            self._waiting.clear()
            self._bytes = self.last = self.applied = 0
            self._failure = None
            self._condition.notify_all()

    @property
    def is_full(self) -> bool:
        """Whether no further record should be added before some are applied."""
        return len(self._waiting) >= MAX_RECORDS or self._bytes >= MAX_BYTES

    @property
    def failure(self) -> BaseException | None:
        """Why records could not be applied the last time, if they could not."""
        return self._failure

    def figures(self) -> tuple[int, int]:
        """Return how many records wait, and their size in bytes."""
        with self._condition:
            return len(self._waiting), self._bytes

    def is_next(self, record: Record) -> bool:
        """Return whether a record is the first that waits."""
        with self._condition:
            return bool(self._waiting) and self._waiting[0] is record

    def concerns(self, ids: Collection[str]) -> bool:
        """Return whether a waiting record is about one of these tasks or trees."""
        with self._condition:
            return any(not record.ids.isdisjoint(ids) for record in self._waiting)

    def about(self, ids: Collection[str]) -> list[Record]:
        """Return the waiting records about tasks or trees, and those about what else these are about."""
        with self._condition:
            records = list(self._waiting)
        found, known = list[Record](), set(ids)
        for record in records:
            if not known.isdisjoint(record.ids):
                known |= record.ids
                found.append(record)
        return found

    def wait(self, number: int | None = None) -> None:
        """Wait until the records up to a number are in the database; None: those that have been added.

        Raises:
            BaseException: what the application of the records raised.
        """
        with self._condition:
            number = self.last if number is None else number
            failures = self._failures
            # After a restart, numbers are smaller, and all former records are in the database.
            while self.applied < min(number, self.last):
                if self._failures != failures and self._failure is not None:
                    raise self._failure.with_traceback(None)  # which would grow each time
                self._is_urgent = True
                self._condition.notify_all()
                self._condition.wait()

    def close(self) -> None:
        """Apply what waits, and end the thread. What cannot be applied stays in the journal."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while records := self._taken():
            try:
                self._apply(records)
            except BaseException as error:  # noqa: BLE001 - raised where something waits
                self._fail(error)

    def _taken(self) -> list[Record]:
        """Wait until records must be applied, and return them; an empty list when this is closed."""
        with self._condition:
            until: float | None = None
            while True:
                if self._is_closed and (not self._waiting or self._failure is not None):
                    return []
                if self._waiting:
                    until = until or time.monotonic() + self._pause()
                    rest = until - time.monotonic()
                    if self._is_urgent or self._is_closed or rest <= 0:
                        self._is_urgent = False
                        return self._first()
                    self._condition.wait(rest)
                else:
                    until = None
                    self._is_urgent = False
                    self._condition.wait()

    def _first(self) -> list[Record]:
        """Return the records that are applied together now."""
        found, size = list[Record](), 0
        for record in islice(self._waiting, TOGETHER):
            if found and size + len(record.body) > BYTES_TOGETHER:
                break
            found.append(record)
            size += len(record.body)
        return found

    def _pause(self) -> float:
        return GATHER_SECONDS if self._failure is None else RETRY_SECONDS

    def _fail(self, error: BaseException) -> None:
        with self._condition:
            if self._failure is None:
                logger.error("%s: changes in the journal cannot be applied: %s", self._name, error)
            self._failure = error
            self._failures += 1
            self._condition.notify_all()
