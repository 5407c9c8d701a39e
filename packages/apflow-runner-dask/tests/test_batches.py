"""Calls go to the scheduler in batches."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from distributed import Client

from apflow.core.extensions.executor_call import ExecutorCall
from apflow.core.settings import get_settings
from apflow.runner.dask import DaskRunner, runner
from apflow.runner.dask.call_service import key_of
from apflow.runner.dask.cluster import address_of


def a_call(call_id: str) -> ExecutorCall:
    """Return a call that the worker refuses."""
    return ExecutorCall(id=call_id, executor_id="none", import_path="none:None", task={})


async def histories(call_ids: list[str]) -> list[int]:
    """Return how many steps of the Dask task of each call the scheduler has seen."""

    def steps(dask_scheduler: Any) -> list[int]:
        return [len(dask_scheduler.story(key_of(each))) for each in call_ids]

    address = await asyncio.to_thread(address_of, get_settings())
    async with Client(address, asynchronous=True, set_as_default=False) as client:
        return await client.run_on_scheduler(steps)


@pytest.mark.usefixtures("local_cluster")
async def test_a_call_that_is_cancelled_while_it_waits_is_not_submitted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "SUBMIT_SECONDS", 1.0)
    used = DaskRunner()
    try:
        with suppress(Exception):
            await used.run(a_call("first"), lambda _: None)
        second, third = (asyncio.create_task(used.run(a_call(each), lambda _: None)) for each in ("b", "c"))
        await asyncio.sleep(0.1)
        second.cancel()
        await asyncio.wait({second, third}, timeout=60)
        assert second.cancelled()
        first_steps, second_steps, third_steps = await histories(["first", "b", "c"])
        assert first_steps > 0
        assert third_steps > 0
        assert second_steps == 0
    finally:
        await used.close()
