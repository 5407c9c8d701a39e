"""How many executor calls one run may make, and which ready tasks wait for a place."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from apflow.core.concurrency.containment import call_contained
from apflow.core.concurrency.fair_semaphore import Slots, executor_slots
from apflow.core.engine.attempt import RunContext
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Task


class CallLimiter:
    """The calls of one run, within the limits of the process, of the run and of each executor.

    Args:
        slots: the places of the process.
        limit: how many calls this run may make at once; None: as many as the process.
        when_free: called, from any thread, when a place that was wanted may be free.
    """

    def __init__(
        self, context: RunContext, slots: Slots, limit: int | None, when_free: Callable[[], None]
    ) -> None:
        self._context = context
        self._slots = slots
        self._limit = slots.limit if limit is None else limit
        self._when_free = when_free
        self._taken = 0  # places that this run has: of calls being made, and of those to be made
        # (executor, its limit) -> places of that executor
        self._own_taken: Counter[tuple[str, int]] = Counter()
        self._held: dict[str, deque[Task]] = {}  # executor -> ready tasks that wait for a place of it

    @property
    def has_held(self) -> bool:
        """Whether tasks wait for a place of their executor."""
        return bool(self._held)

    def take_places(self) -> int:
        """Take the places that are free for the calls of one turn, and return how many."""
        places = self._slots.take(self._limit - self._taken, self._when_free)
        self._taken += places
        return places

    def return_places(self, count: int) -> None:
        """Give back places that were not needed after all."""
        if count:
            self._taken -= count
            self._slots.give_back(count)

    def wait_for_place(self) -> None:
        """Let `when_free` be called when there is a place; the end of an own call tells of it anyway."""
        if self._taken < self._limit:
            self._slots.wait(self._when_free)
        else:
            self._slots.leave(self._when_free)

    def want_no_place(self) -> None:
        """Leave the places to others."""
        self._slots.leave(self._when_free)

    def admit(self, task: Task) -> bool:
        """Take a place of the task's executor; where it has none left, hold the task and return False."""
        limit = self._limit_of(task)
        if limit is None:
            return True
        executor_id = str(task.executor)
        own = executor_slots(executor_id, limit)
        if executor_id not in self._held and own.take(1, self._when_free):
            self._own_taken[executor_id, limit] += 1
            return True
        self._held.setdefault(executor_id, deque()).append(task)
        own.wait(self._when_free)
        return False

    def take_held(self, count: int) -> list[Task]:
        """Return up to `count` tasks that were held and now have a place of their executor."""
        taken: list[Task] = []
        for executor_id, tasks in list(self._held.items()):
            limit = self._limit_of(tasks[0]) or 1
            own = executor_slots(executor_id, limit)
            while tasks and len(taken) < count:
                if tasks[0].status in TERMINAL:
                    tasks.popleft()
                elif own.take(1, self._when_free):
                    self._own_taken[executor_id, limit] += 1
                    taken.append(tasks.popleft())
                else:
                    own.wait(self._when_free)
                    break
            else:
                own.leave(self._when_free)  # it has places, or nothing waits for them
            if not tasks:
                del self._held[executor_id]
        return taken

    def forget_held(self) -> None:
        """Hold nothing any more: the tree was read anew."""
        for executor_id, tasks in self._held.items():
            executor_slots(executor_id, self._limit_of(tasks[0]) or 1).leave(self._when_free)
        self._held.clear()

    def dismiss(self, task: Task) -> None:
        """Give back the places of a call that has ended, or that was not made."""
        limit = self._limit_of(task)
        if limit is not None:
            executor_slots(str(task.executor), limit).give_back()
            self._own_taken[str(task.executor), limit] -= 1
        self.return_places(1)

    def close(self) -> None:
        """Give back every place: a run that failed has places of calls that it will never make."""
        self.forget_held()
        self.want_no_place()
        self.return_places(self._taken)
        for (executor_id, limit), count in self._own_taken.items():
            executor_slots(executor_id, limit).give_back(count)
        self._own_taken.clear()

    def _limit_of(self, task: Task) -> int | None:
        executor_id = task.executor
        if executor_id is None:
            return None
        try:
            return call_contained(lambda: self._context.entry(executor_id).max_concurrency)
        except Exception:  # noqa: BLE001 - what cannot be loaded fails when it is called
            return None
