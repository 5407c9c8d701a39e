"""The events and signals that a run has not handled yet.

Events are posted in the event loop of the run. Signals come from any thread; one of each kind is kept.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.planning.run_events import RunEvent


class Mailbox:
    """The events and signals for one run. It must be created in the event loop of the run.

    Attributes:
        events: not handled yet, in order.
        signals: not handled yet, by kind.
        woken: set when something happens. The run clears it when a turn begins.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.events: deque[RunEvent] = deque()
        self.signals: dict[type[RunEvent], RunEvent] = {}
        self.woken = asyncio.Event()
        self._thread_id = threading.get_ident()
        self._is_called = False  # a call from another thread is scheduled and not handled yet

    def post(self, event: RunEvent) -> None:
        """Post an event for the next turn. Call this only in the event loop of the run."""
        self.events.append(event)
        self.woken.set()

    def signal(self, event: RunEvent) -> None:
        """Keep a signal until the run takes it. Thread-safe."""
        self.signals[type(event)] = event
        self.wake()

    def take_signal(self, kind: type[RunEvent]) -> RunEvent | None:
        """Remove and return the signal of a kind, or None."""
        return self.signals.pop(kind, None)

    def wake(self) -> None:
        """Make the run take a turn. Thread-safe."""
        if threading.get_ident() == self._thread_id:
            self.woken.set()
        elif not self._is_called:  # a call from another thread costs a system call
            self._is_called = True
            self.call(self._take_call)

    def call(self, act: Callable[[], object]) -> None:
        """Call a function in the event loop of the run. Thread-safe."""
        call_in_loop(self.loop, act)

    async def wait(self) -> None:
        """Wait until something has happened since the turn began. Other code of the loop always runs."""
        if self.woken.is_set():
            await asyncio.sleep(0)  # `Event.wait` would return without a pause
        await self.woken.wait()

    def _take_call(self) -> None:
        self._is_called = False
        self.woken.set()
