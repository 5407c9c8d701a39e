"""What every runner must keep to, as tests that its author inherits.

```python
class TestMyRunner(RunnerContract):
    def make_runner(self):
        return MyRunner()
```

The executors of the tests can be pickled, and report through files: a runner may call them in another
process of the machine.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytest

from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.runner import Runner

POLL_INTERVAL_SECONDS = 0.01


class Adds(BaseTask):
    """Adds two numbers."""

    id = "contract_adds"
    name = "Adds"
    description = "Adds two numbers."

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"sum": inputs["a"] + inputs["b"]}


class AddsInThread(BaseTask):
    """Adds two numbers in a plain function."""

    id = "contract_adds_in_thread"
    name = "Adds in a thread"
    description = "Adds two numbers."

    def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sum": inputs["a"] + inputs["b"]}


class Fails(BaseTask):
    """Raises an error."""

    id = "contract_fails"
    name = "Fails"
    description = "Raises an error."

    async def execute(self, inputs: dict[str, Any]) -> Any:
        raise LookupError(inputs["message"])


class Waits(BaseTask):
    """Waits until it is cancelled, and writes files when it begins and when it ends."""

    id = "contract_waits"
    name = "Waits"
    description = "Waits until it is cancelled."

    async def execute(self, inputs: dict[str, Any]) -> Any:
        folder = Path(inputs["folder"])
        folder.joinpath("began").touch()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(POLL_INTERVAL_SECONDS)  # code that cleans up may wait
            folder.joinpath("ended").touch()


class RunnerContract(ABC):
    """Tests for one runner. Subclass it, with a name that begins with `Test`."""

    within = 30.0  # seconds for one call

    @abstractmethod
    def make_runner(self) -> Runner:
        """Return a new runner, as its entry point does."""

    @pytest.mark.asyncio
    async def test_a_call_returns_what_the_executor_returns(self) -> None:
        """Await `execute` of the executor with the inputs, and return its result unchanged."""
        assert await self._call(Adds(), {"a": 1, "b": 2}) == {"sum": 3}

    @pytest.mark.asyncio
    async def test_a_plain_execute_is_called_too(self) -> None:
        """`execute` may be a plain function: call it in a thread. `LocalRunner.call` does both."""
        assert await self._call(AddsInThread(), {"a": 1, "b": 2}) == {"sum": 3}

    @pytest.mark.asyncio
    async def test_a_call_raises_what_the_executor_raises(self) -> None:
        """Raise the error of the executor itself: its class is the `error_type` of the task."""
        with pytest.raises(LookupError, match="as asked"):
            await self._call(Fails(), {"message": "as asked"})

    @pytest.mark.asyncio
    async def test_calls_at_once_do_not_mix(self) -> None:
        """One runner serves many calls at once: keep nothing about a call on the runner."""
        runner = self.make_runner()
        async with asyncio.timeout(self.within):
            calls = (runner.call(Adds(), {"a": number, "b": 0}, None) for number in range(20))
            assert await asyncio.gather(*calls) == [{"sum": number} for number in range(20)]

    @pytest.mark.asyncio
    async def test_a_call_that_takes_too_long_raises_a_timeout_error(self, tmp_path: Path) -> None:
        """After `timeout` seconds, cancel the executor's code, wait for its end, and raise `TimeoutError`."""
        call = self.make_runner().call(Waits(), {"folder": str(tmp_path)}, 0.1)
        async with asyncio.timeout(self.within):  # around `raises`: a runner that never ends fails the test
            with pytest.raises(TimeoutError):
                await call
        assert not (tmp_path / "began").exists() or (tmp_path / "ended").exists()

    @pytest.mark.asyncio
    async def test_a_cancelled_call_ends_after_the_code(self, tmp_path: Path) -> None:
        """When the call is cancelled, cancel the executor's code, wait until it has ended, and raise
        `CancelledError`. Code that runs on would work on a task that has ended.
        """
        call = asyncio.ensure_future(self._call(Waits(), {"folder": str(tmp_path)}))
        async with asyncio.timeout(self.within):
            while not (tmp_path / "began").exists() and not call.done():  # noqa: ASYNC110 - a file
                await asyncio.sleep(POLL_INTERVAL_SECONDS)
            call.cancel()
            await asyncio.wait([call])
        assert call.cancelled()
        assert (tmp_path / "ended").exists()

    async def _call(self, executor: BaseTask, inputs: dict[str, Any]) -> Any:
        async with asyncio.timeout(self.within):
            return await self.make_runner().call(executor, inputs, None)
