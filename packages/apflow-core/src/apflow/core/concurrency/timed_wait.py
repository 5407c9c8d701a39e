"""Waiting for an event, at most for some time."""

from __future__ import annotations

import asyncio


async def wait_up_to(seconds: float | None, event: asyncio.Event) -> bool:
    """Wait until an event is set; return False if it is not set after `seconds`. None: there is no limit."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
