"""Ending a process that runs trees: the first signal lets its work end, the second ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.core.concurrency import exit_fence
from apflow.core.engine import active_runs
from apflow.core.process import identity
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore

T = TypeVar("T")

STDERR = 2  # the descriptor
SHOW_CURSOR = b"\x1b[?25h"
LAST_WAIT = 5.0  # seconds beyond the time that code has to end: what ignores its cancellation is left behind
INTERVAL = 0.1  # seconds between two looks for runs that have begun meanwhile
TERMINATIONS = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass
class Draining:
    """Whether a signal has begun a drain, and which."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of a program that a signal ends, as shells have it."""
        return 0 if self.signal is None else 128 + self.signal


@contextmanager
def drain_on_signal(drain: Callable[[], object]) -> Generator[None]:
    """Call `drain` at the first SIGTERM, SIGHUP or SIGINT while the context lasts."""
    with _heeding((*TERMINATIONS, signal.SIGINT), drain, lambda _: 0):
        yield


def run_until_interrupted(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop.

    The first Ctrl-C cancels the coroutine and waits for its end. The second one ends the process at once,
    also if code ignores its cancellation.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return exit_fence.run(main)
    handler = signal.getsignal(signal.SIGINT)
    try:
        return exit_fence.run(_with_second_interrupt(main))
    finally:
        signal.signal(signal.SIGINT, handler)


async def _with_second_interrupt(main: Coroutine[Any, Any, T]) -> T:
    cancel_main = signal.getsignal(signal.SIGINT)  # set by `asyncio.Runner`

    def take(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _exit_at_once)
        if callable(cancel_main):
            # The signal may interrupt users' code, which must not cancel the main task: leave its context.
            Context().run(cancel_main, number, frame)

    if callable(cancel_main):  # Ctrl-C is not ignored
        signal.signal(signal.SIGINT, take)
    return await main


def _exit_at_once(*_: object) -> None:
    with suppress(OSError, RuntimeError):  # standard error is closed, or is being written to
        # A live view has hidden the cursor, and `sys.stderr` may be what captures the output of tasks.
        if os.isatty(STDERR) and os.environ.get("TERM") != "dumb":
            os.write(STDERR, SHOW_CURSOR)
        sys.stderr.write("Interrupted.\n")
        sys.stderr.flush()
    os._exit(ExitCode.INTERRUPTED)


@contextmanager
def runs_drained_on_signal(db: TaskStore) -> Generator[Draining]:
    """Drain the runs of a store at the first SIGTERM or SIGHUP, as a worker does. Ctrl-C cancels them."""
    draining = Draining()
    tasks: list[asyncio.Task[None]] = []

    def begin(number: signal.Signals) -> int:
        draining.signal = number
        return draining.exit_code

    def drain() -> None:
        tasks.append(asyncio.create_task(_drain_all(db), name="apflow:drain"))

    with _heeding(TERMINATIONS, drain, begin):
        try:
            yield draining
        finally:
            for each in tasks:
                each.cancel()


async def _drain_all(db: TaskStore) -> None:
    wait = get_settings().shutdown_timeout
    while True:  # again and again: some are only about to begin
        for run in active_runs.all_running(db):
            run.drain(wait)
        await asyncio.sleep(INTERVAL)


@contextmanager
def _heeding(
    signals: Sequence[signal.Signals],
    drain: Callable[[], object],
    begin: Callable[[signal.Signals], int],
) -> Generator[None]:
    """Call `begin` and `drain` at the first of the signals. A second one ends the process at once.

    Args:
        begin: returns the exit code of a process whose code does not end in time.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    # `nohup` ignores SIGHUP, and means it.
    heeded = [each for each in signals if signal.getsignal(each) is not signal.SIG_IGN]
    terminals = identity.terminals()

    def take(number: signal.Signals) -> None:
        for each in heeded:
            loop.remove_signal_handler(each)
            # A terminal that closes may send SIGHUP several times: from the shell, and from the system.
            signal.signal(each, signal.SIG_IGN if each.name == "SIGHUP" else signal.SIG_DFL)
        if number.name == "SIGHUP":
            identity.leave_terminals(terminals)
        _end_later(begin(number), number.name)
        drain()

    for each in heeded:
        loop.add_signal_handler(each, take, each)
    try:
        yield
    finally:
        for each in heeded:
            loop.remove_signal_handler(each)


def _end_later(code: int, name: str) -> None:
    """Report the shutdown, and end the process if code does not end in time."""
    settings = get_settings()
    wait = settings.shutdown_timeout
    with suppress(OSError):
        click.echo(f"{name}: taking no more work; what runs has {wait:g} s to end.", err=True)
    timer = threading.Timer(wait + settings.cancel_grace + LAST_WAIT, os._exit, (code,))
    timer.daemon = True
    timer.start()
