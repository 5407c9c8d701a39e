"""The runner of apflow passes the contract of runners, which catches runners that break it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from apflow.core import ExecutableTask, LocalRunner
from apflow.core.extensions.calling import call_execute
from apflow.testing.runner import RunnerContract, registered_executors


class TestLocalRunner(RunnerContract):
    def make_runner(self) -> LocalRunner:
        return LocalRunner()


class Altering(LocalRunner):
    async def call(self, executor: ExecutableTask, inputs: dict[str, Any], timeout: float | None) -> Any:
        return {"result": await super().call(executor, inputs, timeout)}


class AsyncOnly(LocalRunner):
    async def call(self, executor: ExecutableTask, inputs: dict[str, Any], timeout: float | None) -> Any:
        return await executor.execute(inputs)


class Silent(LocalRunner):
    async def call(self, executor: ExecutableTask, inputs: dict[str, Any], timeout: float | None) -> Any:
        try:
            return await super().call(executor, inputs, timeout)
        except LookupError:
            return None


class Mixing(LocalRunner):
    async def call(self, executor: ExecutableTask, inputs: dict[str, Any], timeout: float | None) -> Any:
        self.inputs = inputs
        await asyncio.sleep(0)
        return await super().call(executor, self.inputs, timeout)


class Patient(LocalRunner):
    async def call(self, executor: ExecutableTask, inputs: dict[str, Any], timeout: float | None) -> Any:
        return await super().call(executor, inputs, None)


class Leaving(LocalRunner):
    """Does not wait for the code that it cancels."""

    async def call(self, executor: ExecutableTask, inputs: dict[str, Any], timeout: float | None) -> Any:
        call = asyncio.ensure_future(call_execute(executor, inputs))
        try:
            return await asyncio.shield(call)
        finally:
            call.cancel()


class ContractOf(RunnerContract):
    within = 1.0

    def __init__(self, kind: type[LocalRunner]) -> None:
        self._kind = kind

    def make_runner(self) -> LocalRunner:
        return self._kind()


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Altering, "test_a_task_has_the_result_that_the_executor_returns"),
        (AsyncOnly, "test_a_plain_execute_is_called_too"),
        (Silent, "test_a_task_fails_with_the_error_of_the_executor"),
        (Mixing, "test_calls_at_once_do_not_mix"),
        (Leaving, "test_a_cancellation_reaches_the_executor_and_its_code"),
        (Patient, "test_the_code_ends_when_the_time_is_over"),
    ],
)
async def test_a_fault_is_caught(kind: type[LocalRunner], test: str, tmp_path: Path):
    arguments = [tmp_path] if kind in (Leaving, Patient) else []
    with (
        registered_executors(),
        pytest.raises(
            (AssertionError, TypeError, TimeoutError, asyncio.CancelledError, pytest.fail.Exception)
        ),
    ):
        await getattr(ContractOf(kind), test)(*arguments)
