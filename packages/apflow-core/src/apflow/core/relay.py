"""Running many coroutines in few asyncio tasks: those that never wait share one.

An asyncio task costs more than a short coroutine does. So a task takes one coroutine after the other until
one waits: that one keeps the task, and the others go on in a new one. Each coroutine runs in one task from
beginning to end, and none sees what another has put into a context variable, or runs in a task that another
has kept a reference to: it may cancel that task later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from sys import getrefcount
from types import CoroutineType
from typing import Any, Protocol, cast

from apflow.core.fence import enter_code

# What is to be run, given the task that it runs in, under the name that the task has while it waits.
Named = tuple[str, Callable[["asyncio.Task[Any]"], Coroutine[Any, Any, None]]]


class Group(Protocol):
    """What tasks are created in."""

    def create_task(
        self, coroutine: Coroutine[Any, Any, None], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Run a coroutine in a new task."""
        ...


def start(group: Group, waiting: deque[Named], context: Context | None = None) -> None:
    """Run these as tasks of a group, in order."""
    group.create_task(_run(group, waiting), name=waiting[0][0], context=context)


async def _run(group: Group, waiting: deque[Named]) -> None:
    enter_code()
    context = copy_context()
    current = cast("asyncio.Task[Any]", asyncio.current_task())  # asked once: it may cost a system call
    references = getrefcount(current)
    while waiting:
        name, make = waiting.popleft()
        coroutine = cast("CoroutineType[Any, Any, None]", make(current))
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            del coroutine
            if waiting and (getrefcount(current) > references or copy_context() != context):
                start(group, waiting, context)
                return
            continue
        if waiting:
            start(group, waiting, context)
            waiting = deque[Named]()
        current.set_name(name)
        await Begun(coroutine, waits_for)


class Begun:
    """A coroutine that has run up to its first wait in the present task: awaiting it goes on from there."""

    __slots__ = ("_coroutine", "_is_first", "_waits_for")

    def __init__(self, coroutine: CoroutineType[Any, Any, Any], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._is_first = True

    def __await__(self) -> Generator[Any, Any, Any]:
        return cast("Generator[Any, Any, Any]", self)

    def __iter__(self) -> Begun:
        return self

    def __next__(self) -> object:
        return self.send(None)

    def send(self, value: object) -> object:
        """Hand on what it waits for; from then on, go on with the coroutine."""
        if self._is_first:
            self._is_first = False
            return self._waits_for
        return self._coroutine.send(value)

    def throw(self, error: BaseException, *_: object) -> object:
        """Let an error, a cancellation above all, arrive where the coroutine waits."""
        return self._coroutine.throw(error)

    def close(self) -> None:
        """End the coroutine."""
        self._coroutine.close()
