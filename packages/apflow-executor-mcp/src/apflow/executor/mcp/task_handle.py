"""Calls that the server runs as a separate task: it returns a handle at once, and the result later.

Since 2026-07-28, this is the extension `io.modelcontextprotocol/tasks` (SEP-2663): the state of a task
contains its result, and what it asks for. In 2025-11-25, the result is requested when the task has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

from apflow.executor.mcp.errors import McpInputRequiredError, McpRequestError

EXTENSION: Final = "io.modelcontextprotocol/tasks"
POLL_SECONDS: Final = 1.0  # between two requests for the status, unless the server names an interval
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.1, 60.0
CANCEL_SECONDS: Final = 2.0  # for the server to accept that the task is cancelled
INTERNAL: Final = -32603  # where the error of a failed task has no code
ENDED: Final = ("completed", "failed", "cancelled")

Json = Any
Send = Callable[[str, Mapping[str, Json]], Awaitable[dict[str, Json]]]


class TaskFailedError(Exception):
    """The task ended without a result."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message  # the code of a JSON-RPC error; None: the server cancelled it


@dataclass(frozen=True)
class Handle:
    """A task of the server."""

    state: Mapping[str, Json]
    is_modern: bool  # of the extension, not of 2025-11-25

    @property
    def name(self) -> dict[str, Json]:
        """The parameters that name it."""
        return {"taskId": self.state["taskId"]}

    @property
    def has_ended(self) -> bool:
        """Whether its state is final."""
        return self.state.get("status") in ENDED

    @property
    def interval(self) -> float:
        """Seconds until its state should be requested again."""
        given = self.state.get("pollIntervalMs" if self.is_modern else "pollInterval")
        seconds = given / 1000 if isinstance(given, int | float) else POLL_SECONDS
        return min(MAX_POLL_SECONDS, max(MIN_POLL_SECONDS, seconds))


def handle_in(result: Mapping[str, Json]) -> Handle | None:
    """Return the handle that a result consists of; None if it is the result of the call itself."""
    if result.get("resultType") == "task" and "taskId" in result:
        return Handle(result, is_modern=True)
    task = result.get("task")
    if isinstance(task, dict) and "taskId" in task and "content" not in result:
        return Handle(cast("dict[str, Json]", task), is_modern=False)
    return None


async def _ignore(_: Handle) -> None:
    pass


@dataclass(slots=True)
class RemoteTask:
    """What is known of the task of the server that a call becomes. It outlasts connections.

    Args:
        handle: the task, where an attempt that was interrupted has begun it.
        is_restored: whether it is such a task, and the server has not been asked for it yet.
        on_handle: awaited when the task begins.
        is_continued: whether another attempt will follow the task, so that it must not be cancelled.
    """

    handle: Handle | None = None
    is_restored: bool = False
    on_handle: Callable[[Handle], Awaitable[None]] = _ignore
    is_continued: Callable[[], bool] = bool
    reported: object = None  # the last status message
    answered: set[str] = field(default_factory=set[str])  # keys of what the task has asked for
    is_cancelled: bool = False  # the server was asked to cancel it

    @property
    def is_running(self) -> bool:
        """Whether the server may still work on it."""
        return not (self.handle is None or self.is_cancelled or self.handle.has_ended)


async def follow(
    task: RemoteTask,
    handle: Handle,
    send: Send,
    on_message: Callable[[str], Awaitable[object]],
    answer: Callable[[Json], Awaitable[dict[str, Json]]],
) -> dict[str, Json]:
    """Return the result of a task of the server, once it has ended.

    If what the task asks for cannot be answered, or the caller is cancelled, so is the task of the server.
    If the connection is lost, the same task can be followed over another one.

    Args:
        task: is kept up to date.
        handle: the last known state.
        send: sends a request.
        on_message: called with each new status message.
        answer: returns the responses to what the task asks for, by key, or raises an error. It is given None
            where the state does not say what that is, as in 2025-11-25.

    Raises:
        TaskFailedError: the task ended without a result.
    """
    if task.handle is None:
        task.handle = handle
        if not handle.has_ended:
            await task.on_handle(handle)
    try:
        while not handle.has_ended:
            message = handle.state.get("statusMessage")
            if message not in (None, task.reported):
                task.reported = message
                await on_message(str(message))
            if handle.state.get("status") == "input_required":
                asked = _unanswered(handle, task.answered) if handle.is_modern else None
                if asked is None or asked:
                    responses = await answer(asked)
                    await send("tasks/update", handle.name | {"inputResponses": responses})
                    task.answered |= responses.keys()
            await asyncio.sleep(handle.interval)
            handle = task.handle = Handle(await send("tasks/get", handle.name), handle.is_modern)
            task.is_restored = False
    except (asyncio.CancelledError, McpInputRequiredError):
        await cancel(task, send)
        raise
    return _result_of(handle) if handle.is_modern else await send("tasks/result", handle.name)


def _unanswered(handle: Handle, answered: set[str]) -> dict[str, Json]:
    """Return what a task asks for; a state may repeat what was answered already."""
    asked = cast("dict[str, Json]", handle.state.get("inputRequests") or {})
    return {key: each for key, each in asked.items() if key not in answered}


def _result_of(handle: Handle) -> dict[str, Json]:
    state = handle.state
    if state["status"] == "completed":
        return cast("dict[str, Json]", state["result"])
    if state["status"] == "failed":
        error = cast("dict[str, Json]", state.get("error") or {})
        code, said = error.get("code"), error.get("message") or state.get("statusMessage")
        raise TaskFailedError(code if isinstance(code, int) else INTERNAL, str(said))
    raise TaskFailedError(None, str(state.get("statusMessage") or "it gives no reason"))


async def cancel(task: RemoteTask, send: Send) -> None:
    """Ask the server to cancel a task, unless another attempt follows it. It may refuse, or not answer.

    If the connection is lost before it does, the server can be asked over another one.
    """
    assert task.handle is not None
    if task.is_continued():
        return
    try:
        with suppress(TimeoutError, McpRequestError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await send("tasks/cancel", task.handle.name)
    except Exception:  # noqa: BLE001 - whatever it is, the server has not answered
        return
    task.is_cancelled = True
