"""`@flow`, `run_flow` and `run_sync`: trees from calls of functions."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from apflow.core import MemoryStore, TaskBuilder, flow, run_flow, run_sync, task
from apflow.core.errors import (
    FlowError,
    InvalidInputError,
    RunFailedError,
    TreeInvalidError,
    ValidationError,
)
from apflow.core.model.status import TaskStatus
from apflow.core.store.base import TaskStore

PRICES = {"apple": 3, "pear": 4}


@dataclass
class Quote:
    fruit: str
    cost: int | None = None


class Sum(BaseModel):
    total: int
    parts: list[int]


@task
def price(fruit: str) -> int:
    return PRICES[fruit]


@task
def total(*prices: int) -> int:
    return sum(prices)


@task
def summed(prices: list[int]) -> Sum:
    return Sum(total=sum(prices), parts=prices)


@task
def quote(fruit: str) -> Quote:
    return Quote(fruit, PRICES.get(fruit))


@task
async def described(text: str | None, row: dict[str, int] | None = None) -> str:
    return f"{text} {row}"


@flow
def basket(*fruits: str) -> int:
    return total(*[price(fruit) for fruit in fruits])


@flow
def dinner(guests: int = 2) -> dict[str, int]:
    first = basket("apple", "pear")
    return {"first": first, "all": total(first, basket("pear"), guests)}


def test_a_flow_is_a_tree_whose_root_returns_its_value(db: TaskStore):
    outcome = run_sync(basket.build("apple", "pear", "apple"), db=db)
    assert outcome.status is TaskStatus.COMPLETED
    assert outcome.result == 10
    assert dict(outcome.results) == {"basket": 10, "price": 3, "price-2": 4, "price-3": 3, "total": 10}
    assert (outcome.progress, outcome.error, outcome.tolerated) == (1.0, None, [])


def test_the_array_names_executors_dependencies_and_references():
    assert basket.build("apple").to_array() == [
        {
            "name": "basket",
            "inputs": {"value": {"$from": "total"}},
            "schemas": {"method": "flow_executor"},
            "dependencies": ["total"],
        },
        {
            "name": "price",
            "inputs": {"fruit": "apple"},
            "schemas": {"method": price.id},
            "parent_id": "basket",
        },
        {
            "name": "total",
            "inputs": {"prices": [{"$from": "price"}]},
            "schemas": {"method": total.id},
            "dependencies": [{"id": "price", "required": True}],
            "parent_id": "basket",
        },
    ]


def test_a_flow_in_a_flow_is_a_part_of_its_tree():
    tree = dinner.build()
    parents = {each["name"]: each.get("parent_id") for each in tree.to_array()}
    assert parents == {
        "dinner": None,
        "basket": "dinner", "price": "basket", "price-2": "basket", "total": "basket",
        "basket-2": "dinner", "price-3": "basket-2", "total-2": "basket-2",
        "total-3": "dinner",
    }  # fmt: skip
    assert run_sync(tree, db=MemoryStore()).result == {"first": 7, "all": 13}
    assert dinner.build_from({"guests": 5}).to_array() == dinner.build(5).to_array()


def test_a_call_of_a_flow_outside_of_one_runs_its_functions():
    assert dinner(1) == {"first": 7, "all": 12}


def test_parts_of_a_result_are_passed_on():
    @flow
    def parts() -> list[str]:
        made = summed([price("apple"), price("pear")])
        return [
            described(quote("apple").fruit, {"a": made.parts[1], "b": made.parts[-2]}),
            described(quote("fig").cost),  # type: ignore[arg-type]
            described("x", {"y z": made.total}),
        ]

    expected = ["apple {'a': 4, 'b': 3}", "None None", "x {'y z': 7}"]
    assert run_sync(parts, db=MemoryStore()).result == expected


def test_an_item_that_is_missing_fails_the_task_that_needs_it():
    @task
    def table() -> dict[str, str]:
        return {"a b": "found"}

    @flow
    def lookup() -> list[str]:
        row = table()
        return [described.options(name="good")(row["a b"]), described.options(name="bad")(row["c"])]

    outcome = run_sync(lookup, db=MemoryStore())
    assert outcome.status is TaskStatus.FAILED
    assert outcome.results["good"] == "found None"
    assert outcome.error is not None
    assert outcome.error.startswith("task bad: ")
    assert "finds nothing in the result of" in outcome.error


def test_a_result_is_of_the_type_that_the_flow_declares():
    @flow
    def sums() -> list[Sum]:
        return [summed([price("apple")])]

    assert run_sync(sums, db=MemoryStore()).result == [Sum(total=3, parts=[3])]

    @flow
    def liar() -> Quote:
        return summed([1])  # type: ignore[return-value]

    with pytest.raises(ValidationError, match=r"The result of .*liar is not what it declares"):
        _ = run_sync(liar, db=MemoryStore()).result


def test_the_result_of_a_failed_run_raises_and_the_others_are_there():
    outcome = run_sync(basket.build("apple", "fig"), db=MemoryStore())
    assert (outcome.status, outcome.error) == (TaskStatus.FAILED, "task price-2: 'fig'")
    assert dict(outcome.results) == {"price": 3}
    with pytest.raises(RunFailedError, match=r"is failed: task price-2: 'fig'"):
        _ = outcome.result


def test_tasks_whose_results_are_not_used_end_before_the_flow():
    order: list[str] = []

    @task
    def note(name: str) -> None:
        order.append(name)

    @flow
    def notes() -> None:
        one = note("one")
        note.options(after=[one])("two")
        note("three") if False else None

    tree = notes.build()
    assert tree.to_array()[0]["dependencies"] == ["note-2"]
    assert run_sync(tree, db=MemoryStore()).result is None
    assert order == ["one", "two"]


def test_tasks_of_a_flow_can_be_skipped_and_the_flow_still_ends():
    called: list[str] = []

    @task
    def step(name: str) -> str:
        called.append(name)
        return name

    @flow
    def guarded() -> list[str | None]:
        one = step("one")
        two = step.options(after=[one], when="step == 'one'")("two")
        three = step.options(after=[one], when="step == 'two'")("three")
        return [two, three, step.options(trigger="always", after=[three])("four")]

    assert run_sync(guarded, db=MemoryStore()).result == ["two", None, "four"]
    assert sorted(called) == ["four", "one", "two"]


def test_an_iterator_of_results_is_a_list():
    @flow
    def all_of() -> Sum:
        return summed(price(fruit) for fruit in PRICES)  # type: ignore[arg-type]

    assert run_sync(all_of, db=MemoryStore()).result.total == 7


def test_a_name_is_used_once():
    @flow
    def twice() -> None:
        price.options(name="same")("apple")
        price.options(name="same")("pear")

    with pytest.raises(FlowError, match="Two tasks of one flow are called 'same'"):
        twice.build()


USES: dict[str, Callable[[Any], Any]] = {
    "calculated with": lambda value: value + 1,
    "calculated  with": lambda value: 1 - value,
    "tested or compared": lambda value: value == 3,
    "tested  or compared": lambda value: 1 if value else 2,
    "iterated over": list,
    "formatted as text": lambda value: f"{value}",
    "formatted  as text": str,
    "called": lambda value: value.upper(),
    "sliced": lambda value: value[1:2],
}


@pytest.mark.parametrize("done", USES)
def test_a_result_cannot_be_used_before_it_is_known(done: str):
    @flow
    def early() -> None:
        USES[done](price("apple"))

    words = " ".join(done.split())
    with pytest.raises(FlowError, match=rf"The result of price\(\).* cannot be {words} here"):
        early.build()


def test_wrong_arguments_are_refused_before_anything_is_stored():
    @flow
    def wrong_type() -> None:
        price([1])  # type: ignore[arg-type]

    @flow
    def wrong_call() -> None:
        price("a", "b")  # type: ignore[call-arg]

    with pytest.raises(
        ValidationError, match=r"price.. is called with wrong arguments: fruit: Input should be a"
    ):
        wrong_type.build()
    with pytest.raises(TypeError, match=r"price.. cannot be called so: too many positional arguments"):
        wrong_call.build()
    with pytest.raises(TypeError, match="cannot be called so"):
        dinner.build(1, 2)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match=r"inputs.guests: Input should be a valid integer"):
        dinner.build_from({"guests": "many"})


def test_a_result_of_another_flow_is_refused():
    kept: list[Any] = []

    @flow
    def one() -> None:
        kept.append(price("apple"))

    @flow
    def other() -> int:
        return total(kept[0])

    one.build()
    with pytest.raises(FlowError, match="belongs to another flow"):
        other.build()


def test_results_beside_what_is_not_json_are_refused():
    @flow
    def mixed() -> None:
        summed([price("apple"), object()])  # type: ignore[list-item]

    with pytest.raises(FlowError, match="beside a object, which is not JSON"):
        mixed.build()


def test_a_flow_is_a_plain_function():
    async def work() -> None: ...

    with pytest.raises(InvalidInputError, match="async or a generator"):
        flow(work)


async def test_run_sync_works_while_an_event_loop_runs_in_the_thread(db: TaskStore):
    outcome = run_sync(basket.build("apple"), db=db)
    assert outcome.result == 3
    assert (await run_flow(basket.build("pear"), db=db)).result == 4


def test_run_sync_works_in_threads(db: TaskStore):
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(run_sync(basket.build("apple", "pear"), db=db).result))
        for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == [7] * 8


def test_run_sync_takes_arrays_and_builders():
    array = [
        {"id": "q", "name": "sum", "schemas": {"method": total.id}, "inputs": {"prices": [1, {"$from": "p"}]}}
        | {"dependencies": ["p"]},
        {"id": "p", "name": "one", "schemas": {"method": price.id}, "inputs": {"fruit": "pear"}}
        | {"parent_id": "q"},
    ]
    outcome = run_sync(array, db=MemoryStore())
    assert (outcome.result, dict(outcome.results)) == (5, {"q": 5, "p": 4})
    builder = TaskBuilder("q", executor=total.id, inputs={"prices": [2, 2]}, user_id="ada")
    assert run_sync(builder, db=MemoryStore()).results["q"] == 4
    with pytest.raises(TreeInvalidError):
        run_sync([], db=MemoryStore())


def test_results_by_name_hold_when_the_given_ids_are_taken():
    db = MemoryStore()
    array = [{"id": "q", "name": "sum", "schemas": {"method": total.id}, "inputs": {"prices": [1]}}]
    assert [run_sync(array, db=db).results["q"] for _ in range(2)] == [1, 1]


def interrupt_the_process() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_this_thread() -> None:
    """Do what the system may do with a signal for the process, which does not wake the main thread."""
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@pytest.mark.parametrize("send", [interrupt_the_process, interrupt_this_thread])
async def test_an_interrupted_run_sync_cancels_the_tree(send: Callable[[], None]):
    started, ended = threading.Event(), threading.Event()

    @task
    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def interrupt() -> None:
        started.wait(30)
        send()

    @flow
    def waiting() -> None:
        wait()

    db = MemoryStore()
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_sync(waiting, db=db)
    assert ended.is_set()


@task
def fruits_of(day: str) -> list[str]:
    return ["pear", "apple", *([day] if day != "monday" else [])]


@task
def times(fruit: str, factor: int, day: str = "") -> str:
    return f"{PRICES[fruit] * factor}{day}"


def test_a_function_is_mapped_over_the_result_of_another():
    @flow
    def week(day: str) -> dict[str, Any]:
        fruits = fruits_of(day)
        mapped = times.map(fruits, 2, day=fruits[0])
        return {"all": mapped, "second": mapped[1], "fixed": times.map(["apple"], 10)}

    outcome = run_sync(week.build("monday"), db=MemoryStore())
    assert outcome.result == {"all": ["8pear", "6pear"], "second": "6pear", "fixed": ["30"]}
    assert outcome.results["times[1]"] == "6pear"
    assert times.map(["apple"], 10) == ["30"]


def test_options_bound_a_map_and_only_lists_are_mapped():
    @flow
    def bounded(day: str) -> Any:
        return times.options(for_each={"allow_failures": 1}).map(fruits_of(day), 2)

    assert run_sync(bounded.build("sunday"), db=MemoryStore()).result == ["8", "6", None]

    @flow
    def of_text() -> Any:
        return times.map("apple", 2)

    with pytest.raises(FlowError, match="`map` takes a list"):
        run_sync(of_text, db=MemoryStore())
