"""What the code of a task can ask about its run: in a function or a class, a thread or a coroutine."""

from __future__ import annotations

from collections.abc import Mapping

from apflow.core.extensions.calling import running_executor
from apflow.core.extensions.executor import NO_RESULTS, ExecutableTask
from apflow.core.model.task import Json


class TaskContext:
    """The run of a task. Outside of a run, everything is empty and reports go nowhere.

    Args:
        executor: the executor that runs; None outside of a run.
    """

    __slots__ = ("_executor",)

    def __init__(self, executor: ExecutableTask | None) -> None:
        self._executor = executor

    @property
    def task_id(self) -> str | None:
        """The id of the task."""
        return self._executor.task_id if self._executor else None

    @property
    def root_task_id(self) -> str | None:
        """The id of the root of its tree."""
        return self._executor.root_task_id if self._executor else None

    @property
    def user_id(self) -> str | None:
        """The owner of the task."""
        return self._executor.user_id if self._executor else None

    @property
    def attempt(self) -> int:
        """The number of this attempt; 1 is the first."""
        return self._executor.attempts if self._executor else 0

    @property
    def idempotency_key(self) -> str | None:
        """A key that all attempts at this piece of work share, also after a crash."""
        return self._executor.idempotency_key if self._executor else None

    @property
    def dependency_results(self) -> Mapping[str, Json]:
        """The results of the completed dependencies by id."""
        return self._executor.dependency_results if self._executor else NO_RESULTS

    async def saved_state(self) -> Json:
        """Return the state that this attempt continues from; see `ExecutableTask.saved_state`."""
        return await self._executor.saved_state() if self._executor else None

    async def save_state(self, state: Json) -> None:
        """Save a state from which another attempt continues; see `ExecutableTask.save_state`."""
        if self._executor is not None:
            await self._executor.save_state(state)

    def saved_state_sync(self) -> Json:
        """Do what `saved_state` does in code that runs in a thread; see `ExecutableTask.saved_state_sync`."""
        return self._executor.saved_state_sync() if self._executor else None

    def save_state_sync(self, state: Json) -> None:
        """Do what `save_state` does in code that runs in a thread; see `ExecutableTask.save_state_sync`."""
        if self._executor is not None:
            self._executor.save_state_sync(state)

    def is_cancelled(self) -> bool:
        """Return whether the code must end: the task is cancelled, or its time is over."""
        checker = self._executor.cancellation_checker if self._executor else None
        return checker is not None and checker()

    def report_progress(self, fraction: float, message: str | None = None, data: Json = None) -> None:
        """Send a progress event. Does not wait, and may be called in a thread.

        Args:
            fraction: the part of the work that is done, from 0.0 to 1.0.
            message: text for people; None for none.
            data: plain JSON for programs; None for none.
        """
        self._send({"type": "progress", "progress": fraction, "message": message, "data": data})

    def log(self, message: str, data: Json = None) -> None:
        """Send a log event to those who watch the tree. May be called in a thread.

        Args:
            message: one line of text.
            data: plain JSON for programs; None for none.
        """
        self._send({"type": "log", "message": message, "data": data})

    def _send(self, event: dict[str, Json]) -> None:
        if self._executor is not None and self._executor.event_queue is not None:
            self._executor.event_queue.put_nowait({"task_id": self._executor.task_id, **event})


def get_task_context() -> TaskContext:
    """Return the run of the task whose code calls this."""
    return TaskContext(running_executor.get())
