"""Whose a container is: the labels that tell, and whether that process still runs.

A process is known by its host, its number and the moment of its start, so that neither another machine with
the same engine nor a later process with the same number is taken for it. A host is a boot of a machine and
the space of process numbers in it: no process of an earlier boot, or of another container, is ever judged.

Without `/proc` (macOS, BSD) the moment of start cannot be seen: a process then counts as ended when nothing
has its number. On Windows none is judged.
"""

from __future__ import annotations

import os
import platform
import sys
import uuid
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOST, PID, STARTED = "apflow.host", "apflow.pid", "apflow.started"
RUN, TASK, KEEP = "apflow.run", "apflow.task", "apflow.keep"

PROC = Path("/proc")
# A container that has ended is in one of these.
ENDED = frozenset({"exited", "dead"})


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that runs containers."""

    host: str
    pid: int
    started: str  # empty where that cannot be seen

    def labels(self, run: str, task_id: str | None, *, is_kept: bool) -> dict[str, str]:
        """Return the labels of a container of this process."""
        labels = {HOST: self.host, PID: str(self.pid), STARTED: self.started, RUN: run}
        return labels | ({TASK: task_id} if task_id else {}) | ({KEEP: "true"} if is_kept else {})


def this_process() -> Owner:
    """Return who this process is."""
    pid = os.getpid()
    return Owner(_host(), pid, _started(pid) or "")


def is_left(labels: Mapping[str, str], state: str, here: Owner, active: Set[str]) -> bool:
    """Say whether a container was left behind, and by a process of this host.

    Args:
        active: the runs of this process that go on.
    """
    if labels.get(HOST) != here.host or RUN not in labels:
        return False
    if KEEP in labels and state in ENDED:
        return False
    pid, started = labels.get(PID, ""), labels.get(STARTED, "")
    if (pid, started) == (str(here.pid), here.started):
        return labels[RUN] not in active
    return pid.isascii() and pid.isdigit() and has_ended(int(pid), started)


def has_ended(pid: int, started: str) -> bool:
    """Say whether the process that had this number then has ended. What cannot be known is no."""
    if sys.platform == "win32" or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's
        pass
    now = _started(pid)
    return now is not None and bool(started) and now != started


def _host() -> str:
    boot, space = f"{uuid.getnode():x}", "0"
    with suppress(OSError):
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        space = str((PROC / "self/ns/pid").stat().st_ino)
    return f"{platform.node()}/{boot}/{space}"


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot, or "ended"; None where that cannot be seen."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if fields[0] in "ZX" else fields[19]
