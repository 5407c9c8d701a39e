"""MCP over standard input and output, for `apflow mcp serve`.

Nothing but the protocol goes to standard output: what else is written there goes to standard error.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final

from apflow.core.capture.clean_output import clean_output
from apflow.core.errors import PluginError
from apflow.core.service.task_service import TaskService
from apflow.server.mcp.calls import StdioCalls
from apflow.server.mcp.handlers import Handlers, selection_of

LINES: Final = 100  # that are read ahead
STDIN: Final = 0
STDOUT: Final = 1

MISSING: Final = (
    "MCP needs the Python package mcp, which is not installed here. Install it with: "
    'pip install "apflow-server[mcp]".'
)


class McpMissingError(PluginError):
    """The SDK of MCP is not installed."""

    def __init__(self) -> None:
        super().__init__(MISSING)


def check(tools: Sequence[str]) -> None:
    """Check that MCP can be served with these tools.

    Raises:
        SettingsError: there are no such tools.
        McpMissingError: the SDK is not installed.
    """
    selection_of(tools)
    try:
        import apflow.server.mcp.sdk
    except ModuleNotFoundError as error:
        raise McpMissingError from error
    assert apflow.server.mcp.sdk


async def serve(service: TaskService, tools: Sequence[str], ending: asyncio.Event) -> None:
    """Serve one client at standard input and output, until its input ends.

    Args:
        service: what the client may do.
        tools: which tools it gets; see `Selection`.
        ending: set when this process is about to end, and at the end of the input: runs are left to others.
    """
    from apflow.server.mcp.sdk import serve_stdio

    calls = StdioCalls(service, ending)
    with _claimed() as (stdin, stdout), clean_output():
        await serve_stdio(Handlers(tools, lambda _: calls), Lines(stdin, ending.set), Output(stdout))


class Lines:
    """The lines of a file, read in a thread that does not keep the process from ending.

    Args:
        at_end: called at the end of the file.
    """

    def __init__(self, file: BinaryIO, at_end: Callable[[], object]) -> None:
        self._file, self._at_end = file, at_end

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        loop, lines = asyncio.get_running_loop(), asyncio.Queue[str | None](LINES)

        def read() -> None:
            try:
                for line in self._file:
                    text = line.decode("utf-8", errors="replace")
                    asyncio.run_coroutine_threadsafe(lines.put(text), loop).result()
                asyncio.run_coroutine_threadsafe(lines.put(None), loop).result()
            except (OSError, ValueError, RuntimeError):  # the file, or the event loop, is closed
                return

        threading.Thread(target=read, name="apflow:mcp:stdin", daemon=True).start()
        while (line := await lines.get()) is not None:
            yield line
        self._at_end()


class Output:
    """A file that is written to in a thread, because a client may read slowly."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def write(self, text: str) -> None:
        """Write text."""
        await asyncio.to_thread(self._file.write, text.encode())

    async def flush(self) -> None:
        """Send what has been written."""
        await asyncio.to_thread(self._file.flush)


@contextmanager
def _claimed() -> Generator[tuple[BinaryIO, BinaryIO]]:
    """Take standard input and output for the protocol: nothing else reads the one or writes to the other."""
    sys.stdout.flush()
    stdin, stdout = os.dup(STDIN), os.dup(STDOUT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(nothing, STDIN)
        # Never closed: a thread may still wait for input.
        yield os.fdopen(stdin, "rb", closefd=False), os.fdopen(stdout, "wb", closefd=False)
    finally:
        os.close(nothing)
        os.dup2(stdout, STDOUT)
