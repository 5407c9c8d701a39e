import asyncio

import pytest

from apflow.core.concurrency.timed_wait import wait_up_to


@pytest.mark.parametrize("seconds", [None, 0, -1, 60])
async def test_an_event_that_is_set_is_not_waited_for(seconds: float | None):
    event = asyncio.Event()
    event.set()
    assert await wait_up_to(seconds, event)


@pytest.mark.parametrize("seconds", [0, 0.01])
async def test_a_wait_ends_without_the_event(seconds: float):
    assert not await wait_up_to(seconds, asyncio.Event())


@pytest.mark.parametrize("seconds", [None, 60])
async def test_a_wait_ends_with_the_event(seconds: float | None):
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await wait_up_to(seconds, event)


async def test_a_wait_can_be_cancelled():
    waiting = asyncio.create_task(wait_up_to(60, asyncio.Event()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
