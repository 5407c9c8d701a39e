"""MCP over standard input and output, for `apflow mcp serve`.

Standard output carries the protocol only: what else is written there goes to standard error.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from apflow.core.capture.clean_output import clean_output
from apflow.core.errors import PluginError
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings
from apflow.server.mcp.calls import StdioCalls
from apflow.server.mcp.handlers import Handlers, selection_of

LINES: Final = 100  # that are read ahead
STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2

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


@dataclass(frozen=True)
class Wire:
    """What the process has got as standard input and output."""

    stdin: BinaryIO
    stdout: BinaryIO


async def serve(wire: Wire, service: TaskService, tools: Sequence[str], ending: asyncio.Event) -> None:
    """Serve one client until its input ends.

    Args:
        wire: what `claimed` has returned.
        service: what the client may do.
        tools: which tools it gets; see `Selection`.
        ending: set when this process is about to end. Then, and at the end of the input, the runs of calls
            are left to others.
    """
    from apflow.server.mcp.sdk import serve_stdio

    input_ended = asyncio.Event()
    calls = StdioCalls(service, [ending, input_ended])
    with clean_output():
        handlers = Handlers(tools, lambda _: calls, task_seconds=get_settings().mcp_task_seconds)
        await serve_stdio(handlers, Lines(wire.stdin, input_ended.set), Output(wire.stdout))


@contextmanager
def claimed() -> Generator[Wire]:
    """Take standard input and output for the protocol: code and child processes get neither.

    What they write to standard output goes to standard error, and their input is empty.
    """
    before, own = sys.stdout, (os.dup(STDIN), os.dup(STDOUT))
    before.flush()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, STDIN)
    os.close(nothing)
    os.dup2(STDERR, STDOUT)
    sys.stdout = sys.stderr
    try:
        # Never closed: a thread may still wait for input.
        yield Wire(os.fdopen(own[0], "rb", closefd=False), os.fdopen(own[1], "wb", closefd=False))
    finally:
        sys.stdout = before
        os.dup2(own[1], STDOUT)


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
