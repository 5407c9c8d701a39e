"""Where an executor is called: in this process, or wherever an existing engine spreads work."""

from __future__ import annotations

import asyncio
from typing import Protocol

from apflow.core.concurrency.containment import INSIST_SECONDS
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.model.task import Json


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


def timeout_message(seconds: float) -> str:
    """Return the message for an attempt that exceeded its timeout."""
    return f"The attempt took longer than {seconds:g} s (policy.timeout)."


class LocalRunner:
    """Calls executors on the event loop of this process."""

    async def call(self, executor: ExecutableTask, inputs: dict[str, Json], timeout: float | None) -> Json:
        """See `Runner.call`."""
        if timeout is None:
            return await executor.execute(inputs)
        deadline = _Deadline(timeout)
        try:
            result = await executor.execute(inputs)
        except BaseException as error:
            if not deadline.has_passed or not isinstance(error, (Exception, asyncio.CancelledError)):
                raise
            raise TimeoutError(timeout_message(timeout)) from error
        finally:
            deadline.close()
        if deadline.has_passed:  # the code swallowed its cancellation
            raise TimeoutError(timeout_message(timeout))
        return result


class _Deadline:
    """Cancels the current asyncio task when its time is over, again and again until it is closed.

    `asyncio.timeout` believes code that swallows its cancellation, and is misled by code that has cancelled
    its own task before.
    """

    def __init__(self, seconds: float) -> None:
        self.has_passed = False
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._pass)

    def _pass(self) -> None:
        self.has_passed = True
        if self._task is not None:
            self._task.cancel("the time is over")
        self._timer = self._loop.call_later(INSIST_SECONDS, self._pass)

    def close(self) -> None:
        """Stop cancelling."""
        self._timer.cancel()
