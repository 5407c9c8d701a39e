"""One run on another server: requested, followed to its end, cancelled there when it is no longer wanted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final

from apflow.client import Client
from apflow.core.errors import ApflowError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.executor.apflow.errors import RemoteTreeCancelledError, RemoteTreeFailedError
from apflow.executor.apflow.request import KEY, RemoteRequest, ids_of

logger = logging.getLogger(__name__)

SETTLE: Final = 2.0  # seconds that a request has to be answered when the task here is cancelled
CANCEL: Final = 5.0  # seconds that the server has to cancel

OnEvent = Callable[[Mapping[str, Json]], Awaitable[None]]  # an event, or how the tree stands


@dataclass
class RemoteRun:
    """A run on another server, as the task here drives it."""

    client: Client
    request: RemoteRequest
    is_repeated: bool  # an attempt was made before
    patience: float  # seconds for which the server may be away, once the run is requested
    root_id: str = ""
    task_id: str = ""

    async def begin(self) -> dict[str, Json]:
        """Request the run and return the answer. When this is cancelled, so is what was requested.

        Raises:
            ApflowError: the server refuses, or cannot be reached.
        """
        if self.request.is_watch:
            task: dict[str, Json] = await self.client.call(
                "tasks.get", {"task_id": self.request.params["task_id"]}
            )
            self.root_id, self.task_id = task["root_id"], task["id"]
            return task
        requesting = asyncio.ensure_future(self._request())
        try:
            return await asyncio.shield(requesting)
        except asyncio.CancelledError:
            with suppress(TimeoutError, ApflowError):
                async with asyncio.timeout(SETTLE):
                    await requesting
            await self.cancel()
            raise

    async def _request(self) -> dict[str, Json]:
        answer: dict[str, Json] = await self.client.call(self.request.method, self.request.params)
        self.root_id, self.task_id = ids_of(answer)
        if self.is_repeated and self.request.key is not None:
            standing = await self.standing()
            if standing["status"] in (TaskStatus.FAILED, TaskStatus.CANCELLED):
                again = {"task_id": self.task_id, KEY: self.request.key}
                answer |= await self.client.call("tasks.execute", again)
        return answer

    async def follow(self, on_event: OnEvent, poll_interval: float | None) -> dict[str, Json]:
        """Wait for the end, and return how the task there stands.

        Args:
            on_event: awaited with each event; without streaming, with how the task stands.
            poll_interval: seconds between two questions; None: by events.
        """
        if poll_interval is None:
            async with aclosing(self.client.events(self.root_id)) as events:
                async for event in events:
                    await on_event(event)
            return await self.standing()
        while True:
            standing = await self.standing()
            if TaskStatus.is_terminal(standing["status"]):
                return standing
            await on_event(standing)
            await asyncio.sleep(poll_interval)

    async def standing(self) -> dict[str, Json]:
        """Return how the task there stands; for a root, its tree."""
        params = {"task_ids": [self.task_id]}
        found: list[dict[str, Json]] = await self.client.call(
            "tasks.running.status", params, patience=self.patience
        )
        return found[0]

    async def result(self, standing: Mapping[str, Json]) -> Json:
        """Return the result of what has ended.

        Raises:
            RemoteTreeFailedError: it failed.
            RemoteTreeCancelledError: it was cancelled.
        """
        status = standing["status"]
        task = await self.client.call("tasks.get", {"task_id": self.task_id}, patience=self.patience)
        error = standing["error"] or task["error"]
        if status == TaskStatus.CANCELLED:
            raise RemoteTreeCancelledError(self.client.url, self.task_id, error)
        if status not in (TaskStatus.COMPLETED, TaskStatus.SKIPPED):
            raise RemoteTreeFailedError(self.client.url, self.task_id, error or f"It is {status}.")
        return task["result"]

    async def cancel(self) -> None:
        """Cancel what was requested there; not what was only watched. What cannot be done is logged."""
        if not self.task_id or self.request.is_watch:
            return
        params: dict[str, Any] = {
            "task_ids": [self.task_id],
            "force": True,
            "error_message": "Cancelled by the task of another server that it was run for.",
        }
        try:
            async with asyncio.timeout(CANCEL):
                await self.client.call("tasks.cancel", params)
        except (TimeoutError, ApflowError) as error:
            cause = str(error) or "it took too long"
            logger.warning("Task %r at %s may still be running: %s", self.task_id, self.client.url, cause)
