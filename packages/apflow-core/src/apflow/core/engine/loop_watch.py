"""Logs code that blocks an event loop, with the name of its task and its stack.

While a loop has runs, a thread asks it regularly to respond. If the loop does not respond for longer than
`Settings.loop_block_seconds`, the thread reads the stack of the loop's thread. It stops only if code holds
the interpreter (a C call that does not release the GIL): then it reports that afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Final

from apflow.core.engine.late_results import Hold
from apflow.core.engine.suspects import Sample, interpreter_holders, name_task, sample
from apflow.core.engine.tree_run import TreeRun
from apflow.core.extensions.runner import BLOCKING_ADVICE
from apflow.core.process.identity import ForkLock, after_fork_in_child

logger = logging.getLogger(__name__)

TICKS: Final = 8  # per limit, at least
TICK_SECONDS: Final = 0.125  # between two looks at the loops, at most
IDLE_SECONDS: Final = 10.0  # without runs, after which the thread ends
REPEAT_SECONDS: Final = 60.0  # between two reports of the same place
Place = tuple[str, int | None]


class _WatchedLoop:
    """An event loop with runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop = loop
        self.seconds = seconds  # the limit
        self.thread_id = threading.get_ident()
        self.runs: dict[TreeRun, None] = {}
        self._asked_at: float | None = None  # monotonic; None: the loop has responded
        self._blocked_since: float | None = None  # reported, and the loop has not responded yet

    def check(self, reported: dict[Place, float]) -> None:
        """Ask the loop to respond, or report that it does not."""
        asked_at, now = self._asked_at, monotonic()
        if not self.loop.is_running():
            self._asked_at = None
        elif asked_at is None:
            self._asked_at = now
            try:
                self.loop.call_soon_threadsafe(self._respond)
            except RuntimeError:  # it has been closed
                self._asked_at = None
        elif now - asked_at >= self.seconds and self._blocked_since is None:
            self._blocked_since = asked_at
            found = sample(self.thread_id, self.runs)
            if found is not None and self._asked_at == asked_at:  # it has not responded meanwhile
                self._report(found, reported)

    def _report(self, found: Sample, reported: dict[Place, float]) -> None:
        now = monotonic()
        if now - reported.get(found.place, float("-inf")) < REPEAT_SECONDS:
            return
        for place in [each for each, at in reported.items() if now - at >= REPEAT_SECONDS]:
            del reported[place]
        reported[found.place] = now
        whose = "code of no task" if found.attempt is None else f"the code of {name_task(found.attempt.task)}"
        logger.warning(
            "The event loop is blocked for more than %g s by %s: no other code runs on it, and no timeout "
            "can end the code. %s\n%s",
            self.seconds,
            whose,
            BLOCKING_ADVICE,
            found.stack,
        )

    def _respond(self) -> None:
        """Runs on the loop."""
        self.thread_id = threading.get_ident()
        since, self._blocked_since, self._asked_at = self._blocked_since, None, None
        if since is not None:
            logger.info("The event loop continues; it was blocked for %.1f s.", monotonic() - since)


class LoopWatch:
    """Watches the event loops of this process that have runs."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._loops: dict[asyncio.AbstractEventLoop, _WatchedLoop] = {}
        self._thread: threading.Thread | None = None
        self._reported: dict[Place, float] = {}
        self._beat_at = monotonic()  # when the thread last ran

    def forget_thread(self) -> None:
        """In a forked process: the thread and the loops do not exist there."""
        self._loops, self._thread = {}, None

    def add(self, run: TreeRun, seconds: float) -> None:
        """Watch the running loop, on which a run begins."""
        loop = asyncio.get_running_loop()
        run.hold = Hold(is_held=lambda: self._is_held(seconds))
        with self._lock.lock:
            watched = self._loops.get(loop)
            if watched is None:
                watched = self._loops[loop] = _WatchedLoop(loop, seconds)
            watched.runs[run] = None
            if len(self._loops) == len(watched.runs) == 1:
                self._beat_at = monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="apflow:loop-watch", daemon=True)
                self._thread.start()

    def remove(self, run: TreeRun) -> None:
        """Watch the running loop no more if this was its last run."""
        loop = asyncio.get_running_loop()
        watched = self._loops.get(loop)
        if watched is None:
            return
        if self._is_held(watched.seconds):
            self._beat()  # the run ended before the thread ran again: report it now
        with self._lock.lock:
            watched.runs.pop(run, None)
            if not watched.runs:
                self._loops.pop(loop, None)

    def _work(self) -> None:
        idle_since = monotonic()
        while True:
            with self._lock.lock:
                watched = list(self._loops.values())
                if watched:
                    idle_since = monotonic()
                elif monotonic() - idle_since > IDLE_SECONDS:
                    self._thread = None
                    return
            sleep(min([TICK_SECONDS, *(each.seconds / TICKS for each in watched)]))
            self._beat()
            for each in list(self._loops.values()):
                each.check(self._reported)

    def _is_held(self, seconds: float) -> bool:
        return monotonic() - self._beat_at > max(seconds, 2 * TICK_SECONDS)

    def _beat(self) -> None:
        """Record that the thread runs, and report if it did not for longer than the limit."""
        holders = None
        with self._lock.lock:
            now = monotonic()
            seconds = now - self._beat_at
            loops = list(self._loops.values())
            runs = [run for watched in loops for run in watched.runs]
            is_held = any(seconds > max(each.seconds, 2 * TICK_SECONDS) for each in loops)
            # Where the lease may have expired, the renewer of leases reports it.
            if is_held and not any(run.hold.was_held() for run in runs):
                holders = interpreter_holders(runs)
            self._beat_at = now  # only now: until then, code that ends is one of the suspects
        if holders is not None:
            logger.warning(
                "No other thread of this process ran for %.1f s: the process was stopped, or %s. Make such "
                "code release the GIL, or run it in a separate process.",
                seconds,
                holders,
            )


_watch = LoopWatch()
after_fork_in_child(_watch.forget_thread)


@contextmanager
def watching_loop(run: TreeRun, seconds: float) -> Generator[None]:
    """Watch the running event loop during a run.

    Args:
        seconds: for how long code may block the loop before it is logged; 0: for any time.
    """
    if not seconds:
        yield
        return
    _watch.add(run, seconds)
    try:
        yield
    finally:
        _watch.remove(run)
