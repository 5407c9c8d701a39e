"""What the calls of one run share to start trees inside of the run; see `child_trees`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.model.task import Task
from apflow.core.store.base import TaskStore, TransitionResult


class Places(Protocol):
    """Where calls return their places while they wait; see `CallLimiter`."""

    def lend(self, task: Task, to: object) -> None:
        """Return the places of a call."""
        ...

    async def take_back(self, task: Task, to: object, is_wanted: Callable[[], bool]) -> None:
        """Wait for the places again."""
        ...

    def begin(self, task: Task) -> None:
        """Record that the call of a task with a limit begins now."""
        ...


class NestedDriver(Protocol):
    """Runs trees of a store; see `Driver`."""

    store: TaskStore

    async def run_nested(
        self,
        root_id: str,
        *,
        depth: int,
        releases: Callable[[], bool],
        named_id: str | None = None,
        force: bool = False,
        resume_only: bool = False,
        on_read: Callable[[list[Task]], object] | None = None,
    ) -> list[Task] | None:
        """Run a tree in the present asyncio task's name; `releases`: whether a cancellation releases it."""
        ...

    async def cancel_tree(self, root_id: str, message: str) -> None:
        """Cancel a tree and wait, for a limited time, until its code has ended."""
        ...

    def drain_tree(self, root_id: str, seconds: float) -> None:
        """Drain the run of a tree in this process, if there is one."""
        ...


@dataclass(slots=True)
class NestingContext:
    """What the calls of one run share to start trees."""

    driver: NestedDriver
    patience: float | None
    depth: int  # of the run: how many trees it is inside of
    is_draining: bool = False
    # Set when a run begins.
    owner: str | None = None
    loop: asyncio.AbstractEventLoop = field(init=False)
    tasks: Mapping[str, Task] = field(init=False)
    places: Places = field(init=False)
    end_attempt: Callable[[str], object] = field(init=False)
    is_over: Callable[[], bool] = field(init=False)
    effect: Callable[[Task], str] = field(init=False)
    publish_stored: Callable[[TransitionResult], object] = field(init=False)

    def join(
        self,
        owner: str | None,
        tasks: Mapping[str, Task],
        places: Places,
        end_attempt: Callable[[str], object],
        is_over: Callable[[], bool],
        effect: Callable[[Task], str],
        publish_stored: Callable[[TransitionResult], object],
    ) -> None:
        """Connect to a run."""
        self.loop = asyncio.get_running_loop()
        self.owner, self.tasks, self.places = owner, tasks, places
        self.end_attempt, self.is_over, self.effect = end_attempt, is_over, effect
        self.publish_stored = publish_stored


class Nested:
    """A tree whose end the code of the attempt awaits."""

    __slots__ = ("done", "loop", "root_id", "waiter")

    def __init__(self, root_id: str) -> None:
        self.root_id = root_id
        self.loop = asyncio.get_running_loop()
        self.waiter = asyncio.current_task()
        self.done: Future[None] = Future()

    def cancel(self) -> None:
        """Cancel the code that waits. Thread-safe."""
        if self.waiter is not None:
            call_in_loop(self.loop, self.waiter.cancel, "the task has ended")
