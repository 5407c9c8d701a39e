"""Serving one MCP client, by the distribution that can, with the runs of what the client submits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, cast

from apflow.cli.session.signals import drain_on_signal
from apflow.core import plugins
from apflow.core.engine.worker import Worker
from apflow.core.errors import PluginError
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings
from apflow.core.webhooks.defaults import check_defaults
from apflow.core.webhooks.delivery import delivering

GROUP: Final = "apflow.mcp"  # entry points: a module, as `Stdio` describes it
NAME: Final = "stdio"


class Stdio(Protocol):
    """Speaks MCP over standard input and output."""

    def check(self, tools: Sequence[str]) -> None:
        """Check that MCP can be served with these tools."""

    def claimed(self) -> AbstractContextManager[object]:
        """Take standard input and output for the protocol."""
        ...

    async def serve(
        self, wire: object, service: TaskService, tools: Sequence[str], ending: asyncio.Event
    ) -> None:
        """Serve one client until its input ends, with what `claimed` has returned."""


class NoMcpError(PluginError):
    """No installed distribution speaks MCP."""

    def __init__(self) -> None:
        super().__init__(
            'No installed package speaks MCP. Install it with: pip install "apflow-server[mcp]".'
        )


def load_stdio() -> Stdio:
    """Return what speaks MCP.

    Raises:
        NoMcpError: nothing installed here does.
    """
    if not plugins.is_offered(GROUP, NAME):
        raise NoMcpError
    return cast("Stdio", plugins.load(GROUP, NAME))


Serve = Callable[[TaskService, asyncio.Event], Coroutine[Any, Any, None]]


async def serve_client(serve: Serve, service: TaskService) -> None:
    """Serve one client until its input ends or a signal comes.

    If the work is done in this process, and not by a server, the process also runs what is submitted.

    Args:
        serve: serves the client until its input ends; the event is set when the process is about to end.
    """
    ending = asyncio.Event()
    if type(service) is not TaskService:
        with drain_on_signal(ending.set):
            await _until(ending, serve, service)
        return
    settings = get_settings()
    check_defaults(settings)
    worker = Worker(service.db)
    with drain_on_signal(ending.set):
        async with delivering(service.db, settings), asyncio.TaskGroup() as group:
            group.create_task(worker.run(), name="apflow:mcp:worker")
            try:
                await _until(ending, serve, TaskService(service.db, is_served=True))
            finally:
                worker.drain()


async def _until(ending: asyncio.Event, serve: Serve, service: TaskService) -> None:
    """Serve the client until its input ends, or the process is about to."""
    serving = asyncio.create_task(serve(service, ending), name="apflow:mcp:client")
    waiting = asyncio.create_task(ending.wait(), name="apflow:mcp:end")
    try:
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
    finally:
        ending.set()
        serving.cancel()
        waiting.cancel()
        await asyncio.wait({serving, waiting})
