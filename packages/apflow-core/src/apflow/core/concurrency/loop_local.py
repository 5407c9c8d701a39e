"""Things that belong to an event loop: made at its first need of them, closed when it ends.

A pool of connections works on one loop only, and a process may have several, one after the other or in
several threads. What closes them is that a loop, before it ends, closes the asynchronous generators that are
open on it (PEP 525; `asyncio.run` and `asyncio.Runner` see to that).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from apflow.core.process.identity import ForkLock

K = TypeVar("K")
T = TypeVar("T")


class LoopLocal(Generic[T]):
    """One thing for each event loop: `make` makes it, on the loop and without waiting; `close` closes it."""

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> None:
        self._make, self._close = make, close
        # Beside each thing the generator that holds it: that is what the loop closes.
        self._held: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[AsyncGenerator[T], T]] = (
            WeakKeyDictionary()
        )

    async def get(self) -> T:
        """Return the thing of the running loop. Raises what making it raises; the next call tries again."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            holding = self._hold(loop)
            held = self._held[loop] = holding, await anext(holding)
        return held[1]

    async def close(self) -> None:
        """Close the object of the running loop, if there is one. The next use creates a new one."""
        held = self._held.get(asyncio.get_running_loop())
        if held is not None:
            await held[0].aclose()

    async def _hold(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[T]:
        thing = self._make()
        try:
            yield thing
        finally:
            self._held.pop(loop, None)
            await self._close(thing)


class LoopRegistry(Generic[K, T]):
    """One object for each key and event loop, created at its first use. It may be used by any thread.

    Keys and event loops are referred to weakly: an object lives as long as both, if it refers to neither.

    Args:
        make: creates the object of a key, in the event loop.
    """

    def __init__(self, make: Callable[[K], T]) -> None:
        self._make = make
        self._lock = ForkLock()  # guards the line below
        self._made: MutableMapping[K, WeakKeyDictionary[asyncio.AbstractEventLoop, T]] = WeakKeyDictionary()

    def of(self, key: K) -> T:
        """Return the object of a key for the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock.lock:
            made = self._made.setdefault(key, WeakKeyDictionary())
            if loop not in made:
                made[loop] = self._make(key)
            return made[loop]
