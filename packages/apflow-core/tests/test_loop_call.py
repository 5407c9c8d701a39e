import asyncio

from apflow.core.concurrency.loop_call import call_in_loop, set_in_loop


async def test_another_thread_reaches_the_loop():
    loop, called, event = asyncio.get_running_loop(), asyncio.Future[str](), asyncio.Event()
    assert await asyncio.to_thread(call_in_loop, loop, called.set_result, "called")
    assert await called == "called"
    assert await asyncio.to_thread(set_in_loop, loop, event)
    await event.wait()


async def test_an_event_of_the_running_loop_is_set_at_once():
    event = asyncio.Event()
    assert set_in_loop(asyncio.get_running_loop(), event)
    assert event.is_set()


async def test_an_event_of_another_loop_is_set_in_that_loop():
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    async def set_there() -> bool:
        return set_in_loop(loop, event)

    assert await asyncio.to_thread(asyncio.run, set_there())
    await event.wait()


def test_a_loop_that_is_closed_is_reported():
    loop, called = asyncio.new_event_loop(), list[str]()
    event = asyncio.Event()
    loop.close()
    assert not call_in_loop(loop, called.append, "called")
    assert not set_in_loop(loop, event)
    assert (called, event.is_set()) == ([], False)
