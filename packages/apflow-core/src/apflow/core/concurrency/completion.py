"""Finishing work even if the caller is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

from apflow.core.concurrency.exit_fence import create_unfenced

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def finish(coroutine: Coroutine[Any, Any, T], name: str) -> T:
    """Run a coroutine in a separate asyncio task to its end, and return its result.

    If the caller is cancelled meanwhile, however often, it waits for the end; then `CancelledError` is
    raised, and an error of the coroutine is logged.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    work = create_unfenced(lambda: loop.create_task(coroutine, name=name, context=context))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return work.result()
    if not work.cancelled() and (failure := work.exception()) is not None:
        logger.error("%s failed while its caller was cancelled: %s", name, failure)
    raise cancelled
