"""Running one process: its output bounded while it is read, and its whole group gone at the end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress

from apflow.core.output import Output
from apflow.executor.command.errors import CommandStartError
from apflow.executor.command.policy import Launch

TERMINATE_SECONDS = 2.0  # between the request to end and the kill
REAP_SECONDS = 5.0  # for the system to take a killed process away


class Process(asyncio.SubprocessProtocol):
    """A started process, as asyncio tells of it."""

    def __init__(self, limit: int) -> None:
        self.stdout, self.stderr = Output(limit), Output(limit)
        self.has_exited = asyncio.Event()
        # It has exited and nobody holds its output any more.
        self.has_ended = asyncio.Event()
        self._open = {1, 2}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        (self.stdout if fd == 1 else self.stderr).add(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc  # a broken stdin means that the process did not want all of it
        self._open.discard(fd)
        self._look()

    def process_exited(self) -> None:
        self.has_exited.set()
        self._look()

    def _look(self) -> None:
        if self.has_exited.is_set() and not self._open:
            self.has_ended.set()


async def run_process(launch: Launch, process: Process, stdin: bytes, seconds: float) -> int:
    """Run a process to its end and return its exit code; its output is in `process`.

    However this ends, no process of its group is left that still holds its output.

    Raises:
        TimeoutError: it took too long.
        CommandStartError: the system refuses to start it.
    """
    transport = await _start(launch, process, takes_input=bool(stdin))
    try:
        async with asyncio.timeout(seconds):
            _feed(transport, stdin)
            await process.has_ended.wait()
    finally:
        await _end(transport, process)
    return_code = transport.get_returncode()
    return -signal.SIGKILL if return_code is None else return_code


async def _start(launch: Launch, process: Process, *, takes_input: bool) -> asyncio.SubprocessTransport:
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    environment: Mapping[str, str] = launch.environment
    try:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: process,
            *launch.argv,
            executable=launch.executable,
            stdin=pipe if takes_input else nothing,
            stdout=pipe,
            stderr=pipe,
            cwd=launch.cwd,
            env=environment,
            start_new_session=True,  # a group of its own, which can be killed whole
        )
    except (OSError, ValueError) as error:  # ValueError: text that the system cannot encode
        raise CommandStartError(f"{launch.argv[0]!r} cannot be started: {error}") from error
    return transport


def _feed(transport: asyncio.SubprocessTransport, stdin: bytes) -> None:
    pipe = transport.get_pipe_transport(0)
    if isinstance(pipe, asyncio.WriteTransport):
        pipe.write(stdin)
        pipe.write_eof()


async def _end(transport: asyncio.SubprocessTransport, process: Process) -> None:
    """Make sure that the group has ended: ask it, then kill it."""
    if process.has_ended.is_set():
        transport.close()
        return
    group = transport.get_pid()
    try:
        _signal(group, signal.SIGTERM)
        await _wait(process.has_ended, TERMINATE_SECONDS)
    finally:
        try:
            _signal(group, signal.SIGKILL)
            await _wait(process.has_exited, REAP_SECONDS)
        finally:
            transport.close()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
