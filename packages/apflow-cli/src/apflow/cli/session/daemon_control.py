"""Starting and stopping a daemon from another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from apflow.cli.session.daemon_files import (
    INTERVAL_SECONDS,
    RUNNING,
    DaemonFiles,
    DaemonState,
    last_lines,
)
from apflow.cli.session.daemon_process import open_log
from apflow.core.errors import StoreError
from apflow.core.process.identity import has_ended
from apflow.core.settings import get_settings

START_SECONDS: Final = 60.0  # in which a daemon opens its database
LAST_SECONDS: Final = 15.0  # beyond the time that running tasks have to end
SHOWN_LINES: Final = 15  # of the log of a daemon that did not start


class DaemonFailedError(StoreError):
    """A daemon has not started, or not ended, as the message says."""


def start_daemon(
    files: DaemonFiles, modules: Sequence[str], wait_lock: float, *, may_wait: bool = False
) -> tuple[DaemonState, bool]:
    """Start a daemon that survives this process and its terminal, unless one lives; return it.

    Args:
        modules: the modules that it imports.
        wait_lock: how many seconds it waits for a database that another process holds.
        may_wait: return while it still waits for the database.

    Returns:
        the daemon, and whether this call has started it.

    Raises:
        DaemonFailedError: it has not started; the message has the end of its log.
    """
    known = files.read()
    if known is not None:
        return known, False
    offset = files.log.stat().st_size if files.log.exists() else 0
    process = _spawn(files, modules, wait_lock)
    until = time.monotonic() + START_SECONDS + wait_lock
    while True:
        code = process.poll()
        state = files.read()
        if state is not None and (state.state == RUNNING or may_wait):
            process.returncode = process.returncode or 0  # it is not waited for: no warning at the end
            return state, state.pid == process.pid
        if code is not None and not files.is_locked():
            raise DaemonFailedError(_why(files, offset, f"has ended with status {code}"))
        if time.monotonic() > until:
            raise DaemonFailedError(_why(files, offset, "has not opened the database in time"))
        time.sleep(INTERVAL_SECONDS)


def stop_daemon(files: DaemonFiles, *, is_forced: bool = False) -> DaemonState | None:
    """End a daemon, as SIGTERM does, and wait until it has ended; return it, or None if there was none.

    Args:
        is_forced: kill it if it does not end in time.

    Raises:
        TimeoutError: it has not ended in time.
    """
    state = _published(files)
    if state is None:
        return None
    settings = get_settings()
    seconds = settings.shutdown_timeout + settings.cancel_grace + LAST_SECONDS

    def is_over() -> bool:
        return not files.is_locked() and has_ended(state.pid, state.started)

    _signal(state, signal.SIGTERM)
    if _wait(is_over, seconds):
        return state
    if is_forced and sys.platform != "win32":
        _signal(state, signal.SIGKILL)
        if _wait(is_over, LAST_SECONDS):
            return state
    raise TimeoutError(
        f"The daemon (process {state.pid}) has not ended within {seconds:g} s. "
        "`apflow daemon stop --force` kills it; its trees stay requested."
    )


def _spawn(files: DaemonFiles, modules: Sequence[str], wait_lock: float) -> subprocess.Popen[bytes]:
    imports = [argument for each in modules for argument in ("--import", each)]
    wait = ["--wait-lock", str(wait_lock)] if wait_lock else []
    log = open_log(files.log)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "apflow.cli", "daemon", "run", *imports, *wait],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)


def _published(files: DaemonFiles) -> DaemonState | None:
    """Return the daemon that lives, after waiting for one that has just been started to say so."""
    state = files.read()
    if state is None and files.is_locked():
        _wait(lambda: files.read() is not None or not files.is_locked(), START_SECONDS)
        state = files.read()
    return state


def _signal(state: DaemonState, number: signal.Signals) -> None:
    if not has_ended(state.pid, state.started):
        os.kill(state.pid, number)


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(INTERVAL_SECONDS)
    return True


def _why(files: DaemonFiles, offset: int, what: str) -> str:
    size = max(0, files.log.stat().st_size - offset) if files.log.exists() else 0
    said = "\n".join(last_lines(files.log, SHOWN_LINES, size)) or "(nothing)"
    return f"The daemon {what}. Its log, {files.log}, says:\n{said}"
