"""The code of users in one run, calls of executors and post-hooks: starts it, and posts its ends."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any

from apflow.core.concurrency import eager_tasks
from apflow.core.concurrency.containment import CodeTasks
from apflow.core.engine.attempt import Attempt
from apflow.core.engine.call_admission import CallLimiter
from apflow.core.engine.late_results import Hold
from apflow.core.engine.mailbox import Mailbox
from apflow.core.engine.run_context import RunContext
from apflow.core.events.log_writer import LogWriter
from apflow.core.planning.outcome import Outcome
from apflow.core.planning.run_events import AttemptEnded, PostHooksEnded, RunFailed
from apflow.core.planning.run_state import RunState


class RunCode:
    """The attempts and post-hooks of one run.

    Attributes:
        tasks: runs the code.
        hold: the last period in which no thread of this process ran.
    """

    def __init__(
        self,
        state: RunState[Attempt],
        context: RunContext,
        calls: CallLimiter,
        mailbox: Mailbox,
        logs: LogWriter,
    ) -> None:
        self.tasks = CodeTasks(lambda error: mailbox.post(RunFailed(error)))
        self.hold = Hold()
        self._state = state
        self._context = context
        self._calls = calls
        self._mailbox = mailbox
        self._logs = logs
        # What is started after the events that lead to it are published.
        self._to_start: deque[eager_tasks.Named] = deque()

    def add_call(self, task_id: str) -> None:
        """Prepare the call of a task's executor."""
        state = self._state
        attempt = state.running[task_id] = Attempt(self._context, state.by_id[task_id], self.attempt_ended)
        self._to_start.append((f"apflow:{task_id}", attempt.run))

    def add_post_hooks(self, task_id: str, outcome: Outcome) -> None:
        """Prepare the post-hooks of a task that has ended."""
        attempt = self._state.hooking[task_id]
        self._to_start.append((f"apflow:post-hooks:{task_id}", partial(self._post_hooks, attempt, outcome)))

    def start(self) -> None:
        """Start what was prepared."""
        if self._to_start:
            eager_tasks.start(self.tasks, self._to_start)
            self._to_start = deque[eager_tasks.Named]()

    def attempt_ended(self, attempt: Attempt) -> None:
        """Post the end of an attempt, after its last log lines."""
        if self.hold.is_held():
            self.hold.suspects.append(attempt.task)
        self._calls.dismiss(attempt.task)
        flushing = self._logs.flush(attempt.log) if attempt.log is not None else None
        if flushing is None:
            self.post_end(attempt)
        else:
            flushing.add_done_callback(lambda _: self.post_end(attempt))

    def post_end(self, attempt: Attempt) -> None:
        """Post the end of an attempt. It has no outcome if the run is being ended."""
        outcome = attempt.outcome
        if outcome is not None:
            number, generation = attempt.number, attempt.generation
            self._mailbox.post(AttemptEnded(attempt.task.id, number, generation, outcome, attempt.was_called))

    def end_all(self, reason: str) -> None:
        """End all attempts without an outcome."""
        for attempt in list(self._state.running.values()):
            attempt.end(reason)

    def end_attempt(self, task_id: str) -> None:
        """End an attempt without an outcome, because the process shuts down."""
        attempt = self._state.running.get(task_id)
        if attempt is not None:
            attempt.end("the process is shutting down")

    async def wait_for_delayed(self) -> None:
        """Wait for code that could not end while no thread ran: its result may be the first."""
        if self.hold.was_held():
            waiters = [each.waiter for each in self._state.running.values() if each.waiter is not None]
            if waiters:
                await asyncio.wait(waiters, timeout=self.hold.grace)

    async def _post_hooks(self, attempt: Attempt, outcome: Outcome, _: asyncio.Task[Any]) -> None:
        context = self._context
        shown = attempt.task.copy()
        shown.inputs = attempt.inputs
        await context.hooks.run_post(shown, attempt.inputs, outcome.result, context.is_over)
        self._mailbox.post(PostHooksEnded(attempt.task.id, outcome.status))
