"""The call of a task's executor that the current code belongs to, and the trees that the code starts.

A context variable holds the call. Asyncio tasks and `asyncio.to_thread` inherit it, so that trees which code
of an executor starts, directly or through a library, are found and belong to the task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from apflow.core.errors import InvalidInputError
from apflow.core.model.results import RunOutcome
from apflow.core.model.task import Json, Task

if TYPE_CHECKING:
    from apflow.core.extensions.model_account import ModelCalls
    from apflow.core.model.approval import Approval, ApprovalRequest

T = TypeVar("T")

Tasks = Sequence[Mapping[str, Any]]


class Described(Protocol):
    """An object that describes a tree, such as `TaskBuilder`."""

    def to_array(self) -> list[dict[str, Json]]:
        """Return the tasks as an array."""
        ...


class RunningCall(Protocol):
    """What the code of an executor can do with trees while its task runs."""

    @property
    def is_live(self) -> bool:
        """Whether the call has not ended."""
        ...

    @property
    def task(self) -> Task:
        """The task, as the run of its tree has it."""
        ...

    @property
    def written_by(self) -> list[dict[str, Json]] | None:
        """The authors of the tree of the task."""
        ...

    @property
    def model_calls(self) -> ModelCalls:
        """The account of the calls of language models that the code makes."""
        ...

    def uses(self, store: object) -> bool:
        """Return whether the tree of the task is in this store."""
        ...

    async def run_child(self, tasks: Tasks | Described, key: str | None) -> RunOutcome:
        """Create a tree that belongs to the task, or find it, and run it."""
        ...

    def run_child_sync(self, tasks: Tasks | Described, key: str | None) -> RunOutcome:
        """Do what `run_child` does, and block the calling thread meanwhile."""
        ...

    async def ask_approval(self, request: ApprovalRequest) -> Approval:
        """Ask for an approval and wait for the decision; see `approval.ask_approval`."""
        ...

    @property
    def is_continued(self) -> bool:
        """Whether the code is ended so that another attempt continues its work."""
        ...

    async def saved_state(self) -> Json:
        """Return what was saved for this attempt; see `ExecutableTask.saved_state`."""
        ...

    async def save_state(self, state: Json) -> None:
        """Save a state for the attempt that continues this one; see `ExecutableTask.save_state`."""
        ...

    def saved_state_sync(self) -> Json:
        """Do what `saved_state` does, and block the calling thread meanwhile."""
        ...

    def save_state_sync(self, state: Json) -> None:
        """Do what `save_state` does, and block the calling thread meanwhile."""
        ...

    async def create_once(
        self,
        tasks: Tasks,
        find: Callable[[str], Awaitable[T | None]],
        create: Callable[[Callable[[str], Sequence[Any]]], Awaitable[tuple[str, T]]],
        *,
        key: str | None = None,
        is_run: bool = False,
    ) -> T:
        """Create a tree, unless an interrupted call of the same task has created it."""
        ...


current_call: ContextVar[RunningCall | None] = ContextVar("apflow_running_call", default=None)


def live_call(store: object) -> RunningCall | None:
    """Return the running call if the current code belongs to one whose tree is in this store."""
    call = current_call.get()
    return call if call is not None and call.is_live and call.uses(store) else None


async def run_child(tasks: Tasks | Described, *, key: str | None = None) -> RunOutcome:
    """Run a tree as a part of the task whose executor calls this; see `ExecutableTask.run_child`."""
    return await _running().run_child(tasks, key)


def run_child_sync(tasks: Tasks | Described, *, key: str | None = None) -> RunOutcome:
    """Run a tree as a part of the task whose executor calls this; see `ExecutableTask.run_child_sync`."""
    return _running().run_child_sync(tasks, key)


def array_of(tasks: Tasks | Described) -> Tasks:
    """Return the tasks of an object that describes a tree, or the tasks themselves."""
    to_array = getattr(tasks, "to_array", None)
    return cast("Tasks", to_array() if callable(to_array) else tasks)


def check_thread(name: str) -> None:
    """Raise `InvalidInputError` if `name` + "_sync" was called on an event loop, which it would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise InvalidInputError(
        f"{name}_sync() was called on an event loop, which it would block. Use `await {name}()`: "
        f"{name}_sync() is for code in threads."
    )


def _running() -> RunningCall:
    call = current_call.get()
    if call is None:
        raise InvalidInputError(NO_TASK)
    return call


NO_TASK = (
    "run_child() was called outside of a task. Call it in the code of an executor while its task runs; "
    "elsewhere, use TaskExecutor().execute_tasks(). A thread that the code starts itself must copy its "
    "context (contextvars.copy_context().run)."
)
