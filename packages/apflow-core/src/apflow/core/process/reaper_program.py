"""The helper of `reaper.py`: a program that ends what a dead process has left.

It reads lines until its input closes: `+ NUMBER PIPE...` names a program by the pipes of its output,
`= NUMBER GROUP` its process group, and `- NUMBER` takes it back. It imports only what starts in
milliseconds, and nothing of apflow.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

TERMINATE_SECONDS = 2.0  # between the request to end and the kill
KILL_SECONDS = 1.0  # in which what starts others meanwhile is killed again
INTERVAL = 0.05


def main() -> None:
    """Wait for the end of the process at the other end of the input, and end what it has left."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    pipes: dict[str, set[str]] = {}
    groups: dict[str, int] = {}
    for line in sys.stdin:
        kind, number, *rest = line.split()
        if kind == "+":
            pipes[number] = {f"pipe:[{each}]" for each in rest}
        elif kind == "=":
            groups[number] = int(rest[0])
        else:
            pipes.pop(number, None)
            groups.pop(number, None)
    if pipes:
        end({each for some in pipes.values() for each in some}, set(groups.values()), int(sys.argv[1]))


def end(pipes: set[str], groups: set[int], session: int) -> None:
    """End groups, and whatever holds one of the pipes: ask it to end, then kill it.

    Args:
        session: that of the dead process. A group there may hold others than its programs.
    """
    for number, seconds in ((signal.SIGTERM, TERMINATE_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        deadline = time.monotonic() + seconds
        asked: set[int] = set()
        while True:
            left = {each for each in groups if members(each)}
            left_alone = holders(pipes)
            if not left and not left_alone:
                return
            for pid in left_alone:
                left |= own_group(pid, session)
            for each in {-group for group in left} | left_alone:
                if number == signal.SIGKILL or each not in asked:
                    with suppress(OSError):
                        os.kill(each, number)
            asked |= {-group for group in left} | left_alone
            if time.monotonic() >= deadline:
                break
            time.sleep(INTERVAL)


def members(group: int) -> int:
    """Return how many processes of a group run; where the system does not show them, 1 or 0."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return 0
    except OSError:
        return 1
    try:
        names = os.listdir("/proc")  # noqa: PTH208  pathlib takes longer
    except OSError:
        return 1
    return sum(is_member(name, group) for name in names if name.isdigit())


def is_member(name: str, group: int) -> bool:
    """Return whether a process is in a group and runs: one that was not waited for does not."""
    try:
        with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123  pathlib takes longer to import
            state, _, found = file.read().rpartition(b")")[2].split()[:3]
    except (OSError, ValueError):
        return False
    return int(found) == group and state not in b"ZX"


def holders(pipes: set[str]) -> set[int]:
    """Return the processes whose output goes to one of the pipes, where the system shows that."""
    found: set[int] = set()
    with suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit() and int(name) != os.getpid() and holds(name, pipes):
                found.add(int(name))
    return found


def holds(name: str, pipes: set[str]) -> bool:
    """Return whether a process writes to one of the pipes."""
    for descriptor in ("1", "2"):
        with suppress(OSError):
            if os.readlink(f"/proc/{name}/fd/{descriptor}") in pipes:  # noqa: PTH115
                return True
    return False


def own_group(pid: int, session: int) -> set[int]:
    """Return the group of a process, if it has a session other than `session`."""
    with suppress(OSError):
        if os.getsid(pid) != session:
            return {os.getpgid(pid)}
    return set()


if __name__ == "__main__":
    main()
