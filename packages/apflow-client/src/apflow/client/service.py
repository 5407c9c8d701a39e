"""The operations of a server with the interface of `TaskService`: code for one works with the other."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Protocol, cast

from apflow.client.call import without_defaults
from apflow.core.errors import ApflowError
from apflow.core.model.task import GROUP, Json, Task
from apflow.core.model.tolerance import tolerated
from apflow.core.service.operations import OPERATIONS, Operation
from apflow.core.service.task_service import TaskService
from apflow.core.service.trees import as_array

CANCEL: Final = 3.0  # seconds that a server has to cancel a run


class OperationsClient(Protocol):
    """A client of another process, by any transport."""

    @property
    def url(self) -> str:
        """The address of the process, or its name in messages."""
        ...

    async def call(self, name: str, params: Mapping[str, Json] | None = None) -> Json:
        """Call an operation by name and return its result."""

    def events(self, task_id: str, after: int | None = None) -> AsyncGenerator[dict[str, Json], None]:
        """Yield the events of a task's tree until the final event."""
        ...

    def log_lines(
        self, task_id: str, *, attempt: int | None = None, after: int = 0, level: str | None = None
    ) -> AsyncGenerator[dict[str, Json], None]:
        """Yield what a task and its descendants have logged, and then log until the run has ended."""
        ...

    async def backup(self, path: Path) -> None:
        """Write a consistent copy of the database to a new file of this machine."""

    async def end_of(self, executed: Mapping[str, Json]) -> dict[str, Json]:
        """Follow a requested run until it has ended, and return its outcome."""
        ...


class RemoteService(TaskService):
    """The operations of one server. Results are plain JSON; errors are those of the core.

    The operations of the table get their methods below; the class defines the other methods of `TaskService`.
    """

    def __init__(self, client: OperationsClient) -> None:
        self.client = client

    async def watch(self, task_id: str, after: int | None = None) -> AsyncGenerator[dict[str, Json], None]:
        """Yield the events of a task's tree until the final event."""
        async with aclosing(self.client.events(task_id, after)) as events:
            async for event in events:
                yield event

    async def follow_logs(
        self, task_id: str, *, attempt: int | None = None, after: int = 0, level: str | None = None
    ) -> AsyncGenerator[dict[str, Json], None]:
        """Yield what a task and its descendants have logged, and then log until the run has ended."""
        following = self.client.log_lines(task_id, attempt=attempt, after=after, level=level)
        async with aclosing(following) as lines:
            async for line in lines:
                yield line

    async def backup(self, path: Path) -> None:
        """Write a consistent copy of the database to a new file of this machine."""
        await self.client.backup(path)

    async def run(
        self,
        task_id: str,
        *,
        force: bool = False,
        no_cache: bool = False,
        webhook_config: Mapping[str, Json] | None = None,
    ) -> dict[str, Json]:
        """Run a stored task on the server and wait for the end. Cancelling the call cancels the run.

        If the server does not cancel the run in time, a note on the `CancelledError` says so.
        """
        given = {
            "task_id": task_id,
            "force": force,
            "no_cache": no_cache,
            "webhook_config": webhook_config,
        }
        params = without_defaults("tasks.execute", given)
        requesting = asyncio.ensure_future(self.client.call("tasks.execute", params))
        try:
            executed = await asyncio.shield(requesting)
            done = await self.client.end_of(executed)
        except asyncio.CancelledError as stopped:
            await self._cancel(task_id, requesting, stopped)
            raise
        known = ("task_id", "status", "progress", "root_task_id", "result", "error")
        failures = tolerated_in(await self.client.call("tasks.tree", {"task_id": task_id}))
        registered = {name: executed[name] for name in ("webhook_id", "webhook_secret") if name in executed}
        return {name: done[name] for name in known} | {"tolerated": failures} | registered

    async def _cancel(
        self, task_id: str, requesting: asyncio.Future[Json], stopped: asyncio.CancelledError
    ) -> None:
        """Cancel a run after its request has been answered; do nothing if the server refused it."""
        try:
            async with asyncio.timeout(CANCEL):
                await requesting
                await self.client.call("tasks.cancel", {"task_ids": [task_id], "force": True})
        except TimeoutError:
            stopped.add_note(
                f"The run may continue at {self.client.url}: no answer within {CANCEL:g} seconds."
            )
        except ApflowError as error:
            stopped.add_note(f"The run may continue at {self.client.url}: {error}")


def tolerated_in(root: Mapping[str, Json]) -> list[str]:
    """Return the IDs of the failed tasks of a nested tree that the tree tolerates."""
    tasks: list[Task] = []
    waiting = [root]
    while waiting:
        shown = waiting.pop()
        is_named = bool(shown["schemas"].get("method") or shown["params"].get("executor_id"))
        tasks.append(
            Task(
                id=shown["id"],
                name=shown["name"],
                root_id=shown["root_id"],
                parent_id=shown["parent_id"],
                status=shown["status"],
                dependencies=shown["dependencies"],
                result=shown["result"],
                has_children=shown["has_children"],
                executor=GROUP if shown["has_children"] and not is_named else None,
            )
        )
        waiting.extend(reversed(cast("list[Mapping[str, Json]]", shown["children"])))
    uncounted = tolerated(tasks)
    return [task.id for task in tasks if task.id in uncounted and task.status == "failed"]


def _calling(operation: Operation) -> Callable[..., Any]:
    signature = inspect.signature(operation.function)

    async def call(self: RemoteService, *args: Any, **kwargs: Any) -> Json:
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        del given["self"]
        if given.get("tasks") is not None:
            as_array(given["tasks"])  # so that the error is that of a local database
        return await self.client.call(operation.name, without_defaults(operation.name, given))

    call.__name__, call.__doc__ = operation.method, operation.function.__doc__
    return call


for _operation in OPERATIONS.values():
    if _operation.method not in vars(RemoteService):
        setattr(RemoteService, _operation.method, _calling(_operation))
