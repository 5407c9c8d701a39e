"""Ending the programs of a process that dies, however it dies.

A program in a separate process group outlives a parent that is killed. So a process that starts programs
also starts one small helper (`reaper_program.py`), which waits at a pipe. The other end of the pipe is open
in this process alone: when it closes, the helper ends every program that this process has named and not
taken back.

A program is named before it is started, by the pipes that its output goes to. There is no moment at which it
runs and the helper does not know it, and programs that have left their group are found by the same pipes.
`PR_SET_PDEATHSIG` has neither property: it needs code between fork and exec, which is unsafe in a process
with threads, it dies with the thread that starts the program, and it spares the program's children.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

logger = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("reaper_program.py")
EXIT_SECONDS = 4.0  # for the helper to end what is left, when this process exits


@dataclass(eq=False)
class Watched:
    """One program that does not outlive this process."""

    _reaper: Reaper
    _number: int
    _outputs: list[int]  # numbers of the pipes
    _group: int | None = None

    def started(self, group: int) -> None:
        """Name the process group that the program leads."""
        self._group = group
        self._reaper.update(self, f"= {self._number} {group}")

    def ended(self) -> None:
        """Unregister the program: it has ended, or may continue. Can be called repeatedly."""
        self._reaper.forget(self, f"- {self._number}")

    def lines(self) -> list[str]:
        """Return the lines that register this program with a helper."""
        named = [f"+ {self._number} {' '.join(map(str, self._outputs))}"]
        return named if self._group is None else [*named, f"= {self._number} {self._group}"]


@dataclass(eq=False)
class Reaper:
    """The helper of this process, started with the first program. May be used from any thread."""

    _lock: threading.RLock = field(default_factory=threading.RLock)
    _numbers: count[int] = field(default_factory=count)
    _watched: set[Watched] = field(default_factory=set[Watched])
    _helper: subprocess.Popen[bytes] | None = None
    _pipe: int = -1

    def watch(self, outputs: Iterable[int]) -> Watched:
        """Watch a program that is about to be started.

        Args:
            outputs: descriptors of the pipes that its output goes to.
        """
        pipes = [os.fstat(each).st_ino for each in outputs]
        with self._lock:
            watched = Watched(self, next(self._numbers), pipes)
            self._watched.add(watched)
            self._send(*watched.lines())
            return watched

    def update(self, watched: Watched, line: str) -> None:
        """Send the helper another line about a program."""
        with self._lock:
            if watched in self._watched:
                self._send(line)

    def forget(self, watched: Watched, line: str) -> None:
        """Unregister a program from the helper."""
        with self._lock:
            if watched in self._watched:
                self._watched.remove(watched)
                self._send(line)

    def close(self) -> None:
        """End the helper; it ends what is watched still."""
        with self._lock:
            self._leave()
            helper, self._helper = self._helper, None
        if helper is not None:
            try:
                helper.wait(EXIT_SECONDS)
            except subprocess.TimeoutExpired:
                helper.returncode = 0  # it continues without this process

    def after_fork(self) -> None:
        """Leave the helper to the parent: a forked child starts another helper for its programs."""
        self._lock = threading.RLock()
        self._leave()
        if self._helper is not None:
            self._helper.returncode = 0  # it is not a child of this process
        self._helper = None
        self._watched = set()

    def _send(self, *lines: str) -> None:
        if os.name != "posix":
            return
        try:
            if self._helper is not None:
                self._write(lines)
                return
        except OSError as error:  # it was killed, or takes nothing any more
            logger.warning("The helper that ends left programs is replaced: %s", error)
            self._drop_helper()
        try:
            self._start()
            self._write([line for each in self._watched for line in each.lines()])
        except OSError as error:
            self._drop_helper()
            logger.warning("Programs may outlive this process, because no helper starts: %s", error)

    def _drop_helper(self) -> None:
        self._leave()
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.kill()
            helper.wait()

    def _write(self, lines: Iterable[str]) -> None:
        for line in lines:  # each is shorter than what a pipe takes as a whole
            os.write(self._pipe, f"{line}\n".encode())

    def _start(self) -> None:
        end, self._pipe = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            self._helper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PROGRAM), str(os.getsid(0))],
                stdin=end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # a signal to this process's group is not meant for it
            )
        finally:
            os.close(end)

    def _leave(self) -> None:
        if self._pipe != -1:
            os.close(self._pipe)
            self._pipe = -1


reaper = Reaper()
atexit.register(reaper.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reaper.after_fork)
