"""One message to an agent, followed to the end of the agent's task, which is cancelled with the task here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, cast

from a2a.client.client import Client, ClientCallContext
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    TaskState,
)

from apflow.core.errors import ApflowError
from apflow.executor.a2a.answer import Answer
from apflow.executor.a2a.connection import Meter
from apflow.executor.a2a.errors import A2aRefusedError, A2aResponseError, A2aUnreachableError
from apflow.executor.a2a.fault import reported

logger = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 2.0  # for the agent to name its task, after the task here is cancelled
CANCEL_SECONDS: Final = 5.0  # for the agent to cancel its task
RECONNECT_SECONDS: Final = 30.0  # for which an agent may be away while its task runs
# The kinds of errors for a task that the agent does not know. Over HTTP+JSON of version 0.3, the client
# reports any HTTP 404 as the second.
UNKNOWN_TASK: Final = frozenset({"TaskNotFoundError", "MethodNotFoundError"})
SILENCE_SECONDS = 60.0  # without an update, after which the state of the task is requested

OnUpdate = Callable[[StreamResponse], Awaitable[None]]
OnTask = Callable[[str], Awaitable[None]]


async def _ignore(_: str) -> None:
    pass


@dataclass
class AgentRun:
    """A message to an agent, and the task that the agent makes of it."""

    client: Client
    message: SendMessageRequest
    context: ClientCallContext
    answer: Answer
    meter: Meter
    on_update: OnUpdate
    poll_interval: float
    is_streaming: bool
    continues: str | None = None  # the id of the task that the message continues
    # The id of the task that the agent made of the message in an attempt that was interrupted.
    resumes: str | None = None
    on_task: OnTask = _ignore  # awaited once, when the agent has named a task that has not ended
    is_continued: Callable[[], bool] = bool  # whether another attempt will follow the task of the agent
    _is_noted: bool = False  # `on_task` was awaited
    _is_known: asyncio.Event = field(default_factory=asyncio.Event)
    _is_cut: bool = False  # it was cancelled before the answer was complete
    _has_gap: bool = False  # updates may have been missed
    _lost_at: float | None = None  # since when the agent cannot be reached

    async def finish(self) -> None:
        """Send the message, unless it was sent before, and wait until the answer is complete.

        Raises:
            A2aError: the answer does not come, or is not usable.
        """
        if not await self._resume():
            await self._begin()
        while not self.answer.is_over:
            await self._catch_up()
        if self._has_gap:
            await self._fetch()

    async def _resume(self) -> bool:
        """Resume the task that the agent made of the message before; return False if it knows none."""
        if self.resumes is None:
            return False
        self.answer.task_id, self._is_noted = self.resumes, True
        self._is_known.set()
        try:
            while self.answer.state == TaskState.TASK_STATE_UNSPECIFIED:  # the agent may be away
                await self._catch_up()
        except A2aRefusedError as error:
            if error.kind not in UNKNOWN_TASK:
                raise
            logger.warning("The message is sent to the agent at %s again: %s", self.answer.where, error)
            self.answer.task_id, self._is_noted = None, False
            self._is_known.clear()
            return False
        return True

    async def _begin(self) -> None:
        sending = asyncio.create_task(self._send(), name="apflow:a2a:send")
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            self._is_cut = True
            await self._settle(sending)
            raise

    async def abandon(self) -> None:
        """Cancel the task of the agent, unless it has ended, waits for the user, or is followed later.

        A failure is logged.
        """
        if self._is_noted and self.is_continued():
            return
        task_id = self.continues if self.answer.is_empty and self._is_cut else self.answer.task_id
        if self._is_cut and self.answer.is_empty and task_id is None:
            logger.warning("The agent at %s may still be working: it has named no task", self.answer.where)
        if task_id is None or self.answer.is_over:
            return
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                try:
                    await self._cancel(task_id)
                except A2aUnreachableError:  # the connection was lost, or the agent has just closed it
                    await self._cancel(task_id)
        except (TimeoutError, ApflowError) as error:
            cause = str(error) or "it took too long"
            logger.warning("Task %r of the agent at %s may still run: %s", task_id, self.answer.where, cause)

    async def _cancel(self, task_id: str) -> None:
        with reported(self.answer.where, self.answer.limit):
            await self.client.cancel_task(CancelTaskRequest(id=task_id), context=self.context)

    async def _send(self) -> None:
        try:
            await self._read(self.client.send_message(self.message, context=self.context))
        except A2aUnreachableError:
            if self.answer.task_id is None:
                raise
            self._has_gap = True

    async def _settle(self, sending: asyncio.Task[None]) -> None:
        """Wait until the agent has named its task, so that it can be cancelled; then stop reading."""
        known = asyncio.create_task(self._is_known.wait(), name="apflow:a2a:known")
        waiting: set[asyncio.Task[Any]] = {known, sending}
        await asyncio.wait(waiting, timeout=SETTLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        if not sending.cancelled():
            sending.exception()  # retrieved, so that it is not logged

    async def _read(self, stream: AsyncIterator[StreamResponse]) -> None:
        """Apply the updates of a stream until it ends, or nothing follows, or nothing comes for long."""
        async with aclosing(cast("AsyncGenerator[StreamResponse]", stream)) as updates:
            while not self.answer.is_over:
                limit = asyncio.timeout(SILENCE_SECONDS if self.answer.is_running else None)
                try:
                    async with limit:
                        with reported(self.answer.where, self.answer.limit):
                            update = await anext(updates, None)
                except TimeoutError:
                    if not limit.expired():
                        raise
                    update = None
                if update is None:
                    self.answer.is_stale = False
                    self._has_gap |= self.answer.is_running and self.is_streaming
                    return
                await self._apply(update)

    async def _apply(self, update: StreamResponse) -> None:
        self.meter.reset()
        is_first = self.answer.is_empty
        self.answer.apply(update)
        may_be_old = is_first and self.continues is not None and self.is_streaming
        self.answer.is_stale = may_be_old and update.HasField("task") and self.answer.is_stopped
        if not self.answer.is_empty:
            self._is_known.set()
        if self.answer.is_running and not self._is_noted and self.answer.task_id is not None:
            self._is_noted = True
            await self.on_task(self.answer.task_id)
        await self.on_update(update)
        await asyncio.sleep(0)  # an agent that floods must not hold up the event loop

    async def _catch_up(self) -> None:
        """Request the state of the task, and follow it again, or wait for the next poll."""
        if self.answer.is_empty:
            raise A2aResponseError(self.answer.where, "it ends before it has begun")
        try:
            await self._fetch()
            self._lost_at = None
            if not self.answer.is_over and self.is_streaming:
                await self._subscribe()
        except A2aUnreachableError:
            self._lost_at = self._lost_at or time.monotonic()
            if time.monotonic() - self._lost_at > RECONNECT_SECONDS:
                raise
        if not self.answer.is_over:
            await asyncio.sleep(self.poll_interval)

    async def _subscribe(self) -> None:
        request = SubscribeToTaskRequest(id=self.answer.task_id)
        try:
            await self._read(self.client.subscribe(request, context=self.context))
        except A2aRefusedError as error:
            logger.info("Polling task %r of an agent: %s", self.answer.task_id, error)
            self.is_streaming = False

    async def _fetch(self) -> None:
        request = GetTaskRequest(id=self.answer.task_id, history_length=0)
        with reported(self.answer.where, self.answer.limit):
            task = await self.client.get_task(request, context=self.context)
        await self._apply(StreamResponse(task=task))
