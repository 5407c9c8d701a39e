"""Where an executor is called: in this process, or wherever an existing engine spreads work."""

from __future__ import annotations

import asyncio
from typing import Protocol

from apflow.core.executor import ExecutableTask
from apflow.core.task import Json


class Runner(Protocol):
    """Calls executors. An entry point of the group `apflow.runners` makes another one known."""

    async def call(self, executor: ExecutableTask, inputs: dict[str, Json], timeout: float | None) -> Json:
        """Return what the executor returns; raise what it raises.

        Cancelling this coroutine must end the executor's code before it returns.

        Args:
            timeout: seconds that the call may take; None for no limit.

        Raises:
            TimeoutError: the time is over.
        """
        ...


class LocalRunner:
    """Calls executors on the event loop of this process."""

    async def call(self, executor: ExecutableTask, inputs: dict[str, Json], timeout: float | None) -> Json:
        """See `Runner.call`."""
        if timeout is None:
            return await executor.execute(inputs)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await executor.execute(inputs)
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"The attempt took longer than {timeout:g} s (policy.timeout).") from error
            raise
