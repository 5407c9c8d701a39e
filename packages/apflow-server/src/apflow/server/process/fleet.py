"""Several processes that serve at one socket.

Each is a separate server, on a shared store. A process that dies is replaced; a process that
cannot start ends all of them.

Each process holds the reading end of a pipe whose writing end only the parent has open. The pipe closes when
the parent dies, however it dies, and then the process drains. `PR_SET_PDEATHSIG` would do so on Linux only.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Final

from apflow.server.process.lifecycle import HANGUP, SIGNALS, heeds_hangup

logger = logging.getLogger(__name__)

STARTED: Final = 5.0  # seconds after which a process counts as started
PAUSE: Final = 0.2  # seconds between two looks
# Requests of one client reach different processes.
SHARED: Final = {"APFLOW_MCP_SESSIONS": "false"}


class Fleet:
    """Starts processes at one bound socket, and keeps up their number until a signal comes."""

    def __init__(self, size: int, bound: socket.socket) -> None:
        self._size, self._bound = size, bound
        self._members: dict[subprocess.Popen[bytes], float] = {}  # each with when it was started
        self._is_ending = threading.Event()
        self._life, self._own_end = os.pipe()  # closes with this process

    def run(self) -> int:
        """Run until a signal comes, and until then the processes; return the exit code."""
        for each in SIGNALS:
            signal.signal(each, self._forward)
        if HANGUP is not None and heeds_hangup():
            signal.signal(HANGUP, self._forward)
        code = 0
        while not self._is_ending.is_set() and not code:
            code = self._look()
            self._is_ending.wait(PAUSE)
        if code:
            self._send(signal.SIGTERM)
        codes = [member.wait() for member in self._members]
        return code or max((each for each in codes if each > 0), default=0)  # below 0: ended by our signal

    def _look(self) -> int:
        """Replace what has died; return the exit code of what could not start."""
        for member, started in list(self._members.items()):
            ended = member.poll()
            if ended is None:
                continue
            del self._members[member]
            logger.warning("Process %d ended with %d.", member.pid, ended)
            if ended > 0 and time.monotonic() - started < STARTED:
                return ended
        while len(self._members) < self._size and not self._is_ending.is_set():
            self._start()
        return 0

    def _start(self) -> None:
        number = self._bound.fileno()
        options = ["--fd", str(number), "--parent", str(self._life)]
        command = [sys.executable, "-m", "apflow.server", *options]
        member = subprocess.Popen(
            command, pass_fds=[number, self._life], start_new_session=True, env=os.environ | SHARED
        )
        self._members[member] = time.monotonic()

    def _forward(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signals give it
        self._is_ending.set()
        if HANGUP is not None and heeds_hangup():
            signal.signal(HANGUP, signal.SIG_IGN)  # a terminal that closes may send it several times
        self._send(number if number == HANGUP else signal.SIGTERM)  # a second SIGTERM ends each at once

    def _send(self, number: int) -> None:
        for member in self._members:
            if member.poll() is None:
                member.send_signal(number)


def drain_with_parent(descriptor: int) -> None:
    """Drain this process when a pipe closes, because the process at its other end has died."""
    os.set_inheritable(descriptor, False)

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        drain_without_parent()

    threading.Thread(target=wait, name="apflow:server:parent", daemon=True).start()


def drain_without_parent() -> None:
    """Drain this process, whose parent has died."""
    logger.warning("The process that started this server has died: this one drains and ends.")
    os.kill(os.getpid(), signal.SIGTERM)
