"""The times at which tasks of one run are due for their next attempt."""

from __future__ import annotations

from datetime import datetime

from apflow.core.engine.mailbox import Mailbox
from apflow.core.model.task import Policy, Task
from apflow.core.planning.run_events import RetryDue


class RetryTimers:
    """Posts `RetryDue` when the wait of a task is over."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        # Id of a task -> the stored time, and when that is by the loop's clock.
        self._due: dict[str, tuple[datetime, float]] = {}

    def schedule(self, task: Task, seconds: float, reading: int) -> None:
        """Report a task as due after its wait. `reading`: which reading of the tree the task belongs to."""
        loop = self._mailbox.loop
        if task.not_before is not None:
            self._due[task.id] = task.not_before, loop.time() + seconds
        due = RetryDue(task.id, task.generation, reading)
        loop.call_later(max(0.0, seconds), self._mailbox.post, due)

    def seconds_until(self, task: Task, now: datetime) -> float:
        """Return the seconds that a task still waits for its next attempt.

        The stored time is that of a wall clock, which may have been set back since: no wait is longer than
        the longest one of the task's policy, and reading the tree again does not begin it anew.
        """
        if task.not_before is None:
            return 0.0
        known, due = self._due.get(task.id, (None, 0.0))
        if known == task.not_before:
            return due - self._mailbox.loop.time()
        longest = Policy.from_json(task.policy).retry.wait(max(1, task.attempts))
        return min(longest, (task.not_before - now).total_seconds())
