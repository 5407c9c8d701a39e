import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core.model.task import Task
from apflow.core.settings import reset_settings
from apflow.executor.aggregate import AggregateError, AggregateResultsExecutor, AggregateTooLargeError


@pytest.fixture(autouse=True)
def default_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("APFLOW_MAX_RESULT_BYTES", raising=False)
    reset_settings()
    yield
    reset_settings()


async def aggregate(results: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    executor = AggregateResultsExecutor()
    executor.dependency_results = results
    return await executor.execute(inputs)


async def test_results_are_collected_by_dependency_in_order():
    answer = await aggregate({"b": {"x": 1}, "a": None})
    assert list(answer["results"].items()) == [("b", {"x": 1}), ("a", None)]
    assert answer["result_count"] == 2
    assert answer["summary"] == "Collected the results of 2 of 2 dependencies."
    assert answer["timestamp"].endswith("+00:00")


async def test_without_dependencies_the_collection_is_empty():
    assert (await AggregateResultsExecutor().execute({}))["results"] == {}


async def test_the_summary_tells_of_optional_dependencies_without_result():
    executor = AggregateResultsExecutor()
    executor.stored_task = Task(id="t", name="n", root_id="t")
    executor.stored_task.dependencies = [{"id": "a", "required": True}, {"id": "b", "required": False}]
    executor.dependency_results = {"a": 1}
    assert (await executor.execute({}))["summary"] == "Collected the results of 1 of 2 dependencies."


async def test_merging_makes_one_object_and_the_later_wins():
    answer = await aggregate({"a": {"x": 1, "y": 1}, "b": None, "c": {"y": 2}}, mode="merge")
    assert answer["results"] == {"x": 1, "y": 2}
    assert answer["result_count"] == 3


async def test_what_is_no_object_cannot_be_merged():
    with pytest.raises(AggregateError, match=r"'b' is of type list.*concat"):
        await aggregate({"a": {"x": 1}, "b": [1]}, mode="merge")


async def test_joining_makes_one_list():
    answer = await aggregate({"a": [1, 2], "b": {"x": 1}, "c": None, "d": []}, mode="concat")
    assert answer["results"] == [1, 2, {"x": 1}]


async def test_a_path_takes_a_part_of_each():
    results = {"a": {"rows": [{"n": 1}, {"n": 2}]}, "b": {"rows": [{"n": 3}]}, "c": {}}
    assert (await aggregate(results, path="rows[].n"))["results"] == {"a": [1, 2], "b": [3], "c": None}
    assert (await aggregate(results, path="rows[].n", mode="concat"))["results"] == [1, 2, 3]


@pytest.mark.parametrize("path", ["rows[", "", "no_such_function(@)", "length(@.n)"])
async def test_a_path_that_cannot_be_followed_fails_clearly(path: str):
    with pytest.raises(AggregateError, match="`path`"):
        await aggregate({"a": {"n": 1}}, path=path)


async def test_the_results_of_the_dependencies_are_not_changed():
    results: dict[str, Any] = {"a": {"x": [1]}, "b": {"x": [2]}}
    before = json.dumps(results)
    for mode in ("collect", "merge", "concat"):
        await aggregate(results, mode=mode)
    assert json.dumps(results) == before


async def test_100000_results_are_aggregated_in_time_in_proportion_to_their_number():
    async def seconds(count: int) -> float:
        results = {f"task-{number:06}": {"value": number} for number in range(count)}
        began = time.process_time()
        answer = await aggregate(results)
        taken = time.process_time() - began
        assert answer["result_count"] == len(answer["results"]) == count
        return taken

    # Ten times as many results; the square of that would be 100.
    few = max([await seconds(10_000) for _ in range(3)])
    assert min([await seconds(100_000) for _ in range(3)]) < 40 * few


async def test_more_than_one_result_may_hold_fails_and_says_what_to_do():
    results = {f"task-{number:06}": "x" * 100 for number in range(100_000)}
    with pytest.raises(AggregateTooLargeError, match=r"100000 results take 11\.\d MiB.*`path`"):
        await aggregate(results)
    assert (await aggregate(results, path="length(@)"))["results"]["task-000000"] == 100
