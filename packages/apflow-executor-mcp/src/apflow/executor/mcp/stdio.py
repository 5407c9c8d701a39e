"""The transport to a server that is a program of this machine: lines on its standard input and output."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from apflow.core.process.captured_output import Output, describe_exit
from apflow.core.settings import read_settings
from apflow.executor.command.errors import CommandStartError
from apflow.executor.command.pipe import OutputPipe
from apflow.executor.command.policy import Policy, plan_launch
from apflow.executor.command.process import Process, Running, file_of, start
from apflow.executor.mcp.errors import McpLostError
from apflow.executor.mcp.link import MAX_MESSAGE_BYTES, Link
from apflow.executor.mcp.request import StdioTarget
from apflow.executor.mcp.sdk import Streams, dump_message, parse_message

EXIT_SECONDS: Final = 2.0  # for a server to end by itself, after its input was closed
STDERR_BYTES: Final = 1 << 16  # kept of its error output
FLUSH_SECONDS: Final = 0.5  # for what was sent to be read


@asynccontextmanager
async def stdio_streams(target: StdioTarget, link: Link) -> AsyncGenerator[Streams]:
    """Yield the streams of a program that is started. However this ends, no process of its group is left.

    Raises:
        CommandRefusedError: the command policy forbids it. The policy is read now, not kept from earlier.
        CommandStartError: it cannot be started.
    """
    settings = read_settings()
    policy = Policy(settings.command_allow, settings.command_shell)
    launch = plan_launch(target.command, policy, cwd=target.cwd, env=dict(target.env))
    process = _ServerProcess(link)
    stdout = _LinePipe(process.end_output)
    stderr = OutputPipe(process.stderr, process.end_output)
    try:
        await stdout.open()
        await stderr.open()
        with file_of(launch) as file:
            try:
                running = await start(launch, file, process, [stdout, stderr], takes_input=True)
            except (OSError, ValueError) as error:  # ValueError: text that the system cannot encode
                raise CommandStartError(f"{launch.argv[0]!r} cannot be started: {error}") from error
            try:
                async with _messages(running, process, stdout, link) as streams:
                    yield streams
            finally:
                _close_input(running)
                ending = await running.end(grace=EXIT_SECONDS)
                if link.is_lost and link.failure is None and not link.is_closed_here:
                    how = f"the server {describe_exit(ending.return_code)} before the response"
                    link.failure = McpLostError(link.shown, how, process.stderr.tail)
    finally:
        stdout.close()
        stderr.close()


class _ServerProcess(Process):
    """A server, with what it says on its error output."""

    def __init__(self, link: Link) -> None:
        super().__init__(0)
        self.stderr = Output(STDERR_BYTES, link.hear_stderr)
        self.has_room = asyncio.Event()
        self.has_room.set()

    def pause_writing(self) -> None:
        self.has_room.clear()

    def resume_writing(self) -> None:
        self.has_room.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del fd, exc
        self.has_room.set()


class _LinePipe:
    """A pipe whose one end is given to a process, and whose other end is read in lines.

    Args:
        at_end: called when no process holds the pipe any more.
    """

    def __init__(self, at_end: Callable[[], object]) -> None:
        self.reader = asyncio.StreamReader(limit=MAX_MESSAGE_BYTES)
        self._at_end = at_end
        self._transport: asyncio.ReadTransport | None = None
        self._end, self.given = os.pipe()

    async def open(self) -> None:
        """Begin to read."""
        file = os.fdopen(self._end, "rb", 0)
        protocol = _LineProtocol(self.reader, self._at_end)
        try:
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, file)
        except BaseException:
            file.close()
            raise

    def give(self) -> None:
        """Leave the one end to the process that has it now. May be repeated."""
        if self.given != -1:
            os.close(self.given)
            self.given = -1

    def close(self) -> None:
        """Close it."""
        self.give()
        if self._transport is not None:
            self._transport.close()
        else:
            with suppress(OSError):
                os.close(self._end)


class _LineProtocol(asyncio.StreamReaderProtocol):
    def __init__(self, reader: asyncio.StreamReader, at_end: Callable[[], object]) -> None:
        super().__init__(reader)
        self._at_end = at_end

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._at_end()


@asynccontextmanager
async def _messages(
    running: Running, process: _ServerProcess, stdout: _LinePipe, link: Link
) -> AsyncGenerator[Streams]:
    """Yield streams of messages over a running program, whose output is read until the end."""
    to_session, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    reading = asyncio.create_task(_read(stdout.reader, to_session, link), name="apflow:mcp:read")
    writing = asyncio.create_task(_write(running, process, from_session), name="apflow:mcp:write")
    try:
        yield from_server, to_server
    finally:
        to_server.close()
        await asyncio.wait({writing}, timeout=FLUSH_SECONDS)
        for task in (reading, writing):
            task.cancel()
        await asyncio.wait({reading, writing})
        for stream in (to_session, from_server, from_session):
            stream.close()


async def _read(
    reader: asyncio.StreamReader, to_session: MemoryObjectSendStream[SessionMessage | Exception], link: Link
) -> None:
    """Pass messages on until the end of the output, which ends the connection."""
    try:
        while (line := await _next_line(reader, link)) and link.failure is None:
            link.count(len(line))
            message = parse_message(line)
            if message is not None:
                await to_session.send(message)
            elif line.strip():
                link.ignore(line)
                await asyncio.sleep(0)
        link.is_lost = True
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # the session is over
    finally:
        link.closing.set()
        to_session.close()


async def _next_line(reader: asyncio.StreamReader, link: Link) -> bytes:
    """Return the next line; nothing at the end of the output, or if a line is too long."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        return b""
    except asyncio.LimitOverrunError:
        link.refuse_message()
        return b""


async def _write(
    running: Running, process: _ServerProcess, from_session: MemoryObjectReceiveStream[SessionMessage]
) -> None:
    pipe = cast("asyncio.WriteTransport", running.transport.get_pipe_transport(0))
    async for message in from_session:
        if not pipe.is_closing():
            pipe.write(dump_message(message) + b"\n")
        await process.has_room.wait()


def _close_input(running: Running) -> None:
    pipe = running.transport.get_pipe_transport(0)
    if isinstance(pipe, asyncio.WriteTransport) and not pipe.is_closing():
        pipe.close()
