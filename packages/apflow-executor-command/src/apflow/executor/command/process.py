"""Running one process: its output bounded while it is read, and its whole group gone at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from apflow.core.capture.task_log import output_log
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.process.captured_output import Output
from apflow.core.process.reaper import Watched, reaper
from apflow.core.process.reaper_program import members
from apflow.executor.command.errors import CommandStartError
from apflow.executor.command.pipe import OutputPipe
from apflow.executor.command.policy import Launch

GRACE_SECONDS = 0.5  # for what a program leaves running to end by itself
TERMINATE_SECONDS = 2.0  # between the request to end and the kill
REAP_SECONDS = 5.0  # for the system to take a killed process away
MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.01, 0.1  # seconds between two looks at a group


class Process(asyncio.SubprocessProtocol):
    """A process of asyncio, and its output."""

    def __init__(self, limit: int) -> None:
        self.stdout = Output(limit, output_log("stdout"))
        self.stderr = Output(limit, output_log("stderr"))
        self.has_exited = asyncio.Event()
        self.is_silent = asyncio.Event()  # no process holds its output any more
        self._open = 2

    def process_exited(self) -> None:
        self.has_exited.set()

    def end_output(self) -> None:
        """Note that one of the two outputs has ended."""
        self._open -= 1
        if not self._open:
            self.is_silent.set()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended, and what happened to the processes that it had started."""

    return_code: int
    left: int = 0  # processes of its group that were ended after it
    is_held: bool = False  # a process outside the group still holds the output

    @property
    def note(self) -> str:
        """A message about these processes, or an empty string."""
        what = "1 process" if self.left == 1 else f"{self.left} processes"
        ended = f"Ended {what} that the program had left running."
        held = "A process outside the program's group holds its output, which is no longer read."
        return " ".join([ended] * bool(self.left) + [held] * self.is_held)


async def run_process(launch: Launch, process: Process, stdin: bytes, seconds: float) -> Ending:
    """Run a process to its end; its output is in `process`.

    However this ends, no process of its group is left. If apflow is killed meanwhile, none is left either.

    Raises:
        TimeoutError: the process took too long.
        CommandStartError: the system refuses to start it.
    """
    pipes: list[OutputPipe] = []
    try:
        for output in (process.stdout, process.stderr):
            pipes.append(OutputPipe(output, process.end_output))
            await pipes[-1].open()
        with file_of(launch) as file:
            running = await start(launch, file, process, pipes, takes_input=bool(stdin))
            try:
                async with asyncio.timeout(seconds):
                    running.feed(stdin)
                    await process.has_exited.wait()
            except BaseException:
                await running.end()
                raise
            return await running.end(grace=GRACE_SECONDS)
    except (OSError, ValueError) as error:  # ValueError: text that the system cannot encode
        if isinstance(error, TimeoutError):
            raise
        raise CommandStartError(f"{launch.argv[0]!r} cannot be started: {error}") from error
    finally:
        for pipe in pipes:
            pipe.close()


class GivenPipe(Protocol):
    """A pipe whose writing end a process gets."""

    given: int  # the descriptor of that end

    def give(self) -> None:
        """Close that end here, once the process has it."""
        ...


@dataclass(slots=True)
class Running:
    """A process that was started."""

    process: Process
    transport: asyncio.SubprocessTransport
    watched: Watched

    def feed(self, stdin: bytes) -> None:
        """Write the input. A process that does not want all of it is not in error."""
        pipe = self.transport.get_pipe_transport(0)
        if isinstance(pipe, asyncio.WriteTransport):
            pipe.write(stdin)
            pipe.write_eof()

    async def end(self, grace: float = 0.0) -> Ending:
        """Make sure that the group has ended: wait for `grace` seconds, ask it, then kill it."""
        group, left = self.transport.get_pid(), 0
        try:
            await self._wait_for(group, grace)
            left = members(group)
            if left:
                _signal(group, signal.SIGTERM)
                await self._wait_for(group, TERMINATE_SECONDS)
        finally:
            try:
                if members(group):
                    _signal(group, signal.SIGKILL)
                await wait_up_to(REAP_SECONDS, self.process.has_exited)
            finally:
                self.transport.close()
                self.watched.ended()
        code = self.transport.get_returncode()
        return Ending(-signal.SIGKILL if code is None else code, left, not self.process.is_silent.is_set())

    async def _wait_for(self, group: int, seconds: float) -> None:
        """Wait until nothing holds the output, and the group is empty. There is no event to wait for."""
        deadline = time.monotonic() + seconds
        wait = MIN_WAIT_SECONDS
        while not self.process.is_silent.is_set() or members(group):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if self.process.is_silent.is_set():
                await asyncio.sleep(min(wait, left))
            else:
                await wait_up_to(min(wait, left), self.process.is_silent)
            wait = min(MAX_WAIT_SECONDS, wait * 2)


async def start(
    launch: Launch, file: str, process: Process, pipes: Sequence[GivenPipe], *, takes_input: bool
) -> Running:
    """Return a started process, which the caller ends with `Running.end`.

    Args:
        file: the path to execute, from `file_of`, which must stay valid while the process runs.
        pipes: for its standard output and its standard error.
        takes_input: whether it gets a pipe as its standard input.

    Raises:
        OSError, ValueError: the system refuses to start it.
    """
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    watched = reaper.watch([each.given for each in pipes])
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            lambda: process,
            *launch.argv,
            executable=file,
            stdin=pipe if takes_input else nothing,
            stdout=pipes[0].given,
            stderr=pipes[1].given,
            cwd=launch.cwd,
            env=launch.environment,
            start_new_session=True,  # so that the whole group can be killed
        )
    )
    try:
        transport, _ = await asyncio.shield(starting)
    except asyncio.CancelledError:  # the start takes milliseconds, and the process must be ended
        with suppress(OSError, ValueError):
            transport, _ = await starting
            await Running(process, transport, watched).end()
        watched.ended()
        raise
    except BaseException:
        watched.ended()
        raise
    finally:
        for each in pipes:
            each.give()
    watched.started(transport.get_pid())
    return Running(process, transport, watched)


@contextmanager
def file_of(launch: Launch) -> Generator[str]:
    """Yield the path to execute: a temporary link where the task names the program by a link."""
    if launch.alias is None:
        yield launch.executable
        return
    with tempfile.TemporaryDirectory(prefix="apflow-command-") as folder:
        link = Path(folder, launch.alias)
        link.symlink_to(launch.executable)
        yield str(link)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
