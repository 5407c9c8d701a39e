"""The fixture `trees`: stubs, recorded calls, and time that passes without waiting."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel

from apflow.core import BaseTask, TaskBuilder, executor_register, get_registry
from apflow.core.concurrency.thread_pool import ThreadPool
from apflow.core.errors import InvalidInputError, TreeInvalidError
from apflow.testing.trees import Trees
from apflow.testing.virtual_time import VirtualTimeLoop


class Price(BaseModel):
    fruit: str
    count: int = 1


class PriceOf(BaseTask):
    """A real executor, which tests replace."""

    id = "price_of"
    inputs_schema = Price
    effect = "once"

    def __init__(self, currency: str = "EUR") -> None:
        super().__init__()
        self.currency = currency

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return {"real": inputs["fruit"], "in": self.currency, "attempt": self.attempts}


@pytest.fixture(autouse=True)
def price_of() -> Iterator[None]:
    executor_register(PriceOf, override=True)
    yield
    get_registry().unregister(PriceOf.id)


def a_flow(**policy: Any) -> list[dict[str, Any]]:
    return [
        {"id": "all", "name": "all"},
        {"id": "fetch", "name": "fetch", "parent_id": "all", "policy": policy},
        {"id": "store", "name": "store", "parent_id": "all", "dependencies": ["fetch"],
         "inputs": {"rows": {"$from": "fetch", "path": "rows"}}},
    ]  # fmt: skip


def test_stubs_replace_executors_that_are_not_installed(trees: Trees) -> None:
    trees.stub("fetch", result={"rows": [1, 2]})
    trees.stub("store", function=lambda inputs: len(inputs["rows"]))
    run = trees.run(a_flow())
    assert (run.status, run["store"].result, run["all"].result) == (
        "completed", 2, {"children": {"fetch": "completed", "store": "completed"}},
    )  # fmt: skip
    assert [(call.executor, call.task, call.attempt) for call in trees.calls] == [
        ("fetch", "fetch", 1),
        ("store", "store", 1),
    ]
    (call,) = trees.calls_of("store")
    assert call.inputs["rows"] == [1, 2]


@pytest.mark.parametrize("failure", [ConnectionError("refused"), ConnectionError, "refused"])
def test_a_stub_fails_as_it_is_told(trees: Trees, failure: Any) -> None:
    trees.stub("fetch", failure=failure)
    trees.stub("store")
    run = trees.run(a_flow())
    assert run.status == "failed"
    assert run["fetch"].result["error_type"] == (
        "RuntimeError" if isinstance(failure, str) else "ConnectionError"
    )
    assert run["store"].result["error_type"] == "DependencyFailed"
    assert trees.calls_of("store") == []


def test_retries_wait_on_the_clock_of_the_test(trees: Trees) -> None:
    trees.stub("fetch", failure=ConnectionError, times=3, result={"rows": []})
    trees.stub("store")
    retry = {"max_attempts": 5, "delay": 3600, "backoff": 2, "max_delay": 100_000, "jitter": False}
    run = trees.run(a_flow(retry=retry))
    assert run.status == "completed"
    assert run.waits == [3600, 7200, 14400]
    assert [call.attempt for call in trees.calls_of("fetch")] == [1, 2, 3, 4]
    assert [round(call.at, -2) for call in trees.calls_of("fetch")] == [0, 3600, 10800, 25200]
    assert run.seconds >= 25200


def test_a_stub_that_takes_longer_than_the_timeout_fails(trees: Trees) -> None:
    trees.stub("fetch", takes=6000, result={"rows": []})  # longer than a test may take
    trees.stub("store")
    run = trees.run(a_flow(timeout=3000))
    assert run["fetch"].result["error_type"] == "TimeoutError"
    assert trees.run(a_flow(timeout=9000)).status == "completed"


async def test_it_works_in_a_test_with_an_event_loop(trees: Trees) -> None:
    async def fetch(_: dict[str, Any]) -> Any:
        await asyncio.sleep(3600)
        return {"rows": [1]}

    trees.stub("fetch", function=fetch)
    trees.stub("store")
    assert trees.run(a_flow()).status == "completed"


def test_a_stub_keeps_the_schema_and_the_effect_of_the_real_executor(trees: Trees) -> None:
    trees.stub("price_of", result=3)
    run = trees.run([{"name": "price_of", "inputs": {"count": "many"}}])
    assert run["price_of"].result["error_type"] == "ValidationError"
    run = trees.run([{"name": "price_of", "inputs": {"fruit": "apple"}}])
    assert (run.result, trees.calls[-1].inputs) == (3, {"fruit": "apple", "count": 1})
    trees.stub("price_of", failure="no", times=1, result=3)
    retry = {"retry": {"max_attempts": 3, "delay": 1}}
    run = trees.run([{"name": "price_of", "inputs": {"fruit": "apple"}, "policy": retry}])
    assert run.status == "failed"  # its effect is `once`


def test_a_stub_for_one_task_leaves_the_others_to_the_real_executor(trees: Trees) -> None:
    trees.stub("price_of", result="stubbed", for_task="apple")
    flow = TaskBuilder("total")
    for fruit in ("apple", "pear"):
        flow.add(fruit, executor="price_of", inputs={"fruit": fruit}, params={"currency": "USD"})
    run = trees.run(flow)
    assert run["apple"].result == "stubbed"
    assert run["pear"].result == {"real": "pear", "in": "USD", "attempt": 1}


def test_real_executors_are_recorded_too(trees: Trees) -> None:
    trees.run([{"name": "price_of", "inputs": {"fruit": "apple"}}], user_id="ann")
    assert [call.inputs for call in trees.calls_of(task="price_of")] == [{"fruit": "apple", "count": 1}]


def test_a_failed_run_can_be_executed_again(trees: Trees) -> None:
    trees.stub("fetch", result={"rows": [1]})
    trees.stub("store", failure="full", times=1, result="stored")
    run = trees.run(a_flow())
    assert run.status == "failed"
    again = trees.run_again(run)
    assert (again.status, again["store"].result) == ("completed", "stored")
    assert len(trees.calls_of("fetch")) == 1
    trees.run_again(again, force=True)
    assert len(trees.calls_of("fetch")) == 2


def test_a_tree_that_does_not_end_is_cancelled_at_the_limit(trees: Trees) -> None:
    async def forever(_: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    trees.stub("fetch", function=forever)
    trees.stub("store")
    with pytest.raises(TimeoutError, match=r"'fetch', 'store'"):
        trees.run(a_flow(), limit=3600)


def test_time_does_not_jump_while_a_thread_or_a_process_works(trees: Trees) -> None:
    pool = ThreadPool("test", 1)

    async def in_threads(_: dict[str, Any]) -> Any:
        async with asyncio.timeout(30):
            await asyncio.to_thread(time.sleep, 0.05)
            await pool.run(lambda: time.sleep(0.05))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "print(1)", stdout=asyncio.subprocess.PIPE
            )
            return (await process.communicate())[0].decode()

    trees.stub("fetch", function=in_threads)
    assert trees.run([{"name": "fetch"}]).result.strip() == "1"


class SlowlyEnding(ThreadPoolExecutor):
    """Threads that end later than their calls."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        time.sleep(0.1)
        super().shutdown(wait, cancel_futures=cancel_futures)


def test_time_does_not_jump_while_the_threads_of_the_loop_end() -> None:
    async def end() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(SlowlyEnding(1))
        async with asyncio.timeout(3600):
            await loop.shutdown_default_executor()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(end())


def test_an_unknown_name_lists_the_known_ones(trees: Trees) -> None:
    trees.stub("fetch")
    trees.stub("store")
    run = trees.run(a_flow())
    with pytest.raises(KeyError, match="'all', 'fetch', 'store'"):
        run["stoer"]


def test_an_invalid_array_is_refused(trees: Trees) -> None:
    with pytest.raises(TreeInvalidError):
        trees.run([{"name": "a", "parent_id": "b"}])


@pytest.mark.parametrize(
    "arguments",
    [
        {"result": 1, "function": len},
        {"function": 3},
        {"times": 2},
        {"failure": "x", "times": 0},
        {"failure": "x", "result": 1},
        {"takes": -1},
    ],
)
def test_arguments_that_contradict_each_other_are_refused(trees: Trees, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        trees.stub("fetch", **arguments)


def test_the_end_of_a_test_puts_the_real_executors_back() -> None:
    trees = Trees()
    trees.stub("price_of")
    trees.stub("fetch")
    trees.close()
    registry = get_registry()
    assert registry.entry("price_of").source is PriceOf
    assert not registry.knows("fetch")
