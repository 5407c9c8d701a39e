"""Work that is finished although its caller is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from apflow.core.concurrency.completion import finish


async def test_work_ends_before_a_cancellation_goes_on_however_often_it_is_requested():
    goes_on, done = asyncio.Event(), list[str]()

    async def work() -> str:
        await goes_on.wait()
        done.append("work")
        return "result"

    caller = asyncio.create_task(finish(work(), "work"))
    for _ in range(3):
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == ["work"]


async def test_without_a_cancellation_the_result_or_the_error_is_that_of_the_work():
    async def work(is_good: bool) -> int:
        if not is_good:
            raise ValueError("bad")
        return 1

    assert await finish(work(True), "work") == 1
    with pytest.raises(ValueError, match="bad"):
        await finish(work(False), "work")


async def test_an_error_of_work_whose_caller_is_cancelled_is_logged(caplog: pytest.LogCaptureFixture):
    async def work() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("lost")

    caller = asyncio.create_task(finish(work(), "the work"))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert "the work failed while its caller was cancelled: lost" in caplog.text
