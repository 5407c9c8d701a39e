"""Reaching an event loop from any thread, also when it may have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress


def call_in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> bool:
    """Have an event loop call a function soon; return False if the loop is closed. Thread-safe."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True


def set_in_loop(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> bool:
    """Set an event of an event loop, at once if called in it; return False if it is closed. Thread-safe."""
    with suppress(RuntimeError):  # a thread without an event loop
        if asyncio.get_running_loop() is loop:
            event.set()
            return True
    return call_in_loop(loop, event.set)
