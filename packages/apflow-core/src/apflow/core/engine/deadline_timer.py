"""The timer for the deadline of one run."""

from __future__ import annotations

from asyncio import TimerHandle
from datetime import datetime

from apflow.core.engine.mailbox import Mailbox
from apflow.core.model.task import Task
from apflow.core.planning.deadline import Deadline, deadline_of, message_of
from apflow.core.planning.run_events import DeadlinePassed


class DeadlineTimer:
    """Posts `DeadlinePassed` when the deadline passes, and again when the time for clean-up is over."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        # The stored deadline, and the same time by the event loop's clock.
        self._known: tuple[Deadline, float] | None = None
        self._timers: list[TimerHandle] = []

    def schedule(self, root: Task, now: datetime) -> None:
        """Schedule both events, or post them if they are due. Called each time the tree is read."""
        self.stop()
        deadline = deadline_of(root)
        if deadline is None:
            return
        loop = self._mailbox.loop
        if self._known is None or self._known[0] != deadline:
            # The stored time comes from a wall clock, which may have been set back.
            seconds = (deadline.at - now).total_seconds()
            seconds = seconds if deadline.longest is None else min(seconds, deadline.longest)
            self._known = deadline, loop.time() + seconds
        due = self._known[1]
        for at, is_final in ((due, False), (due + deadline.cleanup_seconds, True)):
            event = DeadlinePassed(message_of(deadline, is_final=is_final), is_final)
            if at <= loop.time():
                self._mailbox.post(event)
            else:
                self._timers.append(loop.call_at(at, self._mailbox.post, event))

    def stop(self) -> None:
        """Cancel what is scheduled."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
