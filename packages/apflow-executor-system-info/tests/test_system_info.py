import asyncio
import json
import threading

import pytest

from apflow.executor.system_info import SystemInfoExecutor
from apflow.executor.system_info.figures import cpu_percents


async def test_all_is_the_default_and_is_plain_json():
    result = await SystemInfoExecutor().execute({})
    assert set(result) == {"resource", "cpu", "memory", "disk", "network", "timestamp"}
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("resource", ["cpu", "memory", "disk", "network"])
async def test_one_resource_is_returned_alone(resource: str):
    result = await SystemInfoExecutor().execute({"resource": resource})
    assert set(result) == {"resource", resource, "timestamp"}
    assert result["resource"] == resource


async def test_the_figures_are_those_of_a_machine():
    result = await SystemInfoExecutor().execute({"resource": "all"})
    assert result["cpu"]["logical_cores"] >= 1
    assert len(result["cpu"]["per_core_percent"]) == result["cpu"]["logical_cores"]
    assert 0 <= result["cpu"]["percent"] <= 100
    assert result["memory"]["total_bytes"] > result["memory"]["used_bytes"] > 0
    assert result["disk"]["total_bytes"] > 0
    assert result["network"]["received_bytes"] >= 0


def test_the_use_of_processors_is_the_share_of_the_time_that_passed():
    assert cpu_percents([(100.0, 50.0), (100.0, 50.0)], [(101.0, 50.25), (102.0, 52.0)]) == [25.0, 100.0]
    assert cpu_percents([(100.0, 50.0)], [(100.0, 50.0)]) == [0.0]


async def test_many_at_once_use_few_threads_and_leave_the_loop_free():
    before = threading.active_count()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await asyncio.gather(*(SystemInfoExecutor().execute({}) for _ in range(20)))
    counting.cancel()
    assert threading.active_count() - before <= 4
    assert turns > 50


async def test_it_does_not_wait_for_ever():
    with pytest.raises(TimeoutError):
        await SystemInfoExecutor().execute({"resource": "cpu", "timeout": 0.001})
