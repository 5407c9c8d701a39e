"""The process of a daemon: a worker whose output goes to a log that is rotated."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from apflow.cli.inputs.options import session_of
from apflow.cli.session.daemon_files import RUNNING, WAITING, DaemonFiles, DaemonState
from apflow.cli.session.work import perform_here
from apflow.cli.session.worker import run_worker
from apflow.core.model.task import utc_now
from apflow.core.process.identity import started
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings
from apflow.core.store.session import get_default_session
from apflow.core.store.shown_url import shown_url

ROTATE_SECONDS: Final = 1.0  # between two looks at the size of the log
KEPT: Final = 5  # earlier logs


def run_daemon(ctx: click.Context) -> None:
    """Run submitted trees until a signal comes, as the daemon of the database.

    Raises:
        DaemonLockedError: the database has a daemon already.
        StoreLockedError: another process holds the database.
    """
    files = DaemonFiles(get_default_session())
    with files.locked():
        state = _state(ctx, files)
        files.write(state)

        def begin() -> None:
            files.write(replace(state, state=RUNNING))
            _note(f"The daemon runs what is submitted to {state.database} (process {state.pid}).")

        async def work(service: TaskService) -> None:
            with _rotated(files.log):
                await run_worker(service, begin)

        try:
            perform_here(ctx, work, is_service=True)
        finally:
            _note(f"The daemon ends (process {state.pid}).")


def _state(ctx: click.Context, files: DaemonFiles) -> DaemonState:
    pid = os.getpid()
    return DaemonState(
        pid=pid,
        started=started(pid) or "",
        state=WAITING,
        since=utc_now().isoformat(timespec="seconds"),
        database=shown_url(get_default_session().url),
        log=str(files.log),
        modules=session_of(ctx).modules,
    )


def _note(text: str) -> None:
    click.echo(f"{utc_now().isoformat(timespec='seconds')} {text}", err=True)


@contextmanager
def _rotated(log: Path) -> Generator[None]:
    """Rotate the log, to which the standard streams go, while the context lasts."""
    task = asyncio.create_task(_rotate(log, get_settings().daemon_log_max_bytes), name="apflow:daemon:log")
    try:
        yield
    finally:
        task.cancel()


async def _rotate(log: Path, limit: int) -> None:
    while True:
        await asyncio.sleep(ROTATE_SECONDS)
        try:
            rotate_if_larger(log, limit)
        except OSError as error:  # the log continues to grow
            _note(f"The log cannot be rotated: {error}")


def rotate_if_larger(log: Path, limit: int) -> None:
    """Rename a log that is larger than a limit, and direct the standard streams to a new one.

    No line is lost: until the streams are directed to the new file, they are written to the renamed one.

    Raises:
        OSError: a file cannot be renamed or created.
    """
    if os.fstat(sys.__stderr__.fileno() if sys.__stderr__ else 2).st_size <= limit:
        return
    for number in range(KEPT, 1, -1):
        earlier = _numbered(log, number - 1)
        if earlier.exists():
            earlier.replace(_numbered(log, number))
    if log.exists():
        log.replace(_numbered(log, 1))
    direct_to(log)


def direct_to(log: Path) -> None:
    """Direct the standard output and error of this process to a log, at its end."""
    descriptor = open_log(log)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def open_log(log: Path) -> int:
    """Open a log for writing at its end, and return the descriptor."""
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
