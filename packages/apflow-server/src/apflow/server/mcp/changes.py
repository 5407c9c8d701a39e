"""Looks at something after it has changed, but not after each of many changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, Final

MIN_INTERVAL_SECONDS: Final = 0.5  # between two notifications of one thing


async def batched(
    changes: AsyncIterable[Any], seconds: float = MIN_INTERVAL_SECONDS
) -> AsyncGenerator[None, None]:
    """Yield once for the changes of each interval, until they end. Changes are read without waiting.

    Raises:
        Exception: what reading the changes raises.
    """
    is_changed = asyncio.Event()

    async def read() -> None:
        async for _ in changes:
            is_changed.set()

    reading = asyncio.create_task(read(), name="apflow:mcp:changes")
    reading.add_done_callback(lambda _: is_changed.set())
    try:
        while not reading.done():
            await is_changed.wait()
            is_changed.clear()
            if not reading.done():
                yield
                await asyncio.sleep(seconds)
        reading.result()
        yield
    finally:
        reading.cancel()
        await asyncio.wait({reading})
