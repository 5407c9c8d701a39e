"""Open descriptors and threads, which the calls of an executor must not leave behind."""

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path

POOLS = (
    "asyncio",
    "apflow-ssh",
)  # their threads stay, and a pool may start one although another is about to be idle


def held() -> tuple[int, int]:
    """Count the open descriptors and the threads, apart from those of pools."""
    threads = [each for each in threading.enumerate() if not each.name.startswith(POOLS)]
    return sum(1 for _ in Path("/proc/self/fd").iterdir()), len(threads)


async def settled(before: tuple[int, int], count: Callable[[], tuple[int, int]] = held) -> None:
    """Wait until no more is held than before. A peer in this process closes its side a moment later.

    Args:
        count: returns what is held.
    """
    async with asyncio.timeout(30):
        while any(now > then for now, then in zip(count(), before, strict=True)):
            gc.collect()
            await asyncio.sleep(0.02)
