"""`SystemExit` and `KeyboardInterrupt` of users' code do not stop the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from apflow.core.concurrency.exit_fence import EscapedError, create_unfenced, enter_code, guard, run

EXITS = [SystemExit(3), KeyboardInterrupt("by hand")]


async def leave(error: BaseException, *, after: int = 0) -> None:
    for _ in range(after):
        await asyncio.sleep(0)
    raise error


async def in_code(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine as users' code, on a guarded loop."""
    guard(asyncio.get_running_loop())

    async def code() -> Any:
        enter_code()
        return await make()

    async with asyncio.timeout(30):
        return await asyncio.create_task(code())


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("error", EXITS, ids=repr)
async def test_a_task_of_users_code_raises_an_escaped_error(error: BaseException, after: int):
    async def start() -> None:
        await asyncio.create_task(leave(error, after=after))

    with pytest.raises(EscapedError) as raised:
        await in_code(start)
    assert raised.value.error is error
    assert type(error).__name__ in str(raised.value) or str(error) in str(raised.value)


@pytest.mark.parametrize("error", EXITS, ids=repr)
async def test_gather_and_wait_for_raise_it_too(error: BaseException):
    async def gather() -> Any:
        return await asyncio.gather(leave(error), asyncio.sleep(0, "other"), return_exceptions=True)

    escaped, other = await in_code(gather)
    assert isinstance(escaped, EscapedError)
    assert other == "other"

    async def in_time() -> None:
        await asyncio.wait_for(asyncio.create_task(leave(error, after=1)), 30)

    with pytest.raises(EscapedError):
        await in_code(in_time)


async def test_an_exit_raised_while_a_cancellation_is_handled_is_fenced():
    async def exit_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise SystemExit(3) from None

    async def start() -> None:
        task = asyncio.create_task(exit_when_cancelled())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(EscapedError):
        await in_code(start)


async def test_fenced_tasks_return_raise_and_are_cancelled_as_any_task():
    async def work() -> None:
        assert await asyncio.create_task(asyncio.sleep(0, "done")) == "done"
        with pytest.raises(ValueError, match="no"):
            await asyncio.create_task(leave(ValueError("no"), after=1))
        task = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.iscoroutine(task.get_coro())
        assert "Event.wait" in repr(getattr(task.get_coro(), "__qualname__", ""))

    await in_code(work)


async def test_tasks_that_users_code_does_not_create_are_not_fenced():
    made: list[Any] = []

    async def create() -> None:
        made.append(create_unfenced(lambda: asyncio.create_task(asyncio.sleep(0))))
        made.append(asyncio.create_task(asyncio.sleep(0)))
        await asyncio.gather(*made)

    await in_code(create)
    unfenced, fenced = (type(task.get_coro()).__name__ for task in made)
    assert (unfenced, fenced) == ("coroutine", "_Fenced")


async def test_a_task_factory_that_the_loop_has_stays_in_use():
    loop = asyncio.get_running_loop()
    names: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> Any:
        names.append("used")
        return asyncio.Task(coroutine, loop=loop, **more)

    loop.set_task_factory(factory)
    try:
        guard(loop)
        guarded = loop.get_task_factory()
        guard(loop)
        assert loop.get_task_factory() is guarded  # guarded once
        with pytest.raises(EscapedError):
            await in_code(lambda: asyncio.gather(leave(SystemExit(3))))  # type: ignore[arg-type, return-value]
        assert len(names) >= 2
    finally:
        loop.set_task_factory(None)


def test_run_returns_what_the_coroutine_returns():
    assert run(asyncio.sleep(0, "result")) == "result"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("no")], ids=repr)
def test_run_raises_what_the_coroutine_raises(error: BaseException):
    with pytest.raises(type(error)) as raised:
        run(leave(error))
    assert raised.value is error or isinstance(error, KeyboardInterrupt)


def test_a_callback_that_raises_system_exit_is_logged_and_the_loop_continues(
    caplog: pytest.LogCaptureFixture,
):
    def exit_now() -> None:
        raise SystemExit(3)

    async def main() -> str:
        loop = asyncio.get_running_loop()
        for delay in (0, 0.001, 0.002):
            loop.call_later(delay, exit_now)
        await asyncio.sleep(0.02)
        return "continued"

    assert run(main()) == "continued"
    records = [record for record in caplog.records if "SystemExit" in record.getMessage()]
    assert len(records) == 3
    assert all(record.exc_info for record in records)


def test_a_callback_that_raises_keyboard_interrupt_ends_the_run():
    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        asyncio.get_running_loop().call_soon(interrupt)
        await asyncio.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_run_uses_the_loop_of_the_factory():
    made: list[asyncio.AbstractEventLoop] = []

    def factory() -> asyncio.AbstractEventLoop:
        made.append(asyncio.new_event_loop())
        return made[-1]

    async def main() -> bool:
        return asyncio.get_running_loop() is made[0]

    assert run(main(), loop_factory=factory)
    assert made[0].is_closed()


def test_code_in_a_process_of_apflow_cancels_no_task_of_the_process():
    async def code() -> None:
        enter_code()
        own = asyncio.create_task(asyncio.sleep(60))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait({own})
        assert own.cancelled()

    async def main() -> str:
        others = [asyncio.create_task(asyncio.sleep(0.2, "alive")) for _ in range(2)]
        await create_unfenced(lambda: asyncio.create_task(code(), name="apflow:code"))
        return " ".join(await asyncio.gather(*others))

    assert run(main()) == "alive alive"


def test_code_in_another_program_may_cancel_tasks_of_the_program():
    async def code(other: asyncio.Task[None]) -> None:
        enter_code()
        other.cancel()

    async def main() -> bool:
        guard(asyncio.get_running_loop())
        other = asyncio.create_task(asyncio.sleep(60))
        await asyncio.create_task(code(other), name="apflow:code")
        await asyncio.wait({other})
        return other.cancelled()

    assert asyncio.run(main())
