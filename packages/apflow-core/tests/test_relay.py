"""Running coroutines in few asyncio tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar
from typing import Any

import pytest

from apflow.core.concurrency import eager_tasks

seen: ContextVar[str] = ContextVar("seen", default="nothing")


async def run(*coroutines: Any) -> None:
    async with asyncio.TaskGroup() as group:
        eager_tasks.start(group, deque((each.__name__, lambda _, each=each: each()) for each in coroutines))


async def test_what_never_waits_shares_one_task_in_order():
    tasks: list[int] = []

    async def quick() -> None:
        tasks.append(id(asyncio.current_task()))

    await run(quick, quick, quick)
    assert len(tasks) == 3 and len(set(tasks)) == 1


async def test_what_sets_a_context_variable_and_resets_it_shares_one_task():
    tasks: set[int] = set()

    async def quick() -> None:
        token = seen.set("mine")
        tasks.add(id(asyncio.current_task()))
        seen.reset(token)

    await run(*[quick] * 5)
    assert len(tasks) == 1


async def test_what_keeps_a_reference_to_its_task_shares_it_with_no_later_coroutine():
    """Such as `call_later(1, current_task().cancel)`: a watchdog that outlives what it watches."""
    tasks: list[Any] = []

    async def keeps() -> None:
        tasks.append(asyncio.current_task())

    await run(keeps, keeps, keeps)
    assert len(tasks) == 3 and len(set(tasks)) == 3


async def test_a_waiting_coroutine_keeps_its_task_and_does_not_delay_others():
    order: list[str] = []
    release = asyncio.Event()

    async def waits() -> None:
        first = asyncio.current_task()
        await release.wait()
        assert asyncio.current_task() is first
        order.append("waited")

    async def quick() -> None:
        order.append("quick")
        release.set()

    await run(waits, quick)
    assert order == ["quick", "waited"]


async def test_a_context_variable_is_not_visible_to_other_tasks():
    found: list[str] = []

    async def sets() -> None:
        found.append(seen.get())
        seen.set("mine")

    async def sets_and_waits() -> None:
        await sets()
        await asyncio.sleep(0)
        found.append(seen.get())

    await run(sets, sets, sets_and_waits, sets)
    assert sorted(found) == ["mine", "nothing", "nothing", "nothing", "nothing"]
    assert seen.get() == "nothing"


async def test_values_of_context_variables_are_not_compared():
    class Array:
        """As those of numpy, which have no truth value."""

        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    variable: ContextVar[Array] = ContextVar("array")
    variable.set(Array())
    done: list[None] = []

    async def sets() -> None:
        variable.set(Array())
        done.append(None)

    await run(sets, sets, sets)
    assert len(done) == 3


async def test_a_timeout_and_a_task_group_inside_belong_to_what_opened_them():
    told: list[str] = []

    async def slow() -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        except TimeoutError:
            told.append("timeout")

    async def groups() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        told.append("group")

    await run(slow, groups, slow)
    assert sorted(told) == ["group", "timeout", "timeout"]


async def test_cancelling_what_waits_reaches_it_alone():
    ended: list[str] = []
    tasks: dict[str, Any] = {}

    async def waits() -> None:
        name = f"{len(tasks)}"
        tasks[name] = asyncio.current_task()
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            ended.append(f"cancelled {name}")
            return
        ended.append(f"done {name}")

    async def cancels() -> None:
        tasks["0"].cancel()

    await run(waits, waits, cancels)
    assert sorted(ended) == ["cancelled 0", "done 1"]


async def test_an_error_ends_the_group():
    async def fails() -> None:
        raise LookupError("nothing here")

    with pytest.raises(ExceptionGroup) as raised:
        await run(fails)
    assert isinstance(raised.value.exceptions[0], LookupError)
