"""Runs that tool calls wait for: clients get their progress, and cancelling a call cancels its run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, cast

from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.model.task import Json
from apflow.core.service.run_outcome import run_outcome
from apflow.server.http.api_error import ApiError, Code, UnavailableError
from apflow.server.mcp.approvals import Asking
from apflow.server.mcp.calls import Calls, events_of
from apflow.server.mcp.exchange import Report
from apflow.server.mcp.tree_progress import TreeProgress

logger = logging.getLogger(__name__)

MIN_INTERVAL_SECONDS: Final = 0.25  # between two notifications of progress
MAX_INTERVAL_SECONDS: Final = 3.0  # clients that wait for a sign of life reset their timeouts with each
CANCEL_SECONDS: Final = 1.0  # that a request to cancel waits for the end of the run
# Events after which other approvals may wait than before.
LOOKING: Final = frozenset({"snapshot", "approval_requested", "approval_decided", "task_cancelled"})
REASON: Final = "The MCP client cancelled the call."


class Runs:
    """Requests runs and waits for them. Cancellations continue after the calls that they are for."""

    def __init__(self) -> None:
        self._cancelling: set[asyncio.Task[None]] = set()

    async def run(
        self, calls: Calls, arguments: Mapping[str, Json], report: Report | None, asking: Asking
    ) -> tuple[dict[str, Json], dict[str, Json] | None]:
        """Request a run by `tasks.execute`, and wait for its end or until `asking` says so.

        Returns:
            the result of the request, and the result as with `wait`; None if the run has not ended.

        Raises:
            ApiError: the run cannot be requested or followed, or the server ends before it does.
        """
        async with self.requested(calls, arguments) as executed:
            is_over = await _until_over(calls, executed["root_task_id"], report, asking)
        return executed, await outcome_of(calls, executed) if is_over else None

    async def go_on(
        self, calls: Calls, executed: Mapping[str, Json], report: Report | None, asking: Asking
    ) -> dict[str, Json] | None:
        """Wait again for the end of a run, or until `asking` says so; see `run`. Cancelling this cancels it.

        Raises:
            ApiError: the run cannot be followed, or the server ends before it does.
        """
        try:
            is_over = await _until_over(calls, executed["root_task_id"], report, asking)
        except asyncio.CancelledError:
            if not calls.is_ending:
                self._keep(_cancel(calls, executed["task_id"]))
            raise
        return await outcome_of(calls, executed) if is_over else None

    @asynccontextmanager
    async def requested(
        self, calls: Calls, arguments: Mapping[str, Json]
    ) -> AsyncGenerator[dict[str, Json], None]:
        """Request a run by `tasks.execute` and yield the result. Cancelling the context cancels the run.

        Raises:
            ApiError: the run cannot be requested.
        """
        requesting = asyncio.create_task(calls.call("tasks.execute", arguments), name="apflow:mcp:request")
        try:
            yield cast("dict[str, Json]", await asyncio.shield(requesting))
        except asyncio.CancelledError:
            if not calls.is_ending:  # else another process continues the run
                self._keep(_cancel_run(calls, requesting))
            raise

    async def cancel(self, calls: Calls, task_id: str) -> None:
        """Request that a run is cancelled, and wait a moment for its end. The cancellation continues.

        Raises:
            ApiError: the run cannot be cancelled.
        """
        cancelling = self._keep(_cancel(calls, task_id))
        await asyncio.wait({cancelling}, timeout=CANCEL_SECONDS)
        if cancelling.done():
            cancelling.result()

    async def close(self) -> None:
        """Wait until the trees of cancelled calls have been cancelled."""
        if self._cancelling:
            await asyncio.wait(list(self._cancelling))

    def _keep(self, cancelling: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Not awaited: the SDK cancels whatever a cancelled call still awaits.
        task = asyncio.create_task(cancelling, name="apflow:mcp:cancel")
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)
        return task


async def outcome_of(calls: Calls, executed: Mapping[str, Json]) -> dict[str, Json]:
    """Return the result of a run that has ended, from the result of its request."""
    root_id = executed["root_task_id"]
    [found] = await calls.call("tasks.running.status", {"task_ids": [root_id]})
    root = await calls.call("tasks.get", {"task_id": root_id})
    return {**executed, **run_outcome(found["status"], found["progress"], found["error"], root["result"])}


async def _cancel_run(calls: Calls, requesting: asyncio.Task[Json]) -> None:
    """Cancel a run once its request has been answered."""
    try:
        await _cancel(calls, (await requesting)["task_id"])
    except ApiError as error:  # the request was refused, or the task deleted meanwhile
        logger.info("A run is not cancelled with the call that requested it: %s", error)


async def _cancel(calls: Calls, task_id: str) -> None:
    await calls.call("tasks.cancel", {"task_ids": [task_id], "error_message": REASON})


async def _until_over(calls: Calls, root_id: str, report: Report | None, asking: Asking) -> bool:
    """Wait for the end of a run, or until `asking` says so; return whether it has ended.

    Raises:
        UnavailableError: the server ends before.
    """
    following = asyncio.create_task(_follow(calls, root_id, report, asking), name="apflow:mcp:follow")
    ending = asyncio.create_task(calls.server_ends(), name="apflow:mcp:end")
    try:
        await asyncio.wait({following, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not following.done():
            raise UnavailableError(
                f"The server ends before the run does. The run of {root_id} stays requested.", Code.LIMIT
            )
        return following.result()
    finally:
        following.cancel()
        ending.cancel()
        asking.close()


async def _follow(calls: Calls, root_id: str, report: Report | None, asking: Asking) -> bool:
    """Follow the events of a tree to the final one, or until `asking` says so, and report on them."""
    progress, is_changed = TreeProgress(), asyncio.Event()
    reporting = (
        asyncio.create_task(_report(report, progress, is_changed), name="apflow:mcp:progress")
        if report is not None
        else None
    )
    try:
        async with aclosing(events_of(calls, root_id)) as events:
            async for event in events:
                if event["type"] in LOOKING and await asking.look(calls, root_id):
                    return False
                if reporting is not None:
                    progress.take(event)
                    is_changed.set()
    finally:
        if reporting is not None:
            reporting.cancel()
            await asyncio.wait({reporting})
    if report is not None:
        await report(*progress.next())
    return True


async def _report(report: Report, progress: TreeProgress, is_changed: asyncio.Event) -> None:
    """Report what has changed, and give signs of life where nothing has."""
    while True:
        await wait_up_to(MAX_INTERVAL_SECONDS, is_changed)
        is_changed.clear()
        await report(*progress.next())
        await asyncio.sleep(MIN_INTERVAL_SECONDS)
