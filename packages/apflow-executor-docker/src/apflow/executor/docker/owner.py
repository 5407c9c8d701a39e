"""Whose a container is: the labels that tell which process, as `apflow.core.process.identity` knows them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass

from apflow.core.process.identity import has_ended, host, started

HOST, PID, STARTED = "apflow.host", "apflow.pid", "apflow.started"
RUN, TASK, KEEP = "apflow.run", "apflow.task", "apflow.keep"

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
    return Owner(host(), pid, started(pid) or "")


def is_left(labels: Mapping[str, str], state: str, here: Owner, active: Set[str]) -> bool:
    """Return whether a process of this host has left the container behind.

    Args:
        active: the current runs of this process.
    """
    if labels.get(HOST) != here.host or RUN not in labels:
        return False
    if KEEP in labels and state in ENDED:
        return False
    pid, when = labels.get(PID, ""), labels.get(STARTED, "")
    if (pid, when) == (str(here.pid), here.started):
        return labels[RUN] not in active
    return pid.isascii() and pid.isdigit() and has_ended(int(pid), when)
