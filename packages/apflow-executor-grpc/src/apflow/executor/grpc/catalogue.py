"""Descriptions that were made, kept for a while: what a server told of itself, and what was compiled."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from apflow.core.concurrency.loop_local import LoopLocal
from apflow.executor.grpc.description import Description

MAX_DESCRIPTIONS = 64
KEPT_SECONDS = 300.0


@dataclass(slots=True)
class Entry:
    """A description, possibly incomplete. The task that adds to it holds its lock."""

    description: Description = field(default_factory=Description)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    made_at: float = field(default_factory=time.monotonic)


class Catalogue:
    """The descriptions of one event loop, by where they come from."""

    def __init__(self) -> None:
        # Those last used stand last.
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()

    @asynccontextmanager
    async def entry(self, source: Hashable) -> AsyncGenerator[Description]:
        """Lock the description of a source: other tasks wait, and do not have to ask the server again."""
        entry = self._entries.get(source)
        if entry is None or time.monotonic() - entry.made_at > KEPT_SECONDS:
            entry = self._entries[source] = Entry()
        self._entries.move_to_end(source)
        while len(self._entries) > MAX_DESCRIPTIONS:
            self._entries.popitem(last=False)
        async with entry.lock:
            yield entry.description

    def forget(self, source: Hashable, description: Description) -> None:
        """Discard a description, unless another task has already replaced it."""
        entry = self._entries.get(source)
        if entry is not None and entry.description is description:
            del self._entries[source]

    async def close(self) -> None:
        """Forget all."""
        self._entries.clear()


catalogues: LoopLocal[Catalogue] = LoopLocal(Catalogue, Catalogue.close)
