"""`@task`: the schema that a function gives, its calls, results and options."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from apflow.core import (
    MemoryStore,
    Retry,
    TaskExecutor,
    flow,
    get_registry,
    get_task_context,
    run_flow,
    task,
)
from apflow.core.errors import FlowError, InvalidInputError
from apflow.core.extensions.description import describe_executor
from apflow.core.model.task import Task

PATIENCE = 30.0


class Order(BaseModel):
    sku: str
    count: int = 1


@dataclass
class Bill:
    day: date
    total: float
    orders: list[Order]


@task
def price(fruit: str, count: Annotated[int, Field(gt=0, description="How many.")] = 1) -> int:
    """Look up what a fruit costs.

    More about it.

    Args:
        fruit: its name,
            in English.
        count: overridden by the annotation.
    """
    return {"apple": 3, "pear": 4}[fruit] * count


@task
async def bill(day: date, orders: list[Order], *, rate: float = 1.0) -> Bill:
    return Bill(day, rate * sum(each.count for each in orders), orders)


@task
def show(*parts: int, **named: str) -> list[Any]:
    return [list(parts), named]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Keep what other tests of the process register."""
    known = set(get_registry().executor_ids())
    yield
    for executor_id in set(get_registry().executor_ids()) - known:
        get_registry().unregister(executor_id)


async def run_one(executor_id: str, inputs: dict[str, Any], **fields: Any) -> Task:
    db = MemoryStore()
    answer = await TaskExecutor().execute_tasks(
        [{"name": "one", "schemas": {"method": executor_id}, "inputs": inputs, **fields}], db_session=db
    )
    return (await db.get([answer["root_task_id"]]))[answer["root_task_id"]]


def test_a_call_outside_of_a_flow_runs_the_function():
    assert price("apple", count=2) == 6
    assert price.fn("pear") == 4
    assert asyncio.run(bill.fn(date(2026, 1, 2), [Order(sku="a")])).total == 1


def test_the_executor_is_described_by_the_function():
    described = describe_executor(price.id)
    assert price.id.endswith("test_task_functions:price")
    assert (described["name"], described["description"]) == ("price", "Look up what a fruit costs.")
    schema = described["input_schema"]
    assert schema["required"] == ["fruit"]
    assert schema["properties"]["fruit"] == {
        "type": "string", "title": "Fruit", "description": "its name, in English."
    }  # fmt: skip
    assert schema["properties"]["count"] == {
        "type": "integer", "title": "Count", "description": "How many.", "default": 1, "exclusiveMinimum": 0
    }  # fmt: skip
    assert schema["additionalProperties"] is False


async def test_arguments_and_results_are_of_the_declared_types():
    done = await run_one(bill.id, {"day": "2026-01-02", "orders": [{"sku": "a", "count": 2}], "rate": 1.5})
    assert done.error is None
    assert done.result == {"day": "2026-01-02", "total": 3.0, "orders": [{"sku": "a", "count": 2}]}


async def test_variable_arguments_are_a_list_and_an_object():
    done = await run_one(show.id, {"parts": [1, 2], "named": {"self": "x"}})
    assert done.result == [
        [1, 2],
        {"self": "x"},
    ]
    assert (await run_one(show.id, {})).result == [[], {}]


@pytest.mark.parametrize(
    ("inputs", "violation"),
    [
        ({}, "inputs.fruit: Field required"),
        ({"fruit": "apple", "count": 0}, "inputs.count: Input should be greater than 0"),
        ({"fruit": "apple", "colour": "red"}, "inputs.colour: Extra inputs are not permitted"),
    ],
)
async def test_wrong_inputs_fail_the_task_before_the_call(inputs: dict[str, Any], violation: str):
    failed = await run_one(price.id, inputs)
    assert (failed.status, failed.result["error_type"]) == ("failed", "ValidationError")
    assert failed.result["violations"] == [violation]


async def test_parameters_are_never_filled_from_results_of_dependencies():
    @task
    def source() -> dict[str, Any]:
        return {"parts": [7], "named": {"a": "b"}}

    @flow
    def both() -> list[Any]:
        return show.options(after=[source()])(*[])

    assert (await run_flow(both, db=MemoryStore())).result == [[], {}]


async def test_a_result_with_a_status_is_data():
    @task
    def order(state: str) -> dict[str, str]:
        return {"status": state}

    for state in ("failed", "cancelled"):
        done = await run_one(order.id, {"state": state})
        assert (done.status, done.result) == ("completed", {"status": state})


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        ("text", "text"),
        ([1, (2, 3)], [1, [2, 3]]),
        ({Path("a/b")}, ["a/b"]),
        ({"at": date(2026, 1, 2)}, {"at": "2026-01-02"}),
        (Order(sku="s"), {"sku": "s", "count": 1}),
        ([Bill(date(2026, 1, 2), 1.0, [])], [{"day": "2026-01-02", "total": 1.0, "orders": []}]),
    ],
    ids=repr,
)
async def test_results_become_json(value: Any, stored: Any):
    @task
    def give() -> Any:
        return value

    done = await run_one(give.id, {})
    assert (done.status, done.result) == ("completed", stored)


@pytest.mark.parametrize("value", [object(), b"\xff", float("nan")], ids=["object", "bytes", "nan"])
async def test_a_result_that_is_not_json_fails_the_task(value: Any):
    @task
    def give() -> Any:
        return value

    failed = await run_one(give.id, {})
    assert (failed.status, failed.result["error_type"]) == ("failed", "ResultNotSerializable")


async def test_the_context_is_there_in_a_thread_and_on_the_event_loop():
    def about() -> list[Any]:
        context = get_task_context()
        context.report_progress(0.5, "half")
        context.log("a line")
        key = f"{context.task_id}:0"
        return [context.attempt, context.idempotency_key == key, context.is_cancelled(), context.user_id]

    @task
    def blocking() -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), *about()]

    @task
    async def awaiting() -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), *about()]

    assert (await run_one(blocking.id, {})).result == [False, 1, True, False, None]
    assert (await run_one(awaiting.id, {})).result == [True, 1, True, False, None]
    assert get_task_context().task_id is None
    assert (get_task_context().attempt, get_task_context().is_cancelled()) == (0, False)
    get_task_context().report_progress(1.0)


async def test_events_of_a_function_reach_those_who_watch():
    @task
    def work() -> None:
        get_task_context().report_progress(0.5, "half")

    events: list[dict[str, Any]] = []
    await TaskExecutor().execute_tasks(
        work.to_array({}),
        use_streaming=True,
        streaming_callbacks_context=events.append,
        db_session=MemoryStore(),
    )
    assert [(each["progress"], each["message"]) for each in events if each["type"] == "progress"] == [
        (0.5, "half")
    ]


async def test_a_function_ends_by_itself_when_its_context_says_so():
    started = threading.Event()

    @task(cancelable=True)
    def poll() -> dict[str, int]:
        started.set()
        while not get_task_context().is_cancelled():
            threading.Event().wait(0.001)
        return {"rows": 3}

    db = MemoryStore()
    running = asyncio.create_task(run_flow(poll.to_array({}), db=db))
    await asyncio.to_thread(started.wait, PATIENCE)
    (root_id,) = TaskExecutor().running_tasks()
    await TaskExecutor().cancel_task(root_id, db_session=db)
    assert (await running).status == "cancelled"
    assert (await db.get([root_id]))[root_id].result == {"rows": 3}


async def test_options_are_the_policy_of_the_tasks_and_the_effect_of_the_executor():
    @task(id="my-own", retry=3, timeout=2.5, effect="pure", max_concurrency=4, resources={"gpu": 1})
    def work(n: int) -> int:
        return n

    @flow
    def three() -> list[int]:
        patient = work.options(timeout=9, priority=0, retry=Retry(max_attempts=2, on=("OSError",)))
        last = patient.options(name="last", effect="once", resources={"zone": "eu"})
        return [work(1), patient(2), last(3)]

    entries = {each["name"]: each for each in three.build().to_array()}
    assert entries["work"]["schemas"] == {"method": "my-own"}
    assert entries["work"]["policy"] == {"retry": {"max_attempts": 3}, "timeout": 2.5}
    policy = entries["work-2"]["policy"]
    assert (policy["timeout"], policy["retry"]["max_attempts"], policy["retry"]["on"]) == (9, 2, ["OSError"])
    assert (entries["work-2"]["priority"], entries["last"]["policy"]["effect"]) == (0, "once")
    assert ("resources" in policy, entries["last"]["policy"]["resources"]) == (False, {"zone": "eu"})
    described = describe_executor("my-own")
    assert described["resources"] == {"gpu": 1}  # of every call, also of tasks that are written as JSON
    assert (described["effect"], described["max_concurrency"]) == ("pure", 4)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"retry": 0}, "max_attempts"),
        ({"retry": {"attempts": 3}}, "attempts"),
        ({"timeout": -1}, "timeout"),
        ({"id": ":mine"}, "reserved"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"resources": {"gpu": 0}}, "resources"),
        ({"resources": "gpu"}, "must be an object"),
    ],
)
def test_wrong_options_are_refused_where_they_are_written(options: dict[str, Any], fault: str):
    def work() -> None: ...

    with pytest.raises(InvalidInputError, match=fault):
        task(**options)(work)


def test_what_cannot_be_a_task_is_refused():
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(InvalidInputError, match="generator"):
        task(numbers)
    with pytest.raises(InvalidInputError, match="lambda"):
        task(lambda: 1)
    with pytest.raises(InvalidInputError, match="takes a function"):
        task(Order)


def test_a_type_that_is_not_json_is_refused_by_name():
    @task
    def work(lock: threading.Event) -> None: ...

    @flow
    def use() -> None:
        work(threading.Event())

    with pytest.raises(InvalidInputError, match="work cannot be the inputs of a task"):
        use.build()


def test_a_hint_that_cannot_be_resolved_is_refused_by_name():
    @task
    def work(what: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    @flow
    def use() -> None:
        work(1)

    with pytest.raises(InvalidInputError, match=r"type hints of .*work cannot be resolved: name 'Unknown'"):
        use.build()


def test_functions_with_one_id_are_not_mixed_up():
    def make(n: int) -> Any:
        @task
        def number() -> int:
            return n

        return number

    first, _second = make(1), make(2)

    @flow
    def use() -> int:
        return first()

    with pytest.raises(FlowError, match="has taken the executor id"):
        use.build()


async def test_a_wrapper_of_an_async_function_is_awaited():
    def wrapped(function: Any) -> Any:
        def wrapper(n: int) -> Any:
            return function(n)

        return wrapper

    async def work(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    assert (await run_one(task(id="wrapper")(wrapped(work)).id, {"n": 1})).result == 2
