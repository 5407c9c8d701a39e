"""The contract catches executors that break it, each by the test that is meant for that."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from apflow.core.extensions.executor import BaseTask, ExecutableTask, InputsSchema
from apflow.testing.executor import ExecutorContract

Fault = type[AssertionError] | type[BaseException]


class Sound(BaseTask):
    """An executor as it should be; the others differ in one fault."""

    id = "sound_executor"
    name = "Sound"
    description = "Adds up."
    inputs_schema: ClassVar[InputsSchema] = {
        "type": "object",
        "properties": {
            "numbers": {"type": "array", "items": {"type": "number"}, "description": "What to add up."},
            "start": {"type": "number", "default": 0, "description": "Where to begin.", "examples": [1]},
        },
        "required": ["numbers"],
    }

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return {"sum": sum(inputs["numbers"], inputs["start"])}


class ContractOf(ExecutorContract):
    run_within = 1.0
    stop_within = 0.1
    start_within = 0.01

    def __init__(self, make: Callable[[], ExecutableTask]) -> None:
        self._make = make

    def make_executor(self) -> ExecutableTask:
        return self._make()

    def good_inputs(self) -> dict[str, Any]:
        return {"numbers": [1, 2]}


class TestSound(ExecutorContract):
    def make_executor(self) -> ExecutableTask:
        return Sound()

    def good_inputs(self) -> dict[str, Any]:
        return {"numbers": [1, 2]}

    def check_result(self, result: Any) -> None:
        assert result == {"sum": 3}


async def check(kind: type[ExecutableTask], test: str) -> None:
    outcome = getattr(ContractOf(kind), test)()
    if outcome is not None:
        await outcome


class Nameless(Sound):
    name = " "


class Spaced(Sound):
    id = "not an id"


class OddEffect(Sound):
    effect = "maybe"


class Undescribed(Sound):
    inputs_schema: ClassVar[InputsSchema] = {"type": "object", "properties": {"numbers": {"type": "array"}}}


class NoSchema(Sound):
    inputs_schema: ClassVar[InputsSchema] = {"type": "objekt"}


class BadDefault(Sound):
    inputs_schema: ClassVar[InputsSchema] = {
        "type": "object",
        "properties": {"numbers": {"type": "array", "default": "none", "description": "What to add up."}},
    }


class NoJson(Sound):
    async def execute(self, inputs: dict[str, Any]) -> Any:
        return {"sum": {1, 2}}


class Failing(Sound):
    async def execute(self, inputs: dict[str, Any]) -> Any:
        return {"status": "failed"}


class Endless(Sound):
    async def execute(self, inputs: dict[str, Any]) -> Any:
        await asyncio.Event().wait()


class Meddling(Sound):
    async def execute(self, inputs: dict[str, Any]) -> Any:
        inputs["numbers"].append(3)
        return {}


class Sharing(Sound):
    seen: ClassVar[list[str | None]] = []

    async def execute(self, inputs: dict[str, Any]) -> Any:
        self.seen.append(self.task_id)
        return {}


class Unstoppable(Sound):
    async def execute(self, inputs: dict[str, Any]) -> Any:
        for _ in range(3):
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue
        return {}


class Harmful(Sound):
    async def cancel(self) -> Any:
        raise RuntimeError("nothing to cancel")


@pytest.mark.parametrize(
    ("kind", "test", "fault"),
    [
        (Nameless, "test_it_has_an_id_a_name_and_a_description", AssertionError),
        (Spaced, "test_it_has_an_id_a_name_and_a_description", AssertionError),
        (OddEffect, "test_its_declarations_have_a_meaning", AssertionError),
        (Undescribed, "test_every_input_is_described", AssertionError),
        (NoSchema, "test_its_input_schema_is_a_json_schema_of_an_object", ValueError),
        (BadDefault, "test_its_defaults_and_examples_obey_its_own_schema", ValueError),
        (NoJson, "test_it_returns_plain_json_in_bounded_time", TypeError),
        (Failing, "test_it_returns_plain_json_in_bounded_time", AssertionError),
        (Endless, "test_it_returns_plain_json_in_bounded_time", TimeoutError),
        (Meddling, "test_it_leaves_its_inputs_and_the_results_of_others_alone", AssertionError),
        (Sharing, "test_two_runs_at_once_share_no_state", AssertionError),
        (Unstoppable, "test_it_stops_when_it_is_cancelled", TimeoutError),
        (Harmful, "test_cancelling_what_does_not_run_does_no_harm", RuntimeError),
        (Failing, "test_it_runs_as_a_task", AssertionError),
    ],
)
async def test_a_fault_is_caught(kind: type[ExecutableTask], test: str, fault: Fault):
    with pytest.raises(fault):
        await check(kind, test)


async def test_inputs_that_a_schema_lets_through_are_caught():
    class Open(ContractOf):
        def bad_inputs(self) -> list[dict[str, Any]]:
            return [{"numbers": [1], "extra": True}]

    with pytest.raises(pytest.fail.Exception):
        Open(Sound).test_bad_inputs_are_refused()
    with pytest.raises(AssertionError):
        await Open(Sound).test_bad_inputs_fail_the_task_before_it_is_executed()


def test_bad_inputs_are_made_from_the_schema():
    assert ContractOf(Sound).bad_inputs() == [
        {},
        {"numbers": 3},
        {"numbers": [1, 2], "start": "three"},
    ]
