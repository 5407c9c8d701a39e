"""Restarting coroutines that end too early."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from apflow.core.concurrency.containment import shielded, uncancel
from apflow.core.concurrency.exit_fence import guard
from apflow.core.concurrency.timed_wait import wait_up_to

logger = logging.getLogger(__name__)

FIRST_PAUSE, MAX_PAUSE_SECONDS = 0.1, 5.0  # seconds before a coroutine is started again
STEADY = 60.0  # seconds after which an end counts as the first


class Supervised:
    """A coroutine that is restarted after it raises or is cancelled; each restart is logged as an error.

    Args:
        name: name of its asyncio task, also used in the log.
        make: returns the coroutine. When the coroutine returns, it is not started again.
        is_owner: only `end()` ends it; a cancellation of `run()` is logged and ignored.
    """

    def __init__(
        self, name: str, make: Callable[[], Coroutine[Any, Any, object]], *, is_owner: bool = False
    ) -> None:
        self.name = name
        self._make = make
        self._is_owner = is_owner
        self._ended = asyncio.Event()
        self._task: asyncio.Task[BaseException | None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the coroutine runs at present."""
        return self._task is not None and not self._task.done()

    async def run(self) -> None:
        """Run the coroutine until it returns, or is ended. Cancelling this ends it, where it is not owned."""
        loop = asyncio.get_running_loop()
        guard(loop)
        pause = FIRST_PAUSE
        while not self._ended.is_set():
            began = loop.time()
            error = await self._run_once()
            if error is None:
                return
            if loop.time() - began > STEADY:
                pause = FIRST_PAUSE
            logger.error(
                "%s ended unexpectedly and is started again in %g s.", self.name, pause, exc_info=error
            )
            await self._pause(pause)
            pause = min(MAX_PAUSE_SECONDS, 2 * pause)

    def end(self) -> None:
        """Cancel the coroutine and do not start it again."""
        self._ended.set()
        if self._task is not None:
            self._task.cancel()

    async def _pause(self, seconds: float) -> None:
        try:
            await wait_up_to(seconds, self._ended)
        except asyncio.CancelledError:
            if not self._ignores():
                raise

    async def _run_once(self) -> BaseException | None:
        """Run the coroutine once and return why it ended; None if it was meant to end."""
        task = self._task = asyncio.create_task(_error_of(self._make), name=self.name)
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                if self._ignores():
                    continue
                self._ended.set()
                task.cancel()
                with shielded():
                    await asyncio.wait({task})
                raise
        try:
            return task.result()
        except (asyncio.CancelledError, GeneratorExit) as error:
            return None if self._ended.is_set() else error

    def _ignores(self) -> bool:
        """Undo the cancellation if only `end()` may end this coroutine; return whether it was undone."""
        if self._ended.is_set() or not self._is_owner:
            return False
        uncancel()
        logger.error("%s was cancelled by other code, and continues.", self.name)
        return True


async def _error_of(make: Callable[[], Coroutine[Any, Any, object]]) -> BaseException | None:
    """Run the coroutine and return the error it raises: some errors would otherwise stop the event loop."""
    try:
        await make()
    except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - logged with its traceback
        return error
    return None
