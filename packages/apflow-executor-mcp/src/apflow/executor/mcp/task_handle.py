"""Calls that the server runs as a separate task: it returns a handle at once, and the result later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

POLL_SECONDS: Final = 1.0  # between two requests for the status, unless the server names an interval
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.1, 10.0
CANCEL_SECONDS: Final = 2.0  # for the server to accept that the task is cancelled
ENDED: Final = ("completed", "failed", "cancelled")

Json = Any
Send = Callable[[str, Mapping[str, Json]], Awaitable[dict[str, Json]]]


def handle_in(result: Mapping[str, Json]) -> dict[str, Json] | None:
    """Return the handle that a result consists of; None if it is the result of the call itself."""
    task = result.get("task")
    is_handle = isinstance(task, dict) and "taskId" in task and "content" not in result
    return cast("dict[str, Json]", task) if is_handle else None


async def follow(
    handle: Mapping[str, Json], send: Send, on_message: Callable[[str], Awaitable[object]]
) -> dict[str, Json] | None:
    """Return the result of a task of the server, once it has ended; None if it requires input.

    If the task requires input, or the caller is cancelled, the task of the server is cancelled.

    Args:
        send: sends a request.
        on_message: called with each new status message.
    """
    name = {"taskId": handle["taskId"]}
    message: object = None
    try:
        while handle.get("status") not in ENDED:
            if handle.get("status") == "input_required":
                await _cancel(name, send)
                return None
            if handle.get("statusMessage") not in (None, message):
                message = handle["statusMessage"]
                await on_message(str(message))
            await asyncio.sleep(_interval(handle))
            handle = await send("tasks/get", name)
        return await send("tasks/result", name)
    except asyncio.CancelledError:
        await _cancel(name, send)
        raise


async def _cancel(name: Mapping[str, Json], send: Send) -> None:
    with suppress(Exception):
        async with asyncio.timeout(CANCEL_SECONDS):
            await send("tasks/cancel", name)


def _interval(handle: Mapping[str, Json]) -> float:
    milliseconds = handle.get("pollInterval")
    seconds = milliseconds / 1000 if isinstance(milliseconds, int | float) else POLL_SECONDS
    return min(MAX_POLL_SECONDS, max(MIN_POLL_SECONDS, seconds))
