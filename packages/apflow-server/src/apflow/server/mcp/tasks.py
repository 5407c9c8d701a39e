"""The extension for tasks (SEP-2663): a call that takes long is answered with a task, which the client polls.

https://github.com/modelcontextprotocol/ext-tasks/blob/main/specification/2026-07-28/tasks.md
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final, Protocol, TypeVar

from apflow.core.errors import ApflowError
from apflow.core.model.task import Json
from apflow.server.http.api_error import ApiError
from apflow.server.mcp.exchange import (
    INVALID_PARAMS,
    Exchange,
    Handler,
    ProtocolError,
    missing_extension,
)

logger = logging.getLogger(__name__)

EXTENSION: Final = "io.modelcontextprotocol/tasks"
MAX_SHOWN: Final = 100  # characters of an unknown ID
MAX_FOLLOWED: Final = 100  # tasks of one subscription

T = TypeVar("T")
Notify = Callable[[dict[str, Json]], Awaitable[object]]


class TaskSource(Protocol):
    """Has tasks. A task that the caller may not see is one that does not exist."""

    async def get(self, exchange: Exchange, task_id: str) -> dict[str, Json] | None:
        """Return the state of a task, as on the wire; None if there is no such task."""
        ...

    def follow(self, exchange: Exchange, task_id: str) -> AsyncGenerator[dict[str, Json], None]:
        """Yield the state of a task, now and after changes, until it has ended; nothing without a task."""
        ...

    async def update(self, exchange: Exchange, task_id: str, responses: Mapping[str, Json]) -> bool:
        """Take responses to what a task asks, by key; return whether there is such a task."""
        ...

    async def cancel(self, exchange: Exchange, task_id: str) -> bool:
        """Request that a task is cancelled; return whether there is such a task."""
        ...


class Tasks:
    """The handlers of the methods of the extension.

    Args:
        sources: each has tasks.
    """

    def __init__(self, sources: Sequence[TaskSource]) -> None:
        self._sources = sources
        self.by_method: Mapping[str, Handler] = {
            "tasks/get": self.get,
            "tasks/update": self.update,
            "tasks/cancel": self.cancel,
        }

    async def get(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        """Return the state of a task."""
        return await self._first(exchange, params, lambda source, task_id: source.get(exchange, task_id))

    async def update(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        """Give a task responses to what it asks. Those that it does not ask for are ignored."""
        given: Mapping[str, Json] = params.get("inputResponses") or {}
        await self._first(exchange, params, lambda source, task_id: source.update(exchange, task_id, given))
        return {}

    async def cancel(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        """Request that a task is cancelled. It may end in another way before."""
        await self._first(exchange, params, lambda source, task_id: source.cancel(exchange, task_id))
        return {}

    @asynccontextmanager
    async def watching(
        self, exchange: Exchange, task_ids: Sequence[str], notify: Notify
    ) -> AsyncGenerator[list[str], None]:
        """Notify of the states of tasks while the context lasts; yield those tasks that the caller has.

        Raises:
            ProtocolError: the client does not declare the extension.
        """
        if task_ids and EXTENSION not in exchange.extensions:
            raise missing_extension(EXTENSION)
        following: dict[str, asyncio.Task[None]] = {}
        try:
            for task_id in list(dict.fromkeys(task_ids))[:MAX_FOLLOWED]:
                source = await self._source_of(exchange, task_id)
                if source is not None:
                    notifying = _notify(source.follow(exchange, task_id), notify)
                    following[task_id] = asyncio.create_task(notifying, name="apflow:mcp:task")
            yield list(following)
        finally:
            for each in following.values():
                each.cancel()

    async def _source_of(self, exchange: Exchange, task_id: str) -> TaskSource | None:
        """Return the source that has a task; None where the caller has no such task."""
        for source in self._sources:
            if await source.get(exchange, task_id) is not None:
                return source
        return None

    async def _first(
        self,
        exchange: Exchange,
        params: Mapping[str, Json],
        ask: Callable[[TaskSource, str], Awaitable[T | None]],
    ) -> T:
        """Return what the first source answers that has the task.

        Raises:
            ProtocolError: the client does not declare the extension, or there is no such task.
        """
        if EXTENSION not in exchange.extensions:
            raise missing_extension(EXTENSION)
        task_id = str(params["taskId"])
        for source in self._sources:
            answer = await ask(source, task_id)
            if answer:
                return answer
        raise ProtocolError(INVALID_PARAMS, f"Task not found: {task_id[:MAX_SHOWN]}")


async def _notify(states: AsyncGenerator[dict[str, Json], None], notify: Notify) -> None:
    try:
        async with aclosing(states):
            async for state in states:
                await notify(state)
    except (ApflowError, ApiError) as error:  # the tree was deleted, or the database cannot be read
        logger.info("A client is notified of a task no longer: %s", error)
