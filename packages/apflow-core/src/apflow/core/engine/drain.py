"""The drain of a run: its process shuts down, and another process continues the tree."""

from __future__ import annotations

import asyncio

from apflow.core.engine.attempt import Attempt
from apflow.core.engine.mailbox import Mailbox
from apflow.core.planning.run_events import DrainExpired
from apflow.core.planning.run_state import RunState

CHECK_SECONDS = 0.1  # between drains of the trees that running code waits for


async def end_code(state: RunState[Attempt], mailbox: Mailbox, seconds: float, grace: float) -> None:
    """Wait for running code, end code that takes longer, and report code that does not end.

    Args:
        seconds: seconds that code may continue to run.
        grace: seconds that code may take to end after it is asked to.
    """
    await _wait(state, seconds)
    for attempt in list(state.running.values()):
        attempt.end("the process is shutting down")
    await _wait(state, grace)
    mailbox.post(DrainExpired())


async def drain_child_trees(state: RunState[Attempt], seconds: float) -> None:
    """Drain the trees that running code waits for. The code ends when they are released."""
    while any([_drain_trees(each, seconds) for each in list(state.running.values())]):  # noqa: ASYNC110, C419
        await asyncio.sleep(CHECK_SECONDS)  # again, because some of them are about to start


def _drain_trees(attempt: Attempt, seconds: float) -> bool:
    return attempt.trees is not None and attempt.outcome is None and attempt.trees.drain(seconds)


async def _wait(state: RunState[Attempt], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    running = state.running
    while any(not attempt.has_begun for attempt in running.values()) and loop.time() < until:  # noqa: ASYNC110
        await asyncio.sleep(0)  # calls of many tasks start over several turns of the event loop
    waiters = [attempt.waiter for attempt in running.values() if attempt.waiter is not None]
    if waiters:
        await asyncio.wait(waiters, timeout=max(0.0, until - loop.time()))
