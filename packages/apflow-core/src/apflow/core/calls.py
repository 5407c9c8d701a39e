"""The executor calls of one run: which are being made, and how many more may be."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from apflow.core.attempt import Attempt, Bench
from apflow.core.slots import Slots, executor_slots
from apflow.core.task import Task


class Calls:
    """The calls of one run, within the limits of the process, of the run and of each executor.

    Args:
        slots: the places of the process.
        limit: how many calls this run may make at once; None: as many as the process.
        when_free: called, from any thread, when a place that was wanted may be free.
    """

    def __init__(self, bench: Bench, slots: Slots, limit: int | None, when_free: Callable[[], None]) -> None:
        self.running: dict[str, Attempt] = {}
        self._bench = bench
        self._slots = slots
        self._limit = slots.limit if limit is None else limit
        self._when_free = when_free
        self._taken = 0  # places that this run has: of calls being made, and of those to be made
        self._own_taken: Counter[tuple[str, int]] = (
            Counter()
        )  # (executor, its limit) -> places of that executor
        self._held: deque[Task] = deque()  # ready, their executor at its own limit

    @property
    def has_held(self) -> bool:
        """Whether tasks wait for a place of their executor."""
        return bool(self._held)

    def take_places(self) -> int:
        """Take the places that are free for the calls of one turn, and return how many."""
        places = self._slots.take(self._limit - self._taken)
        self._taken += places
        return places

    def return_places(self, count: int) -> None:
        """Give back places that were not needed after all."""
        if count:
            self._taken -= count
            self._slots.give_back(count)

    def wait_for_place(self) -> None:
        """Let `when_free` be called at the next free place."""
        self._slots.call_when_free(self._when_free)

    def admit(self, task: Task) -> bool:
        """Take a place of the task's executor; where it has none left, hold the task and return False."""
        limit = self._limit_of(task)
        if limit is None:
            return True
        own = executor_slots(str(task.executor), limit)
        if own.take(1):
            self._own_taken[str(task.executor), limit] += 1
            return True
        self._held.append(task)
        own.call_when_free(self._when_free)
        return False

    def take_held(self) -> list[Task]:
        """Return what was held, to be admitted anew."""
        held, self._held = list(self._held), deque[Task]()
        return held

    def dismiss(self, task: Task) -> None:
        """Give back the places of a call that has ended, or that was not made."""
        limit = self._limit_of(task)
        if limit is not None:
            executor_slots(str(task.executor), limit).give_back()
            self._own_taken[str(task.executor), limit] -= 1
        self.return_places(1)

    def close(self) -> None:
        """Give back every place: a run that failed has places of calls that it will never make."""
        self.return_places(self._taken)
        for (executor_id, limit), count in self._own_taken.items():
            executor_slots(executor_id, limit).give_back(count)
        self._own_taken.clear()

    def _limit_of(self, task: Task) -> int | None:
        if task.executor is None:
            return None
        try:
            return self._bench.entry(task.executor).max_concurrency
        except Exception:  # noqa: BLE001 - what cannot be loaded fails when it is called
            return None
