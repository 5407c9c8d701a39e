"""Keeping coroutines running that must not end before they are asked to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from apflow.core.concurrency.containment import shielded, uncancel

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a coroutine is started again
STEADY = 60.0  # seconds after which an end counts as the first


class Supervised:
    """A coroutine that is started again where it raises or is cancelled, which is logged as an error.

    Args:
        name: of its asyncio task, and in the log.
        make: returns the coroutine. It ends for good by returning.
        is_owner: `end()` alone ends it: a cancellation of `run()` comes from code that has no right to it.
    """

    def __init__(
        self, name: str, make: Callable[[], Coroutine[Any, Any, object]], *, is_owner: bool = False
    ) -> None:
        self.name = name
        self._make = make
        self._is_owner = is_owner
        self._is_ended = False
        self._task: asyncio.Task[BaseException | None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the coroutine runs at present."""
        return self._task is not None and not self._task.done()

    async def run(self) -> None:
        """Run the coroutine until it returns, or is ended. Cancelling this ends it, where it is not owned."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while not self._is_ended:
            began = loop.time()
            error = await self._run_once()
            if error is None:
                return
            if loop.time() - began > STEADY:
                pause = FIRST_PAUSE
            logger.error(
                "%s ended unexpectedly and is started again in %g s.", self.name, pause, exc_info=error
            )
            try:
                await asyncio.sleep(pause)
            except asyncio.CancelledError:
                if not self._ignores():
                    raise
            pause = min(LONGEST_PAUSE, 2 * pause)

    def end(self) -> None:
        """Cancel the coroutine, and do not restart it."""
        self._is_ended = True
        if self._task is not None:
            self._task.cancel()

    async def _run_once(self) -> BaseException | None:
        """Return why the coroutine ended; None where it was to end."""
        task = self._task = asyncio.create_task(_error_of(self._make()), name=self.name)
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                if self._ignores():
                    continue
                self._is_ended = True
                task.cancel()
                with shielded():
                    await asyncio.wait({task})
                raise
        try:
            return task.result()
        except asyncio.CancelledError as error:
            return None if self._is_ended else error

    def _ignores(self) -> bool:
        """Undo a cancellation by other code; return whether it was one."""
        if self._is_ended or not self._is_owner:
            return False
        uncancel()
        logger.error("%s was cancelled by other code, and continues.", self.name)
        return True


async def _error_of(coroutine: Coroutine[Any, Any, object]) -> BaseException | None:
    """Return what a coroutine raises; asyncio would let some of it leave the event loop."""
    try:
        await coroutine
    except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - logged with its traceback
        return error
    return None
