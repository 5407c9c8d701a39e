"""The shutdown of a server in two steps: it accepts no new work, then its work has ended."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress


class Drain:
    """How far the end of a server has come.

    First it `has_begun`: no new trees are accepted, and running tasks may end. Then it `is_over`: nothing
    runs any longer, and the remaining event streams must be closed.
    """

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether no more work is taken."""
        return self._begun.is_set()

    @property
    def is_over(self) -> bool:
        """Whether nothing runs here any more."""
        return self._over.is_set()

    def begin(self) -> None:
        """Take no more work."""
        self._begun.set()

    def end(self) -> None:
        """Record that nothing runs in this process any longer."""
        self._begun.set()
        self._over.set()

    async def begun(self) -> None:
        """Wait until no more work is taken."""
        await self._begun.wait()

    async def over(self) -> None:
        """Wait until nothing runs here any more."""
        await self._over.wait()


async def begin_with_uvicorn(drain: Drain, every: float = 0.25) -> None:
    """Begin the drain as soon as uvicorn receives a shutdown signal, if it runs the application itself.

    uvicorn waits for open streams before it notifies the application, and streams wait for the end of the
    drain.
    """
    while not drain.has_begun:
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if getattr(server, "should_exit", False) is True:
            drain.begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(every):
                await drain.begun()
