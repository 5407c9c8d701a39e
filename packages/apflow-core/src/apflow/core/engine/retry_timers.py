"""Timers for the next attempts of the tasks of one run."""

from __future__ import annotations

from datetime import datetime

from apflow.core.engine.mailbox import Mailbox
from apflow.core.model.task import Policy, Task
from apflow.core.planning.run_events import RetryDue


class RetryTimers:
    """Posts `RetryDue` when the wait of a task is over."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        # Task id -> the stored time, and the same time by the event loop's clock.
        self._due: dict[str, tuple[datetime, float]] = {}

    def schedule(self, task: Task, seconds: float, reading: int) -> None:
        """Report a task as due after its wait. `reading` is the number of the reading of the tree."""
        loop = self._mailbox.loop
        if task.not_before is not None:
            self._due[task.id] = task.not_before, loop.time() + seconds
        due = RetryDue(task.id, task.generation, reading)
        loop.call_later(max(0.0, seconds), self._mailbox.post, due)

    def seconds_until(self, task: Task, now: datetime) -> float:
        """Return the remaining seconds until the next attempt of a task.

        The stored time comes from a wall clock, which may have been set back. The wait is therefore limited
        to the longest one of the task's policy, and reading the tree again does not restart it.
        """
        if task.not_before is None:
            return 0.0
        known, due = self._due.get(task.id, (None, 0.0))
        if known == task.not_before:
            return due - self._mailbox.loop.time()
        longest = Policy.from_json(task.policy).retry.wait(max(1, task.attempts))
        return min(longest, (task.not_before - now).total_seconds())
