import asyncio
import threading

import pytest

from apflow.core.concurrency.thread_pool import ThreadPool


async def test_a_call_returns_and_raises():
    pool = ThreadPool("test", 1)
    assert await pool.run(lambda: threading.current_thread().name) != threading.current_thread().name
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 // 0)


async def test_so_many_calls_run_at_once_and_no_more():
    pool, barrier, running, most = ThreadPool("test", 3), threading.Barrier(3), [0], [0]
    lock = threading.Lock()

    def call() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        barrier.wait(10)
        with lock:
            running[0] -= 1

    await asyncio.gather(*(pool.run(call) for _ in range(9)))
    assert most == [3]


async def test_a_cancelled_call_is_stopped_and_its_end_waited_for():
    pool, has_begun, is_stopped, has_ended = ThreadPool("test", 1), *(threading.Event() for _ in range(3))

    def call() -> None:
        has_begun.set()
        is_stopped.wait(10)
        has_ended.set()

    running = asyncio.ensure_future(pool.run(call, stop=is_stopped.set))
    await asyncio.to_thread(has_begun.wait, 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert has_ended.is_set()


async def test_a_call_that_waits_for_a_thread_when_it_is_cancelled_never_begins():
    pool, goes_on = ThreadPool("test", 1), threading.Event()
    called: list[str] = []
    first = asyncio.ensure_future(pool.run(lambda: goes_on.wait(10)))
    second = asyncio.ensure_future(pool.run(lambda: called.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    goes_on.set()
    await first
    assert called == []
