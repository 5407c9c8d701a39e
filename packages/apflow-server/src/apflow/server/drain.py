"""The end of a server, in two steps: it takes no more work, then it has none left."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress


class Drain:
    """How far the end of a server has come.

    First it `has_begun`: no new trees are taken, and what runs may end. Then it `is_over`: nothing runs
    here any more, and who still follows a tree is to be told good-bye.
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
        """Say that nothing runs here any more."""
        self._begun.set()
        self._over.set()

    async def begun(self) -> None:
        """Wait until no more work is taken."""
        await self._begun.wait()

    async def over(self) -> None:
        """Wait until nothing runs here any more."""
        await self._over.wait()


async def begin_with_uvicorn(drain: Drain, every: float = 0.25) -> None:
    """Begin the drain as soon as uvicorn is told to end, where it runs the application by itself.

    It waits for open streams before it tells the application, and they wait for the end of the drain.
    """
    while not drain.has_begun:
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if getattr(server, "should_exit", False) is True:
            drain.begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(every):
                await drain.begun()
